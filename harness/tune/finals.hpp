// The last round of a problem: the best composed plans are run end to end, and the fastest verified one wins.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "harness/device/device.hpp"
#include "harness/store/store.hpp"
#include "harness/tune/evaluator.hpp"
#include "search/compose.hpp"

namespace phitune {

/// Runs the finalists interleaved and stores each as a plan trial with its binaries; in the order of `finalists`. When the sweep has all of
/// them already (it was resumed), they are answered from the store.
[[nodiscard]] std::vector<StoredPlanTrial> run_finals(const Problem& problem, const std::vector<Composition>& finalists,
                                                      Evaluator& evaluator, Device& device, Store& store, std::int64_t sweep,
                                                      const MeasurePolicy& policy);

/// The fastest plan whose result was right. Plans within `tie_share` of it are ties: the one with the lower error wins, then with fewer
/// stages, then by text. Null when none was ok.
[[nodiscard]] const StoredPlanTrial* winner_of(const std::vector<StoredPlanTrial>& finals, double tie_share = 0.005);

}  // namespace phitune
