// A forest of extremely randomised trees learns how good configs are. It picks among neighbours of the best and a sample of the whole space
// those that its trees find good, and those on which they disagree.
#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "search/strategies/extra_trees.hpp"
#include "search/strategies/moves.hpp"
#include "search/strategies/searcher.hpp"
#include "search/strategies/strategies.hpp"

namespace phitune {
namespace {

// Chosen by replay on the four public spaces of data/tuning_spaces and on phitune's own of an H200.
constexpr std::size_t start = 6;            // random configs before anything is learned
constexpr std::size_t batch = 3;            // most configs picked from one forest ...
constexpr std::size_t told_per_pick = 10;   // ... and no more than one for so many told: early on every trial teaches much
constexpr std::size_t elite = 8;            // best configs whose neighbours are candidates
constexpr std::size_t global_sample = 500;  // candidates drawn from everywhere
constexpr double good_share = 0.2;          // the part of what was told whose places count: the best ...
constexpr std::size_t least_good = 12;      // ... and at least so many, so that early on all places count
constexpr double exploration = 0.5;         // how much disagreement between trees, their standard deviation, adds to a candidate's rating

class ForestSearch : public BatchSearcher {
 public:
  ForestSearch(const Space& space, std::uint64_t seed) : BatchSearcher(space, seed), knobs_(space.knobs().size()) {
    std::vector<std::size_t> sizes;
    for (std::size_t k = 0; k < knobs_; ++k) {
      const Knob& knob = space.knobs()[k];
      categorical_.push_back(knob.categorical);
      if (!knob.categorical && knob.values.size() > 1 && std::ranges::min(knob.values) > 0) sizes.push_back(k);
    }
    for (std::size_t i = 0; i < sizes.size(); ++i)
      for (std::size_t j = i + 1; j < sizes.size(); ++j) products_.emplace_back(sizes[i], sizes[j]);
    categorical_.resize(knobs_ + products_.size(), false);
    samples_.features = categorical_.size();
  }

 protected:
  std::optional<std::size_t> propose() override {
    if (told() + in_flight() < start) return random_fresh();
    if (told() < start) return std::nullopt;
    return BatchSearcher::propose();
  }

  void learn(std::size_t index, double time) override {
    const std::size_t row = told_.size();
    told_.push_back({index, time});
    describe(index, samples_.values);
    const auto place = std::ranges::upper_bound(by_time_, time, {}, [this](std::size_t other) { return told_[other].time; });
    by_time_.insert(place, row);
  }

 private:
  struct Told {
    std::size_t index;
    double time;
  };

  // A config's features: its positions, and of every two sizes their product by logarithm, because threads, tiles and bytes are products.
  void describe(std::size_t index, std::vector<std::uint16_t>& rows) const {
    const std::size_t at = rows.size();
    rows.resize(at + samples_.features);
    const auto row = std::span(rows).subspan(at);
    space().positions(index, row.first(knobs_));
    for (std::size_t p = 0; p < products_.size(); ++p) {
      const auto [a, b] = products_[p];
      const double product =
          static_cast<double>(space().knobs()[a].values[row[a]]) * static_cast<double>(space().knobs()[b].values[row[b]]);
      row[knobs_ + p] = static_cast<std::uint16_t>(std::lround(256 * std::log2(product)));
    }
  }

  void pick() override {
    label();
    // Every second tree sees the knobs alone: products help late in a search and hide simpler rules early.
    // Places differ in all of the good part, so without a bound that grows with the search its trees would grow to a leaf for every config.
    forest_.grow(samples_, categorical_, knobs_, std::max<std::size_t>(2, told_.size() / 50), rng_);
    std::vector<std::pair<double, std::size_t>> rated;
    std::vector<std::uint16_t> row;
    for (const std::size_t candidate : candidates()) {
      row.clear();
      describe(candidate, row);
      // The draw decides between equals, of which a forest of few trees has many.
      rated.emplace_back(rating(row) + 1e-6 * draw_share(rng_), candidate);
    }
    const std::size_t picks = std::clamp<std::size_t>(told_.size() / told_per_pick, 1, batch);
    const auto taken = static_cast<std::ptrdiff_t>(std::min(picks, rated.size()));
    std::partial_sort(rated.begin(), rated.begin() + taken, rated.end(), std::greater());
    for (auto one = rated.begin(); one != rated.begin() + taken; ++one) picked_.push_back(one->second);
  }

  // The best config has goodness 1, and with every place it falls by the same step until the good part ends; all others, and those that
  // failed, have none. So trees tell good from bad, and better from good where there is little to learn from.
  void label() {
    const auto good = std::max(least_good, static_cast<std::size_t>(std::lround(good_share * static_cast<double>(told_.size()))));
    samples_.goodness.assign(told_.size(), 0);
    for (std::size_t i = 0; i < std::min(good, by_time_.size()) && told_[by_time_[i]].time < failed; ++i)
      samples_.goodness[by_time_[i]] = 1 - static_cast<float>(i) / static_cast<float>(good);
  }

  std::vector<std::size_t> candidates() {
    std::vector<std::size_t> found;
    std::unordered_set<std::size_t> seen;
    const auto add = [&](std::size_t index) {
      if (fresh(index) && seen.insert(index).second) found.push_back(index);
    };
    for (std::size_t i = 0; i < std::min(elite, by_time_.size()) && told_[by_time_[i]].time < failed; ++i) {
      for (const std::size_t neighbour : space().neighbours(told_[by_time_[i]].index)) add(neighbour);
      for (const std::size_t neighbour : space().adjacent(told_[by_time_[i]].index)) add(neighbour);
    }
    for (std::size_t i = 0; i < global_sample; ++i) add(draw_below(space().size(), rng_));
    return found;
  }

  [[nodiscard]] double rating(const std::vector<std::uint16_t>& row) const {
    const Forest::Opinion opinion = forest_.opinion(row.data());
    return opinion.mean + exploration * opinion.deviation;
  }

  std::size_t knobs_;
  std::vector<std::pair<std::size_t, std::size_t>> products_;  // ordered knobs of positive values, two and two
  std::vector<bool> categorical_;                              // per feature
  Samples samples_;                                            // a row per config told
  std::vector<Told> told_;                                     // a row each
  std::vector<std::size_t> by_time_;                           // rows, the fastest first and failures last
  Forest forest_;
};

}  // namespace

std::unique_ptr<Strategy> make_forest(const Space& space, std::uint64_t seed) { return std::make_unique<ForestSearch>(space, seed); }

}  // namespace phitune
