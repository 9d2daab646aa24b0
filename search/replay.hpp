// Strategies run on recorded spaces, and how well they did.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "search/recorded_space.hpp"
#include "search/strategy.hpp"

namespace phitune {

/// How long a strategy may search a recorded space. `evaluations` is what random search is expected to need, by its mean, to come within 5
/// % of the way from the optimum to the median: with `worse` of N configs beyond that target it is worse / (N + 1 - worse), rounded up, at
/// least 1. `ms` is that many trials of median cost. (Willemsen, Schoonhoven, Filipovic, Tollenaere, Heldens, van Werkhoven, "A methodology
/// for comparing optimization algorithms for auto-tuning", Future Generation Computer Systems 159, 2024.) A config that failed is worse.
struct Budget {
  std::size_t evaluations = 0;
  double ms = 0;
};
/// Throws std::invalid_argument when no config of the space was right.
[[nodiscard]] Budget budget_of(const RecordedSpace& space);

/// A moment at which a replay had found something better than before.
struct Improvement {
  double at_ms = 0;        // since the start, trials' recorded cost and the strategy's own thinking together
  std::size_t trials = 0;  // until then, failures too
  double best_ms = 0;
};

struct Replay {
  std::vector<Improvement> improvements;
  std::size_t trials = 0;  // told before the budget ended
  std::size_t asks = 0;
  double thinking_ms = 0;  // CPU time in ask and tell

  /// Best time found by `at_ms`; `otherwise` before the first.
  [[nodiscard]] double best_at(double at_ms, double otherwise) const;
};

/// When a replay ends, whichever comes first.
struct ReplayLimits {
  double ms = std::numeric_limits<double>::infinity();               // before the first trial that would end later
  std::size_t trials = std::numeric_limits<std::size_t>::max();      // after so many
  double good_enough_ms = -std::numeric_limits<double>::infinity();  // once a time as good as this was found
  WorthIt worth_it = {.chance = 0};                                  // once more is not
};

/// Whether the CPU time that the strategy itself takes counts as elapsed. Without it a replay is the same on every machine.
enum class Thinking { counted, free };

/// Asks, answers from the recording and tells, until a limit is reached or the strategy is done. At most `batch` configs are asked for at
/// once.
[[nodiscard]] Replay replay(const RecordedSpace& space, Strategy& strategy, const ReplayLimits& limits, Thinking thinking,
                            std::size_t batch = 16);

}  // namespace phitune
