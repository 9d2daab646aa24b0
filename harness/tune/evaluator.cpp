#include "harness/tune/evaluator.hpp"

#include <fmt/format.h>

#include "harness/compile/static_gate.hpp"
#include "harness/error.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

std::string name_of(const StageProblem& stage, const Config& config, const std::string& source_hash) {
  return fmt::format("{} [{}] {}", stage.key(), config.text(), source_hash);
}

std::string source_of(const StageProblem& stage, const Config& config) {
  return stage_template(stage.stage, stage.path).source(stage, config);
}

}  // namespace

Evaluator::Evaluator(Device& device, Compiler& compiler, Store& store, std::int64_t sweep, MeasurePolicy policy)
    : device_(device), compiler_(compiler), store_(store), sweep_(sweep), policy_(policy) {
  TrialFilter of_this_sweep;
  of_this_sweep.sweep = sweep;
  store_.for_each_trial(of_this_sweep, [this](const StoredTrial& stored) {
    recorded_.emplace(name_of(stored.trial.problem, stored.trial.config, stored.trial.source_hash), stored.trial);
  });
}

void Evaluator::compile_ahead(const StageProblem& stage, const Config& config) {
  if (stage.path != Path::library) static_cast<void>(compiler_.compile(source_of(stage, config)));
}

Trial Evaluator::evaluate(const StageProblem& stage, const Config& config, double best_ms) {
  Trial trial = try_candidate(stage, config, best_ms);
  store_.add(sweep_, trial);
  return trial;
}

Trial Evaluator::try_candidate(const StageProblem& stage, const Config& config, double best_ms) {
  Trial trial;
  trial.problem = stage;
  trial.config = config;
  trial.created_at = utc_now();
  ExecutableStage executable{{stage, config}, nullptr};
  if (stage.path != Path::library) {
    const Compiled compiled = compiler_.compile(source_of(stage, config)).get();
    trial.source_hash = compiled.source_hash;
    trial.compile_ms = compiled.compile_ms;
    trial.cache_hit = compiled.cache_hit;
    if (compiled.outcome != Outcome::ok) {
      trial.result.outcome = compiled.outcome;
      trial.result.reason = compiled.reason;
      return trial;
    }
    executable.binary = compiled.binary;
    const Launch launch = stage_template(stage.stage, stage.path).launch(stage, config);
    trial.cubin_hash = compiled.binary->cubin_hash;
    trial.resources = compiled.binary->resources;
    trial.resources->dynamic_shared_bytes = launch.dynamic_shared_bytes;
    if (auto reason = static_gate(compiled.binary->resources, launch, device_.info())) {
      trial.result.outcome = Outcome::pruned;
      trial.result.reason = *reason;
      return trial;
    }
  }
  if (const auto known = recorded_.find(name_of(stage, config, trial.source_hash)); known != recorded_.end()) {
    ++resumed_;
    return known->second;
  }
  MeasurePolicy policy = policy_;
  policy.abandon_above_ms = best_ms;
  trial.result = device_.run_stage(executable, policy);
  return trial;
}

ExecutableStage Evaluator::executable(const PlanStage& stage) {
  if (stage.problem.path == Path::library) return {stage, nullptr};
  const Compiled compiled = compiler_.compile(source_of(stage.problem, stage.config)).get();
  if (compiled.outcome != Outcome::ok)
    throw Error(ExitCode::failed, fmt::format("{} [{}] does not compile: {}", stage.problem.key(), stage.config.text(), compiled.reason));
  return {stage, compiled.binary};
}

}  // namespace phitune
