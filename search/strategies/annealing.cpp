// Simulated annealing over neighbours, by the logarithm of the time: worse steps are taken with a probability that falls as trials are
// told.
#include <algorithm>
#include <cmath>

#include "search/strategies/moves.hpp"
#include "search/strategies/searcher.hpp"
#include "search/strategies/strategies.hpp"

namespace phitune {
namespace {

constexpr std::size_t most_in_flight = 4;
constexpr double hottest = 0.3, coldest = 0.003;  // a step that takes e^0.3 times as long is taken one time in e at first
constexpr double cooling = 0.985;                 // per trial told
constexpr int known_steps = 100;                  // on known ground, before a walk counts as stuck
constexpr int most_refused = 40;                  // in a row, before it starts again from the best, warm

class Annealing : public Searcher {
 public:
  using Searcher::Searcher;

 protected:
  std::optional<std::size_t> propose() override {
    if (in_flight() >= most_in_flight) return std::nullopt;
    if (!here_) return in_flight() > 0 ? std::nullopt : random_fresh();
    for (int step = 0; step < known_steps; ++step) {
      const auto next = changed(space(), positions_of(space(), *here_), 1 + draw_below(2, rng_), rng_);
      if (!next) break;
      if (fresh(*next)) return next;
      if (const auto known = time_of(*next)) consider(*next, *known);
    }
    return random_fresh();
  }

  void learn(std::size_t index, double time) override {
    heat_ = std::max(coldest, heat_ * cooling);
    if (time < best_time_) best_ = index, best_time_ = time;
    consider(index, time);
    if (refused_ > most_refused && best_) {
      here_ = best_;
      here_time_ = best_time_;
      heat_ = std::max(heat_, 0.3 * hottest);
      refused_ = 0;
    }
  }

 private:
  void consider(std::size_t index, double time) {
    const bool taken = time < failed && (!here_ || time <= here_time_ || draw_share(rng_) < std::exp(-std::log(time / here_time_) / heat_));
    refused_ = taken ? 0 : refused_ + 1;
    if (taken) here_ = index, here_time_ = time;
  }

  std::optional<std::size_t> here_, best_;
  double here_time_ = failed, best_time_ = failed, heat_ = hottest;
  int refused_ = 0;
};

}  // namespace

std::unique_ptr<Strategy> make_annealing(const Space& space, std::uint64_t seed) { return std::make_unique<Annealing>(space, seed); }

}  // namespace phitune
