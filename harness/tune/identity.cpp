#include "harness/tune/identity.hpp"

#include <fmt/format.h>

#include "harness/compile/sha256.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

// Rises when times mean something else: other inputs, another flush, another way to take samples.
constexpr int kMeasuring = 3;

std::string text_of(const Launch& launch) {
  return fmt::format("{},{},{} {},{},{} {}{}", launch.grid[0], launch.grid[1], launch.grid[2], launch.block[0], launch.block[1],
                     launch.block[2], launch.dynamic_shared_bytes, launch.cooperative ? " cooperative" : "");
}

std::string text_of(const MeasurePolicy& policy) {
  return fmt::format("{} warmup {} samples {} to {} within {} rest {} seed {}", to_string(policy.regime), policy.warmup,
                     policy.min_samples, policy.max_samples, policy.target_relative_ci, policy.rest, policy.seed);
}

}  // namespace

std::string identity_of(const ExecutableStage& stage, const Device& device, const MeasurePolicy& policy) {
  if (!stage.binary || !device.runs_machine_code()) return {};
  const StageProblem& problem = stage.stage.problem;
  const DeviceInfo& info = device.info();
  Sha256 hash;
  hash.field(fmt::format("{}", kMeasuring)).field(stage.binary->cubin_hash);
  hash.field(text_of(stage_template(problem.stage, problem.path).launch(problem, stage.stage.config))).field(problem.key());
  hash.field(info.name).field(info.architecture).field(info.driver).field(info.runtime).field(text_of(policy));
  return hash.hex();
}

}  // namespace phitune
