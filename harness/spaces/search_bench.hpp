// Strategies compared on recorded spaces: many seeds, many threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "harness/store/lessons.hpp"
#include "search/score.hpp"

namespace phitune {

struct SearchBenchOptions {
  std::vector<std::string> strategies;
  std::size_t seeds = 20;
  std::uint64_t first_seed = 1;
  std::size_t threads = 0;  // 0: one per hardware thread
  std::size_t batch = 16;   // most configs asked for at once
  Thinking thinking = Thinking::counted;
  WorthIt worth_it = {};                                  // of the runs that end by it
  std::function<Prior(const RecordedSpace&)> prior = {};  // what is known of a space beforehand; called by several threads
};

struct SpaceComparison {
  std::string name;
  std::size_t configs = 0;
  SpaceFacts facts;
  Budget budget;
  bool has_costs = true;
  std::size_t untried = 0;         // configs of the whole space that were not recorded
  std::vector<double> moments;     // ms since the start
  std::vector<double> random;      // mean best-so-far time of simulated random search at each moment
  std::vector<SpaceScore> scores;  // in the order of the strategies
};

/// Spaces without a right config or with nothing to find (everything within the target of the budget) are left out. But for CPU times, and
/// for scores where those count, the result does not depend on the number of threads. Once `stop` is true it throws Error(interrupted).
/// Throws what make_strategy throws.
[[nodiscard]] std::vector<SpaceComparison> compare_strategies(const std::vector<RecordedSpace>& spaces, const SearchBenchOptions& options,
                                                              const std::atomic<bool>& stop);

/// What `known` teaches about a space of a recording: experience.hpp, of all its trials but those of the space's own problem on its own
/// device. Nothing for spaces of other tuners.
[[nodiscard]] Prior prior_from(const std::vector<std::shared_ptr<const Lessons>>& known, const RecordedSpace& space);

}  // namespace phitune
