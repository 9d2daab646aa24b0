#include "harness/tune/finals.hpp"

#include <algorithm>
#include <tuple>

#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

PlanTrial plan_trial(const Composition& finalist, const std::vector<ExecutableStage>& stages, const Result& result) {
  PlanTrial trial;
  trial.plan = finalist.plan;
  trial.result = result;
  trial.stage_ms = finalist.stage_ms;
  for (const ExecutableStage& stage : stages) trial.cubin_hashes.push_back(stage.binary ? stage.binary->cubin_hash : std::string());
  trial.workspace_bytes = workspace_of(finalist.plan.problem, finalist.plan.shape).total();
  trial.created_at = utc_now();
  return trial;
}

bool measured_ok(const StoredPlanTrial& stored) { return stored.trial.result.outcome == Outcome::ok && stored.trial.result.timing; }

}  // namespace

std::vector<StoredPlanTrial> run_finals(const Problem& problem, const std::vector<Composition>& finalists, Evaluator& evaluator,
                                        Device& device, Store& store, std::int64_t sweep, const MeasurePolicy& policy) {
  std::vector<std::vector<ExecutableStage>> plans;
  for (const Composition& finalist : finalists) {
    std::vector<ExecutableStage>& stages = plans.emplace_back();
    for (const PlanStage& stage : finalist.plan.stages) stages.push_back(evaluator.executable(stage));
  }
  const std::vector<Result> results = device.run_plans(problem, plans, policy);

  std::vector<StoredPlanTrial> stored;
  Store::Batch batch(store);
  for (std::size_t i = 0; i < finalists.size(); ++i) {
    for (const ExecutableStage& stage : plans[i])
      if (stage.binary) store.add(*stage.binary);
    StoredPlanTrial row;
    row.trial = plan_trial(finalists[i], plans[i], results[i]);
    row.sweep = sweep;
    row.id = store.add(sweep, row.trial).id;
    stored.push_back(std::move(row));
  }
  batch.commit();
  return stored;
}

const StoredPlanTrial* winner_of(const std::vector<StoredPlanTrial>& finals, double tie_share) {
  double fastest = 0;
  for (const StoredPlanTrial& final : finals)
    if (measured_ok(final))
      fastest = fastest == 0 ? final.trial.result.timing->median_ms : std::min(fastest, final.trial.result.timing->median_ms);
  const auto rank = [](const StoredPlanTrial& final) {
    const Result& result = final.trial.result;
    return std::tuple(result.errors ? result.errors->relative_l2 : 0.0, final.trial.plan.stages.size(), final.trial.plan.text());
  };
  const StoredPlanTrial* winner = nullptr;
  for (const StoredPlanTrial& final : finals) {
    if (!measured_ok(final) || final.trial.result.timing->median_ms > fastest * (1 + tie_share)) continue;
    if (!winner || rank(final) < rank(*winner)) winner = &final;
  }
  return winner;
}

}  // namespace phitune
