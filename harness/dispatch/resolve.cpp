#include "harness/dispatch/resolve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "harness/dispatch/builtin_plan.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

// The tuned config where this problem's space still has it, else the middle one. Throws when there is no config at all.
PlanStage carry_over(const StageProblem& stage, const Config& config, const DeviceInfo& device, std::vector<std::string>& notes) {
  if (stage.path == Path::library) return {stage, config};
  const Space space = stage_template(stage.stage, stage.path).space(stage, device);
  const auto refusal = space.why_not(config);
  if (!refusal) return {stage, config};
  const Config other = middle_config(space);
  notes.push_back(
      fmt::format("{} cannot run with the tuned config here ({}) and runs with {}", to_string(stage.stage), *refusal, other.text()));
  return {stage, other};
}

Resolved adapt(const Selection& selection, const DeviceInfo& device) {
  const Plan& tuned = selection.tuned->plan;
  Resolved resolved{{selection.problem, tuned.shape, {}}, {}, false};
  const std::vector<StageProblem> stages = stages_of(selection.problem, tuned.shape);
  for (const StageProblem& stage : stages) {
    const auto like = std::find_if(tuned.stages.begin(), tuned.stages.end(), [&](const PlanStage& other) {
      return other.problem.stage == stage.stage && other.problem.path == stage.path;
    });
    if (like == tuned.stages.end()) throw std::out_of_range(fmt::format("the tuned plan has no {}", to_string(stage.stage)));
    resolved.plan.stages.push_back(carry_over(stage, like->config, device, resolved.notes));
  }
  return resolved;
}

}  // namespace

Resolved resolve(const Selection& selection, const DeviceInfo& device) {
  if (selection.tuned == nullptr) return {builtin_plan(selection.problem, device), {}, true};
  if (selection.problem == selection.tuned->plan.problem && !selection.tuned->stale && selection.tuned->same_device) {
    return {selection.tuned->plan, {}, false};
  }
  try {
    return adapt(selection, device);
  } catch (const std::exception& error) {
    return {builtin_plan(selection.problem, device),
            {fmt::format("the tuned plan cannot be made here ({}); the built-in plan runs in its place", error.what())},
            true};
  }
}

}  // namespace phitune
