#include "reports/model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "reports/model_parts.hpp"
#include "reports/text.hpp"

namespace phitune {
namespace {

bool same_device(const DeviceInfo& a, const DeviceInfo& b) {
  return std::tie(a.name, a.uuid, a.architecture, a.replayed) == std::tie(b.name, b.uuid, b.architecture, b.replayed);
}

DeviceView& device_of(Model& model, const DeviceInfo& info) {
  const auto found =
      std::find_if(model.devices.begin(), model.devices.end(), [&](const DeviceView& d) { return same_device(d.info, info); });
  if (found != model.devices.end()) return *found;
  model.devices.emplace_back().info = info;
  return model.devices.back();
}

/// A later sweep's facts replace an earlier one's, but a ceiling that it did not measure does not erase one that is known.
void update_info(DeviceInfo& info, const DeviceInfo& later) {
  const double copy = later.copy_tbps > 0 ? later.copy_tbps : info.copy_tbps;
  const double matrix = later.matrix_tflops > 0 ? later.matrix_tflops : info.matrix_tflops;
  info = later;
  info.copy_tbps = copy;
  info.matrix_tflops = matrix;
}

void take_sweep(DeviceView& device, const SweepRecord& sweep) {
  update_info(device.info, sweep.device);
  SweepRecord header = sweep;
  header.trials.clear();
  header.plan_trials.clear();
  device.sweeps.push_back(std::move(header));
  device.stage_trials += static_cast<std::int64_t>(sweep.trials.size());
  device.plan_trials += static_cast<std::int64_t>(sweep.plan_trials.size());
  for (const Trial& trial : sweep.trials) {
    ++device.outcomes[trial.result.outcome];
    device.trials.push_back(trial);
  }
}

/// What is known of one device, indexed for the problems.
struct Gathered {
  StageResults results;
  std::map<StageProblem, std::map<Outcome, std::int64_t>> outcomes;
  std::map<StageProblem, std::vector<const Trial*>> trials;
  std::vector<Problem> problems;  // in the order first met
  std::map<Problem, std::vector<PlanTrial>> plans;
  std::map<Problem, WinnerRecord> winners;

  void meet(const Problem& problem) {
    if (std::find(problems.begin(), problems.end(), problem) == problems.end()) problems.push_back(problem);
  }
};

Gathered gather(const DeviceView& device, const Records& records) {
  Gathered g;
  for (const Trial& trial : device.trials) {
    g.results.add(trial);
    ++g.outcomes[trial.problem][trial.result.outcome];
    g.trials[trial.problem].push_back(&trial);
  }
  for (const SweepRecord& sweep : records.sweeps) {
    if (!same_device(sweep.device, device.info)) continue;
    for (const PlanTrial& plan : sweep.plan_trials) {
      g.meet(plan.plan.problem);
      g.plans[plan.plan.problem].push_back(plan);
    }
  }
  for (const WinnerRecord& winner : records.winners) {
    if (!same_device(winner.device, device.info)) continue;
    g.meet(winner.trial.plan.problem);
    g.winners[winner.trial.plan.problem] = winner;
  }
  return g;
}

/// The trial of exactly this config, the latest if there are several.
const Trial* trial_of(const Gathered& g, const PlanStage& stage) {
  const auto found = g.trials.find(stage.problem);
  if (found == g.trials.end()) return nullptr;
  const auto match = std::find_if(found->second.rbegin(), found->second.rend(), [&](const Trial* t) { return t->config == stage.config; });
  return match == found->second.rend() ? nullptr : *match;
}

std::vector<StageView> stages_of_winner(const Gathered& g, const PlanTrial& winner) {
  std::vector<StageView> views;
  for (std::size_t i = 0; i < winner.plan.stages.size(); ++i) {
    const PlanStage& stage = winner.plan.stages[i];
    StageView view{stage.problem, stage.config, 0, work_of(stage.problem), 0, 0, {}, {}};
    const Trial* trial = trial_of(g, stage);
    if (trial != nullptr) view.resources = trial->resources;
    if (i < winner.stage_ms.size())
      view.ms = winner.stage_ms[i];
    else if (trial != nullptr)
      view.ms = time_of(trial->result).value_or(0);
    if (view.ms > 0) {
      view.tflops = view.work.flops / view.ms * 1e-9;
      view.tbps = view.work.bytes / view.ms * 1e-9;
    }
    if (const auto counts = g.outcomes.find(stage.problem); counts != g.outcomes.end()) view.outcomes = counts->second;
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<PlanView> plan_views(const std::vector<PlanTrial>& trials, const std::optional<WinnerRecord>& winner) {
  std::vector<PlanView> views;
  for (const PlanTrial& trial : trials) {
    const bool won = winner && trial.plan == winner->trial.plan && trial.created_at == winner->trial.created_at;
    views.push_back({trial, won, false});
  }
  constexpr double never = std::numeric_limits<double>::infinity();
  std::stable_sort(views.begin(), views.end(), [never](const PlanView& a, const PlanView& b) {
    return time_of(a.trial.result).value_or(never) < time_of(b.trial.result).value_or(never);
  });
  // From the fastest on: each that is closer to the reference than all before it.
  double closest = never;
  for (PlanView& view : views) {
    const Result& result = view.trial.result;
    view.front = time_of(result) && result.errors && result.errors->relative_l2 < closest;
    if (view.front) closest = result.errors->relative_l2;
  }
  return views;
}

std::map<Outcome, std::int64_t> outcomes_of(const Gathered& g, const Problem& problem, const std::vector<PlanShape>& shapes) {
  std::set<StageProblem> stages;
  for (const PlanShape& shape : shapes)
    for (const StageProblem& stage : stages_of(problem, shape)) stages.insert(stage);
  std::map<Outcome, std::int64_t> counts;
  for (const StageProblem& stage : stages)
    if (const auto found = g.outcomes.find(stage); found != g.outcomes.end())
      for (const auto& [outcome, count] : found->second) counts[outcome] += count;
  return counts;
}

ProblemView problem_view(const Gathered& g, const Problem& problem, const DeviceInfo& device, const Records& records) {
  ProblemView view;
  const auto name = records.names.find(problem.key());
  view.name = name != records.names.end() ? name->second : short_name(problem);
  view.problem = problem;
  view.floor = floor_of(problem, device);
  if (const auto winner = g.winners.find(problem); winner != g.winners.end()) {
    view.winner = winner->second;
    view.winner_ms = time_of(winner->second.trial.result).value_or(0);
    view.stages = stages_of_winner(g, winner->second.trial);
  }
  if (view.floor.ms > 0 && view.winner_ms > 0) view.over_floor = view.winner_ms / view.floor.ms;
  if (const auto plans = g.plans.find(problem); plans != g.plans.end()) view.plans = plan_views(plans->second, view.winner);
  const PlanShapes shapes = plan_shapes(problem);
  const Composed composed = compose(problem, shapes.shapes, g.results, kStageTies);
  view.fusions = fusion_views(view.plans, composed, shapes);
  view.chunks = chunk_views(view.plans, composed);
  view.outcomes = outcomes_of(g, problem, shapes.shapes);
  return view;
}

}  // namespace

bool Model::any_replayed() const {
  return std::any_of(devices.begin(), devices.end(), [](const DeviceView& d) { return d.info.replayed; });
}

std::string PlanView::verdict() const {
  if (trial.result.outcome != Outcome::ok)
    return fmt::format("{}: {}", to_string(trial.result.outcome), report_text::first_line(trial.result.reason));
  std::string text = "ok";
  if (winner) text += ", winner";
  if (trial.standing && trial.standing->tied) text += ", tied";
  if (front) text += ", on the front of time and error";
  return text;
}

std::optional<double> time_of(const Result& result) {
  if (result.outcome != Outcome::ok || !result.timing) return std::nullopt;
  return result.timing->median_ms;
}

Model build_model(const Records& records, const std::string& generated_at) {
  Model model{records.source, generated_at, {}};
  for (const SweepRecord& sweep : records.sweeps) take_sweep(device_of(model, sweep.device), sweep);
  for (const WinnerRecord& winner : records.winners) (void)device_of(model, winner.device);
  for (DeviceView& device : model.devices) {
    const Gathered g = gather(device, records);
    for (const Problem& problem : g.problems) device.problems.push_back(problem_view(g, problem, device.info, records));
    device.failures = failure_views(device.trials);
    device.axes = axis_views(device.problems);
  }
  return model;
}

}  // namespace phitune
