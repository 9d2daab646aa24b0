// Differential evolution (Storn and Price, Journal of Global Optimization 11, 1997) over the positions of the knobs' values.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "search/strategies/moves.hpp"
#include "search/strategies/searcher.hpp"
#include "search/strategies/strategies.hpp"

namespace phitune {
namespace {

constexpr std::size_t population_size = 20;
constexpr std::size_t most_in_flight = 8;
constexpr double weight = 0.7, crossover = 0.7;
constexpr int attempts = 20;

class Evolution : public Searcher {
 public:
  using Searcher::Searcher;

 protected:
  std::optional<std::size_t> propose() override {
    if (told() + in_flight() < population_size) return random_fresh();
    if (in_flight() >= most_in_flight) return std::nullopt;
    if (members_.size() < 4) return random_fresh();  // nearly everything failed
    for (int attempt = 0; attempt < attempts; ++attempt) {
      target_ = (target_ + 1) % members_.size();
      const auto trial = in_space(donor(), members_[target_].positions);
      if (!trial || !fresh(*trial)) continue;
      challenges_[*trial] = target_;
      return trial;
    }
    const auto near = changed(space(), members_[target_].positions, 2, rng_);
    if (!near || !fresh(*near)) return random_fresh();
    challenges_[*near] = target_;
    return near;
  }

  void learn(std::size_t index, double time) override {
    const auto challenge = challenges_.find(index);
    if (challenge == challenges_.end()) {
      if (members_.size() < population_size && time < failed) members_.push_back({time, positions_of(space(), index)});
      return;
    }
    Member& target = members_[challenge->second];
    challenges_.erase(challenge);
    if (time < target.time) target = {time, positions_of(space(), index)};
  }

 private:
  struct Member {
    double time;
    Positions positions;
  };

  [[nodiscard]] const Positions& random_member() { return members_[draw_below(members_.size(), rng_)].positions; }

  // base + weight (a - b), with the best or any as base. A categorical knob has no differences: it comes from one of the three.
  Positions donor() {
    const Positions& best = std::ranges::min(members_, {}, &Member::time).positions;
    const Positions &base = draw_below(2, rng_) == 0 ? best : random_member(), &a = random_member(), &b = random_member();
    Positions donor = base;
    for (std::size_t knob = 0; knob < donor.size(); ++knob) {
      const Knob& of = space().knobs()[knob];
      if (of.categorical) {
        if (a[knob] != b[knob]) donor[knob] = draw_below(2, rng_) == 0 ? a[knob] : b[knob];
        continue;
      }
      const double moved = base[knob] + weight * (static_cast<double>(a[knob]) - static_cast<double>(b[knob]));
      donor[knob] = static_cast<std::uint16_t>(std::clamp<long>(std::lround(moved), 0, static_cast<long>(of.values.size()) - 1));
    }
    return donor;
  }

  // Crosses the donor into the target, then gives knobs back to the target, in random order, until the constraints hold.
  std::optional<std::size_t> in_space(const Positions& donor, const Positions& target) {
    Positions trial = target;
    std::vector<std::size_t> taken;
    const std::size_t certain = draw_below(trial.size(), rng_);
    for (std::size_t knob = 0; knob < trial.size(); ++knob) {
      if (donor[knob] == target[knob] || (knob != certain && draw_share(rng_) >= crossover)) continue;
      trial[knob] = donor[knob];
      taken.push_back(knob);
    }
    shuffle_front(taken, taken.size(), rng_);
    auto found = space().find(trial);
    for (; !found && taken.size() > 1; taken.pop_back()) {
      trial[taken.back()] = target[taken.back()];
      found = space().find(trial);
    }
    return found;
  }

  std::vector<Member> members_;
  std::unordered_map<std::size_t, std::size_t> challenges_;  // config in flight -> the member that it may replace
  std::size_t target_ = 0;
};

}  // namespace

std::unique_ptr<Strategy> make_evolution(const Space& space, std::uint64_t seed) { return std::make_unique<Evolution>(space, seed); }

}  // namespace phitune
