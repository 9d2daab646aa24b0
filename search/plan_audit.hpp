// Whether composing plans of the best stages finds the best plan: an exhaustive look at what was recorded of a problem.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "search/trial.hpp"

namespace phitune {

/// Of one problem: every plan shape with every combination of the recorded stage configs, against the whole plans that were run.
struct PlanAudit {
  Problem problem;
  std::size_t shapes = 0;  // of which every stage was right in some config
  double plans = 0;        // all of their combinations
  std::size_t run = 0;     // whole plans that were run end to end and right

  std::string composed;               // shape of the plan with the least sum over all combinations
  std::optional<double> composed_ms;  // run end to end; nothing: it was not
  std::string fastest;                // shape of the fastest of those that were run
  double fastest_ms = 0;
  [[nodiscard]] double composed_over_fastest() const { return composed_ms ? *composed_ms / fastest_ms : 0; }

  // Of whole time over the sum of the stages' own times, over the plans that were run: how nearly times add up.
  double least_ratio = 0, median_ratio = 0, greatest_ratio = 0;
  // Combinations that were not run and would be more than 1 % faster than the fastest, were their ratio the least that was seen.
  // Combinations of one shape differ by configs alone.
  std::size_t rivals = 0, rival_shapes = 0;
};

/// Trials and plan trials of one device and regime. Nothing for a problem of which no whole plan was right and timed.
[[nodiscard]] std::optional<PlanAudit> audit_plans(const Problem& problem, std::span<const Trial> trials,
                                                   std::span<const PlanTrial> plan_trials);

}  // namespace phitune
