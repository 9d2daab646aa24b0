#include "harness/device/replay_device.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace phitune {
namespace {

std::string key_of(const PlanStage& stage) { return fmt::format("{} # {}", stage.problem.key(), stage.config.text()); }

// Every field of a plan's shape is part of one of its stage problems, so the stages alone tell plans apart.
std::string key_of(const Problem& problem, const std::vector<PlanStage>& stages) {
  std::string key = problem.key();
  for (const PlanStage& stage : stages) key += " ; " + key_of(stage);
  return key;
}

std::vector<PlanStage> stages_of_plan(const std::vector<ExecutableStage>& plan) {
  std::vector<PlanStage> stages;
  for (const ExecutableStage& stage : plan) stages.push_back(stage.stage);
  return stages;
}

std::string cubin_of(const ExecutableStage& stage) { return stage.binary ? stage.binary->cubin_hash : std::string(); }

bool same_binaries(const Trial& trial, const std::vector<std::string>& cubins) { return trial.cubin_hash == cubins.front(); }
bool same_binaries(const PlanTrial& trial, const std::vector<std::string>& cubins) { return trial.cubin_hashes == cubins; }

// The recorded trial of these very binaries, else the latest; null when there is none.
template <typename Recorded>
const Recorded* choose(const std::multimap<std::string, const Recorded*>& recorded, const std::string& key,
                       const std::vector<std::string>& cubins) {
  const auto [begin, end] = recorded.equal_range(key);
  const Recorded* chosen = nullptr;
  const auto rank = [&cubins](const Recorded& trial) {
    return std::pair(same_binaries(trial, cubins), std::string_view(trial.created_at));
  };
  for (auto it = begin; it != end; ++it) {
    if (chosen == nullptr || rank(*it->second) > rank(*chosen)) chosen = it->second;
  }
  return chosen;
}

Result not_recorded(std::string_view what, const std::string& recording) {
  Result result;
  result.outcome = Outcome::pruned;
  result.reason = fmt::format("not in the recording: {} has no trial of this {}", recording, what);
  return result;
}

Result answer(const Result& recorded, const MeasurePolicy& policy) {
  if (!recorded.timing || recorded.timing->regime == policy.regime) return recorded;
  Result result;
  result.outcome = Outcome::pruned;
  result.reason = fmt::format("not in the recording: it was measured in the regime {}, and {} was asked for", to_string(recorded.timing->regime),
                              to_string(policy.regime));
  return result;
}

}  // namespace

ReplayDevice::ReplayDevice(Recording recording, std::string name)
    : recording_(std::move(recording)), name_(std::move(name)), info_(recording_.sweep.device) {
  info_.replayed = true;
  for (const Trial& trial : recording_.trials) trials_.emplace(key_of(PlanStage{trial.problem, trial.config}), &trial);
  for (const PlanTrial& trial : recording_.plan_trials) plan_trials_.emplace(key_of(trial.plan.problem, trial.plan.stages), &trial);
}

Result ReplayDevice::run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) {
  const Trial* trial = choose(trials_, key_of(stage.stage), {cubin_of(stage)});
  return trial == nullptr ? not_recorded("stage problem and config", name_) : answer(trial->result, policy);
}

std::optional<Trial> ReplayDevice::recall(const PlanStage& stage, const MeasurePolicy& policy) const {
  Trial trial;
  if (const Trial* recorded = choose(trials_, key_of(stage), {std::string()})) {
    trial = *recorded;
    trial.result = answer(recorded->result, policy);
  } else {
    trial.problem = stage.problem;
    trial.config = stage.config;
    trial.result = not_recorded("stage problem and config", name_);
  }
  return trial;
}

std::vector<Result> ReplayDevice::run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                            const MeasurePolicy& policy) {
  std::vector<Result> results;
  for (const std::vector<ExecutableStage>& plan : plans) {
    std::vector<std::string> cubins;
    for (const ExecutableStage& stage : plan) cubins.push_back(cubin_of(stage));
    const PlanTrial* trial = choose(plan_trials_, key_of(problem, stages_of_plan(plan)), cubins);
    results.push_back(trial == nullptr ? not_recorded("plan", name_) : answer(trial->result, policy));
  }
  return results;
}

std::vector<Problem> ReplayDevice::problems() const {
  std::set<Problem> problems;
  for (const PlanTrial& trial : recording_.plan_trials) problems.insert(trial.plan.problem);
  return {problems.begin(), problems.end()};
}

std::unique_ptr<ReplayDevice> open_replay(const std::filesystem::path& recording) {
  return std::make_unique<ReplayDevice>(read_recording(recording), recording.string());
}

}  // namespace phitune
