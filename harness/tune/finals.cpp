#include "harness/tune/finals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

using ExecutablePlan = Evaluator::ExecutablePlan;

std::vector<std::string> cubins_of(const std::vector<ExecutableStage>& stages) {
  std::vector<std::string> cubins;
  for (const ExecutableStage& stage : stages) cubins.push_back(stage.binary ? stage.binary->cubin_hash : std::string());
  return cubins;
}

// A sweep that was stopped after this round and resumed has its results already. They were stored all together, so it is all or nothing.
std::optional<std::vector<StoredPlanTrial>> stored_before(const Problem& problem, const std::vector<ExecutablePlan>& executables,
                                                          Store& store, std::int64_t sweep) {
  std::map<std::pair<std::vector<std::string>, std::vector<std::string>>, StoredPlanTrial> known;
  const auto name = [](const std::vector<PlanStage>& stages, const std::vector<std::string>& cubins) {
    std::vector<std::string> texts;
    for (const PlanStage& stage : stages) texts.push_back(stage.problem.key() + " " + stage.config.text());
    return std::pair(texts, cubins);
  };
  TrialFilter filter;
  filter.sweep = sweep;
  filter.problem = problem.key();
  store.for_each_plan_trial(filter,
                            [&](const StoredPlanTrial& row) { known.emplace(name(row.trial.plan.stages, row.trial.cubin_hashes), row); });
  std::vector<StoredPlanTrial> found;
  for (const ExecutablePlan& executable : executables) {
    std::vector<PlanStage> stages;
    for (const ExecutableStage& stage : executable.stages) stages.push_back(stage.stage);
    const auto row = known.find(name(stages, cubins_of(executable.stages)));
    if (row == known.end()) return std::nullopt;
    found.push_back(row->second);
  }
  return found;
}

std::optional<Result> quarantined(const Problem& problem, const ExecutablePlan& plan, const Evaluator& evaluator) {
  std::vector<PlanStage> stages;
  for (const ExecutableStage& stage : plan.stages) stages.push_back(stage.stage);
  return evaluator.quarantined(candidate_name(problem, stages), fmt::format("{}", fmt::join(cubins_of(plan.stages), ",")));
}

std::vector<Result> run(const Problem& problem, const std::vector<ExecutablePlan>& executables, const Evaluator& evaluator, Device& device,
                        const MeasurePolicy& policy) {
  std::vector<Result> results(executables.size());
  std::vector<std::vector<ExecutableStage>> runnable;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < executables.size(); ++i) {
    if (!executables[i].does_not_compile.empty()) {
      results[i].outcome = Outcome::compile_failed;
      results[i].reason = executables[i].does_not_compile;
    } else if (auto result = quarantined(problem, executables[i], evaluator)) {
      results[i] = std::move(*result);
    } else {
      runnable.push_back(executables[i].stages);
      places.push_back(i);
    }
  }
  if (runnable.empty()) return results;
  std::vector<Result> ran = device.run_plans(problem, runnable, policy);
  for (std::size_t n = 0; n < places.size(); ++n) results[places[n]] = std::move(ran[n]);
  return results;
}

PlanTrial plan_trial(const Composition& finalist, const std::vector<ExecutableStage>& stages, const Result& result) {
  PlanTrial trial;
  trial.plan = finalist.plan;
  trial.result = result;
  trial.stage_ms = finalist.stage_ms;
  trial.cubin_hashes = cubins_of(stages);
  trial.workspace_bytes = workspace_of(finalist.plan.problem, finalist.plan.shape).total();
  trial.created_at = utc_now();
  return trial;
}

bool measured_ok(const PlanTrial& trial) { return trial.result.outcome == Outcome::ok && trial.result.timing; }

std::int64_t most_registers(const std::vector<ExecutableStage>& stages) {
  std::int64_t most = 0;
  for (const ExecutableStage& stage : stages)
    if (stage.binary) most = std::max(most, stage.binary->resources.registers);
  return most;
}

}  // namespace

std::vector<StoredPlanTrial> run_finals(const Problem& problem, const std::vector<Composition>& finalists, Evaluator& evaluator,
                                        Device& device, Store& store, std::int64_t sweep, const MeasurePolicy& policy) {
  std::vector<Plan> plans;
  for (const Composition& finalist : finalists) plans.push_back(finalist.plan);
  const std::vector<Evaluator::ExecutablePlan> executables = evaluator.executables(plans);
  if (auto stored = stored_before(problem, executables, store, sweep)) return std::move(*stored);
  const std::vector<Result> results = [&] {
    const Compiler::Pause silence(evaluator.compiler());
    return run(problem, executables, evaluator, device, policy);
  }();
  std::vector<PlanTrial> trials;
  for (std::size_t i = 0; i < finalists.size(); ++i) trials.push_back(plan_trial(finalists[i], executables[i].stages, results[i]));
  set_standings(trials);

  std::vector<StoredPlanTrial> stored;
  Store::Batch batch(store);
  evaluator.store_incidents();
  for (std::size_t i = 0; i < finalists.size(); ++i) {
    for (const ExecutableStage& stage : executables[i].stages)
      if (stage.binary) store.add(*stage.binary);
    StoredPlanTrial row;
    row.trial = std::move(trials[i]);
    row.sweep = sweep;
    row.registers = most_registers(executables[i].stages);
    row.id = store.add(sweep, row.trial).id;
    stored.push_back(std::move(row));
  }
  batch.commit();
  return stored;
}

void set_standings(std::span<PlanTrial> trials, double tie_share) {
  const PlanTrial* fastest = nullptr;
  for (const PlanTrial& trial : trials)
    if (measured_ok(trial) && (!fastest || trial.result.timing->median_ms < fastest->result.timing->median_ms)) fastest = &trial;
  for (PlanTrial& trial : trials) {
    if (!measured_ok(trial)) continue;
    const Timing &mine = *trial.result.timing, &best = *fastest->result.timing;
    const double by_median = mine.median_ms / best.median_ms - 1;
    Standing standing{.low = by_median, .high = by_median};
    if (&trial != fastest) {
      const std::size_t pairs = std::min(mine.samples_ms.size(), best.samples_ms.size());
      const auto first = [pairs](const Timing& timing) { return std::span(timing.samples_ms).first(pairs); };
      if (const auto interval = median_interval(paired_differences(first(mine), first(best))))
        standing = {.low = interval->low, .high = interval->high};
    }
    standing.tied = standing.low <= tie_share;
    trial.standing = standing;
  }
}

const StoredPlanTrial* winner_of(const std::vector<StoredPlanTrial>& finals, const Plan* incumbent) {
  const auto rank = [incumbent](const StoredPlanTrial& final) {
    const PlanTrial& trial = final.trial;
    const bool stays = incumbent && trial.plan == *incumbent;
    return std::tuple(stays ? 0 : 1, trial.result.errors ? trial.result.errors->relative_l2 : 0.0, final.registers,
                      trial.plan.stages.size(), trial.plan.text());
  };
  const StoredPlanTrial* winner = nullptr;
  for (const StoredPlanTrial& final : finals) {
    if (!measured_ok(final.trial) || !final.trial.standing || !final.trial.standing->tied) continue;
    if (!winner || rank(final) < rank(*winner)) winner = &final;
  }
  return winner;
}

}  // namespace phitune
