// Starts from what is expected of every config and learns how far off that is: a forest of regression trees over the knobs predicts by how
// much a config's time differs from its expectation. What is tried next has the least time by both together, less what the trees disagree
// about.
#include <algorithm>
#include <cmath>
#include <deque>
#include <unordered_map>
#include <unordered_set>

#include "search/strategies/extra_trees.hpp"
#include "search/strategies/moves.hpp"
#include "search/strategies/searcher.hpp"
#include "search/strategies/strategies.hpp"

namespace phitune {
namespace {

constexpr std::size_t batch = 3;      // configs picked at once
constexpr std::size_t elite = 8;      // best configs whose neighbours are candidates
constexpr std::size_t listed = 1000;  // spaces of up to so many configs: all of them are candidates ...
constexpr std::size_t global_sample = 500, outset_sample = 4096,
                      promising = 200;  // ... of larger ones a sample, and the most promising of the outset's
constexpr double exploration = 0.5;     // how much of the trees' disagreement, their standard deviation, is taken off a candidate's time
constexpr double trusted = 2;           // trials by which half of what was learned is believed
constexpr double most_off = 1;          // logarithm of time over expectation beyond which all is the same
constexpr double failure_cost = 0.5;     // logarithm of how much slower a config counts that is sure to fail
constexpr double nearness = 4;          // how many configs one knob further away weigh as much as one config
constexpr std::size_t remembered = 400; // latest configs by which failures are foreseen

// How wrong the strategy is, by its latest guesses.
constexpr std::size_t least_surprises = 6, most_surprises = 24;
constexpr double least_wrong = 0.005;  // times scatter that much

double normal_share(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

class Informed : public BatchSearcher {
 public:
  Informed(const Space& space, std::uint64_t seed, Prior prior) : BatchSearcher(space, seed), prior_(std::move(prior)) {
    for (const Knob& knob : space.knobs()) categorical_.push_back(knob.categorical);
    samples_.features = categorical_.size();
  }

 protected:
  std::optional<double> chance_of_gain(double share, std::size_t trials) override {
    if (surprises_.size() < least_surprises || by_time_.front().time >= failed) return std::nullopt;
    double squares = 0;
    for (const double surprise : surprises_) squares += surprise * surprise / static_cast<double>(surprises_.size());
    const double wrong = std::max(least_wrong, std::sqrt(squares));
    relearn();
    const double target = std::log(by_time_.front().time * (1 - share)) - level_;
    std::vector<double> chances;
    for (const std::size_t candidate : candidates()) {
      const Forest::Opinion opinion = opinion_of(candidate);
      const double unsure = std::hypot(wrong, 2 * most_off * opinion.deviation);
      const double right = 1 - failure_chance(positions_of(space(), candidate));
      chances.push_back(right * normal_share((target - expected(candidate) - correction(opinion)) / unsure));
    }
    const auto next = static_cast<std::ptrdiff_t>(std::min(trials, chances.size()));
    std::partial_sort(chances.begin(), chances.begin() + next, chances.end(), std::greater());
    double none = 1;
    for (auto chance = chances.begin(); chance != chances.begin() + next; ++chance) none *= 1 - *chance;
    return 1 - none;
  }

  void learn(std::size_t index, double time) override {
    if (const auto guess = guesses_.find(index); guess != guesses_.end() && time < failed) {
      surprises_.push_back(std::log(time) - guess->second);
      if (surprises_.size() > most_surprises) surprises_.pop_front();
    }
    by_time_.insert(std::ranges::upper_bound(by_time_, time, {}, &Told::time), {index, time});
    const Positions positions = positions_of(space(), index);
    if (time < failed) {
      rows_.push_back({index, time});
      samples_.values.insert(samples_.values.end(), positions.begin(), positions.end());
    }
    (time < failed ? right_ : failed_).push_back(positions);
  }

 private:
  struct Told {
    std::size_t index;
    double time;
  };

  double expected(std::size_t index) {
    if (!prior_) return 0;
    const auto [place, is_new] = expected_.try_emplace(index, 0);
    if (is_new) place->second = prior_(index);
    return place->second;
  }

  void pick() override {
    relearn();
    std::vector<std::pair<double, std::size_t>> rated;
    // The draw decides between equals.
    for (const std::size_t candidate : candidates()) rated.emplace_back(rating(candidate) + 1e-9 * draw_share(rng_), candidate);
    const auto taken = static_cast<std::ptrdiff_t>(std::min(batch, rated.size()));
    std::partial_sort(rated.begin(), rated.begin() + taken, rated.end());
    for (auto one = rated.begin(); one != rated.begin() + taken; ++one) {
      picked_.push_back(one->second);
      if (!rows_.empty()) guesses_[one->second] = predicted(one->second) + level_;
    }
    if (told() == 0 && space().size() > listed) remember_promising(std::move(rated));
  }

  void relearn() {
    if (rows_.empty() || learned_from_ == rows_.size()) return;
    label();
    // Differences are never all alike, so without a bound that grows with the search its trees would grow to a leaf for every config.
    forest_.grow(samples_, categorical_, 0, std::max<std::size_t>(2, rows_.size() / 50), rng_);
    learned_from_ = rows_.size();
  }

  // Where the time of each config that was right lies in relation to what was expected, all of them together right on average: 0 much faster,
  // 1 much slower.
  void label() {
    double sum = 0;
    for (const Told& told : rows_) sum += std::log(told.time) - expected(told.index);
    level_ = sum / static_cast<double>(rows_.size());
    samples_.goodness.clear();
    for (const Told& told : rows_) {
      const double off = std::log(told.time) - expected(told.index) - level_;
      samples_.goodness.push_back(static_cast<float>(std::clamp(0.5 + off / (2 * most_off), 0.0, 1.0)));
    }
  }

  // How likely a config is to fail: by the nearest that failed and the nearest that was right, in knobs that differ. (What fails says nothing
  // of the time of configs that share a knob with it: trees that take it for slow condemn whole halves of a space for one failure.)
  [[nodiscard]] double failure_chance(const Positions& at) const {
    if (failed_.empty()) return 0;
    const auto weight_of = [&at](const std::deque<Positions>& others) {
      std::size_t nearest = at.size() + 1;
      for (std::size_t i = others.size() - std::min(others.size(), remembered); i < others.size(); ++i) {
        std::size_t differ = 0;
        for (std::size_t k = 0; k < at.size(); ++k) differ += at[k] != others[i][k];
        nearest = std::min(nearest, differ);
      }
      return others.empty() ? 0 : std::pow(nearness, -static_cast<double>(nearest));
    };
    const double fails = weight_of(failed_);
    return fails / (fails + weight_of(right_) + 1 / nearness);
  }

  // Logarithm of a config's time, up to level_.
  double predicted(std::size_t candidate) { return expected(candidate) + correction(opinion_of(candidate)); }
  // Less is better.
  double rating(std::size_t candidate) {
    const double cost = failed_.empty() ? 0 : failure_cost * failure_chance(positions_of(space(), candidate));
    if (rows_.empty()) return expected(candidate) + cost;
    const Forest::Opinion opinion = opinion_of(candidate);
    return expected(candidate) + correction(opinion) + cost - 2 * most_off * exploration * opinion.deviation;
  }
  [[nodiscard]] double correction(const Forest::Opinion& opinion) const {
    const double believed = static_cast<double>(rows_.size()) / (static_cast<double>(rows_.size()) + trusted);
    return 2 * most_off * believed * (opinion.mean - 0.5);
  }
  [[nodiscard]] Forest::Opinion opinion_of(std::size_t candidate) const { return forest_.opinion(positions_of(space(), candidate).data()); }

  std::vector<std::size_t> candidates() {
    std::vector<std::size_t> found;
    std::unordered_set<std::size_t> seen;
    const auto add = [&](std::size_t index) {
      if (fresh(index) && seen.insert(index).second) found.push_back(index);
    };
    if (space().size() <= listed) {
      for (std::size_t i = 0; i < space().size(); ++i) add(i);
      return found;
    }
    for (std::size_t i = 0; i < std::min(elite, by_time_.size()) && by_time_[i].time < failed; ++i) {
      for (const std::size_t neighbour : space().neighbours(by_time_[i].index)) add(neighbour);
      for (const std::size_t neighbour : space().adjacent(by_time_[i].index)) add(neighbour);
    }
    for (const std::size_t index : promising_) add(index);
    for (std::size_t i = 0; i < (told() == 0 ? outset_sample : global_sample); ++i) add(draw_below(space().size(), rng_));
    return found;
  }

  void remember_promising(std::vector<std::pair<double, std::size_t>> rated) {
    std::ranges::sort(rated);
    for (const auto& [rating, index] : rated)
      if (promising_.size() < promising) promising_.push_back(index);
  }

  Prior prior_;
  std::unordered_map<std::size_t, double> expected_;  // by index, of those that were asked for
  std::vector<std::size_t> promising_;
  std::vector<bool> categorical_;  // per knob
  Samples samples_;                // a row of positions per config that was right
  std::vector<Told> rows_, by_time_;
  std::deque<Positions> right_, failed_;
  Forest forest_;
  std::size_t learned_from_ = 0;                     // rows
  double level_ = 0;                                 // logarithm of time over expectation, the mean of what was right
  std::unordered_map<std::size_t, double> guesses_;  // logarithm of the time of what was picked, before it was tried
  std::deque<double> surprises_;                     // how far the latest guesses were off
};

}  // namespace

std::unique_ptr<Strategy> make_informed(const Space& space, std::uint64_t seed, Prior prior) {
  return std::make_unique<Informed>(space, seed, std::move(prior));
}

}  // namespace phitune
