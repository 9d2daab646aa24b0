#include "harness/tune/candidate.hpp"

#include "harness/compile/static_gate.hpp"
#include "harness/store/store.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

void stop(Trial& trial, Outcome outcome, std::string reason) {
  trial.result.outcome = outcome;
  trial.result.reason = std::move(reason);
}

}  // namespace

std::string source_of(const StageProblem& problem, const Config& config) {
  return problem.path == Path::library ? std::string() : stage_template(problem.stage, problem.path).source(problem, config);
}

Candidate prepare_candidate(Compiler& compiler, const DeviceInfo& device, const StageProblem& problem, const Config& config) {
  Candidate candidate;
  Trial& trial = candidate.trial;
  trial.problem = problem;
  trial.config = config;
  trial.created_at = utc_now();
  candidate.executable.stage = {problem, config};
  if (problem.path == Path::library) return candidate;

  const Compiled compiled = compiler.compile(source_of(problem, config), Compiler::Turn::next).get();
  trial.source_hash = compiled.source_hash;
  trial.compile_ms = compiled.compile_ms;
  trial.cache_hit = compiled.cache_hit;
  if (compiled.outcome != Outcome::ok) {
    stop(trial, compiled.outcome, compiled.reason);
    return candidate;
  }
  const Launch launch = stage_template(problem.stage, problem.path).launch(problem, config);
  candidate.executable.binary = compiled.binary;
  trial.cubin_hash = compiled.binary->cubin_hash;
  trial.resources = compiled.binary->resources;
  trial.resources->dynamic_shared_bytes = launch.dynamic_shared_bytes;
  if (auto reason = static_gate(compiled.binary->resources, launch, device)) stop(trial, Outcome::pruned, std::move(*reason));
  return candidate;
}

Trial try_candidate(Device& device, Compiler& compiler, const StageProblem& problem, const Config& config, const MeasurePolicy& policy) {
  Candidate candidate = prepare_candidate(compiler, device.info(), problem, config);
  if (candidate.trial.result.outcome == Outcome::ok) candidate.trial.result = device.run_stage(candidate.executable, policy);
  return std::move(candidate.trial);
}

}  // namespace phitune
