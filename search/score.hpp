// How strategies compare on recorded spaces: the score, and what a user would notice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "search/replay.hpp"

namespace phitune {

/// `points` equally spaced moments of a budget, the last at its end.
[[nodiscard]] std::vector<double> moments_of(const Budget& budget, std::size_t points = 100);

/// Mean best-so-far time of `runs` simulated random searches (without repeats) at each moment. The closed form of the expectation is biased
/// on skewed spaces. Before a run's first right config the space's median stands for it, here and for every strategy.
[[nodiscard]] std::vector<double> random_curve(const RecordedSpace& space, const std::vector<double>& moments, std::size_t runs = 1000,
                                               std::uint64_t seed = 1);

/// When half of the runs had found a config at most `share` slower than the optimum.
struct Reached {
  double share = 0;                   // 0.01: within 1 %
  double runs = 0;                    // part of the runs that did within the budget
  std::optional<std::size_t> trials;  // median over runs, one that never did counting as never; nothing: the median run did not
  std::optional<double> seconds;
};

/// Trials until a config within 1 % of the optimum was found, over the seeds; how long a trial takes plays no part. A run ends after a
/// fifth of the space.
struct ToWinner {
  static constexpr double within = 0.01, budget_share = 0.05, longest_share = 0.2;
  std::size_t budget = 0;             // 5 % of the space's trials, at least 1
  std::optional<std::size_t> trials;  // of the median run; nothing: it did not find one
  double in_budget = 0;               // part of the runs that did within 5 % of the space's trials
  /// Whether the median run did.
  [[nodiscard]] bool reached() const { return trials && *trials <= budget; }
};
[[nodiscard]] ReplayLimits to_winner_limits(const RecordedSpace& space);
/// `runs` were replayed with these limits.
[[nodiscard]] ToWinner to_winner(const RecordedSpace& space, const std::vector<Replay>& runs);

/// What runs that ended once more was not worth it had found by then.
struct Stopped {
  double trials = 0;  // mean
  double left = 0;    // part of the runs that left more than `gain` behind
  double share = 0;   // mean of optimum / best found
};
[[nodiscard]] Stopped stopped(const RecordedSpace& space, const WorthIt& worth_it, const std::vector<Replay>& runs);

/// One strategy on one space, over its seeds.
struct SpaceScore {
  std::vector<double> curve;    // mean best-so-far time at each moment
  double score = 0;             // mean over moments of (random - strategy) / (random - optimum): 0 as random search, 1 the optimum at once
  double worst_seed_share = 0;  // of the optimum, by the unluckiest seed
  double share = 0;             // mean of optimum / best found by the end of the budget
  Reached within_5, within_1;
  ToWinner to_winner;
  Stopped stopped;
  double ms_per_ask = 0;  // CPU time of the strategy itself, its tells included
  double trials = 0;      // mean number in the budget
};

[[nodiscard]] SpaceScore score_of(const RecordedSpace& space, const std::vector<double>& moments, const std::vector<double>& random,
                                  const std::vector<Replay>& runs);

}  // namespace phitune
