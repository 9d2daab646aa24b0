#include "harness/tune/evaluator.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "harness/tune/candidate.hpp"
#include "harness/tune/identity.hpp"

namespace phitune {
namespace {

std::string name_of(const StageProblem& stage, const Config& config, const std::string& source_hash) {
  return fmt::format("{} [{}] {}", stage.key(), config.text(), source_hash);
}

constexpr double kLeastTimeoutMs = 1000;
constexpr double kTimeoutOverBest = 100;

bool leads(const Trial& trial, double lead_ms) {
  return trial.result.outcome == Outcome::ok && trial.result.timing && (lead_ms <= 0 || trial.result.timing->median_ms < lead_ms);
}

}  // namespace

Evaluator::Evaluator(Device& device, Compiler& compiler, Store& store, std::int64_t sweep, MeasurePolicy policy, CompileScope scope,
                     Reuse reuse)
    : device_(device), compiler_(compiler), store_(store), sweep_(sweep), policy_(policy), scope_(scope), reuse_(reuse) {
  TrialFilter of_this_sweep;
  of_this_sweep.sweep = sweep;
  store_.for_each_trial(of_this_sweep, [this](const StoredTrial& stored) {
    const Trial& trial = stored.trial;
    known_.emplace(name_of(trial.problem, trial.config, trial.source_hash), Known{trial, true});
  });
  const std::int64_t device_id = store_.sweep(sweep_).device_id;
  for (const StoredIncident& row : store_.incidents(device_id)) quarantine(row.incident);
}

// A recording can tell what became of a candidate before it is compiled; what it tells decides whether compiling is worth the time.
std::optional<Trial> Evaluator::answer_without_code(const StageProblem& stage, const Config& config, double lead_ms) const {
  std::optional<Trial> recalled = device_.recall({stage, config}, policy_);
  if (!recalled) return std::nullopt;
  const bool in_recording = stage.path == Path::library || !recalled->source_hash.empty();
  if (in_recording && (scope_ == CompileScope::all || leads(*recalled, lead_ms))) return std::nullopt;
  recalled->compile_ms = 0;
  recalled->created_at = utc_now();
  return recalled;
}

void Evaluator::compile_ahead(const StageProblem& stage, std::span<const Config> configs, Compiler::Turn turn) {
  if (stage.path == Path::library) return;
  double lead_ms = lead_of(stage);
  for (const Config& config : configs) {
    if (answer_without_code(stage, config, lead_ms)) continue;
    if (const auto recalled = device_.recall({stage, config}, policy_); recalled && leads(*recalled, lead_ms))
      lead_ms = recalled->result.timing->median_ms;
    std::string source = source_of(stage, config);
    if (!known_.contains(name_of(stage, config, compiler_.key(source)))) static_cast<void>(compiler_.compile(std::move(source), turn));
  }
}

Evaluator::Evaluated Evaluator::evaluate(const StageProblem& stage, const Config& config, double best_ms) {
  Begun begun = begin(stage, config, best_ms);
  if (begun.answer) return std::move(*begun.answer);
  Result result = device_.run_stage(begun.candidate->executable, begun.policy);
  return finish(std::move(*begun.candidate), std::move(result));
}

Evaluator::Begun Evaluator::begin(const StageProblem& stage, const Config& config, double best_ms) {
  const auto answered = [](Evaluated answer) { return Begun{.answer = std::move(answer), .candidate = std::nullopt}; };
  if (auto answer = answer_without_code(stage, config, lead_of(stage))) {
    if (const Trial* known = find_known(stage, config, answer->source_hash)) return answered(conclude(*known, false));
    return answered(remember(std::move(*answer)));
  }
  const std::string source = source_of(stage, config), source_hash = source.empty() ? source : compiler_.key(source);
  if (const Trial* known = find_known(stage, config, source_hash)) return answered(conclude(*known, false));
  if (running_.contains(name_of(stage, config, source_hash))) return {.answer = std::nullopt, .candidate = std::nullopt, .wait = true};
  Candidate candidate = prepare_candidate(compiler_, device_.info(), stage, config);
  if (candidate.trial.result.outcome == Outcome::ok) return begin_run(std::move(candidate), best_ms);
  return answered(remember(std::move(candidate.trial)));
}

Evaluator::Begun Evaluator::begin_run(Candidate candidate, double best_ms) {
  Begun begun;
  Trial& trial = candidate.trial;
  if (auto result = quarantined(candidate_name(candidate.executable.stage), trial.cubin_hash)) {
    trial.result = std::move(*result);
    begun.answer = remember(std::move(trial));
    return begun;
  }
  trial.identity = identity_of(candidate.executable, device_, policy_);
  if (running_.contains(trial.identity)) {
    begun.wait = true;
    return begun;
  }
  if (take_over(trial, best_ms)) {
    begun.answer = remember(std::move(trial));
    return begun;
  }
  begun.policy = policy_;
  begun.policy.time_to_beat_ms = best_ms;
  if (const auto lead = leads_.find(trial.problem.key()); best_ms > 0 && lead != leads_.end())
    begun.policy.samples_to_beat = lead->second.samples_ms;
  // A launch that takes so much longer than the best so far is of no use, and one that never ends should not hold up the sweep.
  if (best_ms > 0) begun.policy.timeout_ms = std::min(policy_.timeout_ms, std::max(kLeastTimeoutMs, kTimeoutOverBest * best_ms));
  running_.insert(name_of(trial.problem, trial.config, trial.source_hash));
  if (!trial.identity.empty()) running_.insert(trial.identity);
  begun.candidate = std::move(candidate);
  return begun;
}

Evaluator::Evaluated Evaluator::finish(Candidate candidate, Result result) {
  Trial& trial = candidate.trial;
  running_.erase(name_of(trial.problem, trial.config, trial.source_hash));
  running_.erase(trial.identity);
  trial.result = std::move(result);
  return remember(std::move(trial));
}

Evaluator::Evaluated Evaluator::conclude(Trial trial, bool fresh) {
  if (leads(trial, lead_of(trial.problem))) leads_[trial.problem.key()] = *trial.result.timing;
  return {std::move(trial), fresh};
}

// The result of a trial of the same identity. One that was given up early, for being clearly slower than the best of its day, answers only
// where it still is.
bool Evaluator::take_over(Trial& trial, double best_ms) {
  const auto known = store_.measured(trial.identity);
  if (!known || (reuse_ == Reuse::this_sweep && known->sweep != sweep_)) return false;
  if (const auto& timing = known->trial.result.timing) {
    if (timing->beaten && !(best_ms > 0 && timing->median_ms > best_ms)) return false;
  }
  trial.result = known->trial.result;
  trial.measured_in = store_.sweep(known->sweep).uid;
  ++same_code_;
  return true;
}

void Evaluator::quarantine(const Incident& incident) {
  const auto key = std::pair(incident.subject, incident.code);
  if (incident.verdict == Incident::Verdict::guilty)
    quarantine_.insert_or_assign(key, incident);
  else if (incident.verdict == Incident::Verdict::released)
    quarantine_.erase(key);
}

std::optional<Result> Evaluator::quarantined(const std::string& subject, const std::string& code) const {
  const auto found = quarantine_.find({subject, code});
  if (found == quarantine_.end()) return std::nullopt;
  Result result;
  result.outcome = found->second.outcome;
  result.reason = fmt::format("in quarantine since {}, not run again until its machine code changes: {}", found->second.created_at,
                              found->second.reason);
  result.seed = policy_.seed;
  return result;
}

void Evaluator::store_incidents() {
  for (const Incident& incident : device_.take_incidents()) {
    store_.add(sweep_, incident);
    quarantine(incident);
  }
}

double Evaluator::lead_of(const StageProblem& stage) const {
  const auto found = leads_.find(stage.key());
  return found == leads_.end() ? 0 : found->second.median_ms;
}

const Trial* Evaluator::find_known(const StageProblem& stage, const Config& config, const std::string& source_hash) {
  const auto found = known_.find(name_of(stage, config, source_hash));
  if (found == known_.end()) return nullptr;
  ++(found->second.stored_before ? resumed_ : shared_);
  return &found->second.trial;
}

Evaluator::Evaluated Evaluator::remember(Trial trial) {
  {
    Store::Batch batch(store_);
    store_incidents();
    store_.add(sweep_, trial);
    batch.commit();
  }
  known_.emplace(name_of(trial.problem, trial.config, trial.source_hash), Known{trial, false});
  return conclude(std::move(trial), true);
}

std::vector<Evaluator::ExecutablePlan> Evaluator::executables(std::span<const Plan> plans) {
  const auto request = [this](const PlanStage& stage) {
    return compiler_.compile(source_of(stage.problem, stage.config), Compiler::Turn::next);
  };
  // All are asked for before any is waited for, so that every compile thread has work.
  for (const Plan& plan : plans)
    for (const PlanStage& stage : plan.stages)
      if (stage.problem.path != Path::library) static_cast<void>(request(stage));
  std::vector<ExecutablePlan> executables;
  for (const Plan& plan : plans) {
    ExecutablePlan& executable = executables.emplace_back();
    for (const PlanStage& stage : plan.stages) {
      executable.stages.push_back({stage, nullptr});
      if (stage.problem.path == Path::library) continue;
      const Compiled compiled = request(stage).get();
      executable.stages.back().binary = compiled.binary;
      if (compiled.outcome != Outcome::ok)
        executable.does_not_compile = fmt::format("{} [{}]: {}", to_string(stage.problem.stage), stage.config.text(), compiled.reason);
    }
  }
  return executables;
}

}  // namespace phitune
