// The last round of a problem: the best composed plans are run end to end, and the fastest verified one wins.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "harness/device/device.hpp"
#include "harness/measure/statistics.hpp"
#include "harness/store/store.hpp"
#include "harness/tune/evaluator.hpp"
#include "search/compose.hpp"

namespace phitune {

/// So many plans that differ from a leading one in one stage's config, and by no more than a tie in the sum of their stages' times, stand beside
/// the finalists.
inline constexpr std::size_t kMostRivals = 6;

/// Runs the finalists in paired rounds, nothing else competing for the machine, and stores each as a plan trial with its binaries and its
/// standing; in the order of `finalists`. When the sweep has all of them already (it was resumed), they are answered from the store.
[[nodiscard]] std::vector<StoredPlanTrial> run_finals(const Problem& problem, const std::vector<Composition>& finalists,
                                                      Evaluator& evaluator, Device& device, Store& store, std::int64_t sweep,
                                                      const MeasurePolicy& policy);

/// Sets the standing of every trial that was right and timed. The fastest is the one with the least median; another is tied with it unless
/// the 95 % interval of its paired differences says that it is slower by more than `tie_share`. (Who left the rounds early has pairs for the
/// rounds that it was in.) Where a recording lacks the samples the medians alone decide.
void set_standings(std::span<PlanTrial> trials, double tie_share = kTieShare);

/// The winner among the tied, by rule: the incumbent, else the lower error, then fewer registers, then fewer stages, then the text. So two
/// sweeps that find the same set crown the same plan. Null when none was right and timed. Trials must have their standing.
[[nodiscard]] const StoredPlanTrial* winner_of(const std::vector<StoredPlanTrial>& finals, const Plan* incumbent = nullptr);

}  // namespace phitune
