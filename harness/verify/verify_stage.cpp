#include "harness/verify/verify_stage.hpp"

#include "harness/compile/static_gate.hpp"

namespace phitune {

namespace {

void fail(Trial& trial, Outcome outcome, std::string reason) {
  trial.result.outcome = outcome;
  trial.result.reason = std::move(reason);
}

}  // namespace

Trial verify_stage(Device& device, Compiler& compiler, const StageProblem& problem, const Config& config, const MeasurePolicy& policy) {
  Trial trial;
  trial.problem = problem;
  trial.config = config;
  ExecutableStage stage{.stage = {.problem = problem, .config = config}, .binary = nullptr};
  if (problem.path != Path::library) {
    const StageTemplate& source = stage_template(problem.stage, problem.path);
    const Compiled compiled = compiler.compile(source.source(problem, config)).get();
    trial.source_hash = compiled.source_hash;
    trial.compile_ms = compiled.compile_ms;
    trial.cache_hit = compiled.cache_hit;
    if (compiled.outcome != Outcome::ok) {
      fail(trial, compiled.outcome, compiled.reason);
      return trial;
    }
    const Launch launch = source.launch(problem, config);
    stage.binary = compiled.binary;
    trial.cubin_hash = compiled.binary->cubin_hash;
    trial.resources = compiled.binary->resources;
    trial.resources->dynamic_shared_bytes = launch.dynamic_shared_bytes;
    if (auto reason = static_gate(compiled.binary->resources, launch, device.info())) {
      fail(trial, Outcome::pruned, std::move(*reason));
      return trial;
    }
  }
  trial.result = device.run_stage(stage, policy);
  return trial;
}

}  // namespace phitune
