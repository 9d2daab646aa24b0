#include "harness/tune/time_model.hpp"

#include <algorithm>
#include <cmath>

namespace phitune {
namespace {

// Limits of a multiprocessor that every architecture from Ampere on has or exceeds, and what the runtime keeps of shared memory per block.
constexpr double resident_threads = 2048, resident_blocks = 32, reserved_shared = 1024;
// Warps of a multiprocessor at which half of a rate is reached.
constexpr double half_rate_warps = 4;
constexpr double launch_ms = 0.004;
// Rates of an H100-class device where none was measured. Its L2 cache delivers about twice what its memory does.
constexpr double fallback_tflops = 700, fallback_tbps = 3, l2_over_memory = 2;

double threads_of(const Launch& launch) { return static_cast<double>(launch.block[0]) * launch.block[1] * launch.block[2]; }
double blocks_of(const Launch& launch) { return static_cast<double>(launch.grid[0]) * launch.grid[1] * launch.grid[2]; }

double resident_of(const Launch& launch, const DeviceInfo& device, std::int64_t registers) {
  double blocks = std::min(resident_blocks, std::floor(resident_threads / threads_of(launch)));
  if (device.shared_per_multiprocessor > 0)
    blocks = std::min(blocks, std::floor(static_cast<double>(device.shared_per_multiprocessor) /
                                         (static_cast<double>(launch.dynamic_shared_bytes) + reserved_shared)));
  if (registers > 0)
    blocks = std::min(blocks, std::floor(static_cast<double>(device.registers_per_multiprocessor) /
                                         (static_cast<double>(registers) * threads_of(launch))));
  return std::max(1.0, blocks);
}

// A config that gives a piece of work to each block, where the template has a knob for it.
Config one_piece_per_block(Config config) {
  if (config.has("blocks")) config.set("blocks", 0);
  return config;
}

// What each piece of work reads for itself, whoever else reads it too: the state of its chunk, the keys and values of it (half of them,
// where the causal mask leaves out the rest).
double bytes_per_piece(const StageProblem& stage) {
  const Problem& problem = stage.problem;
  const std::int64_t chunk = stage.shape.chunk > 0 ? std::min(stage.shape.chunk, problem.t) : problem.t;
  const auto tokens = [&problem](std::int64_t count) {
    return static_cast<double>(count * (problem.d + problem.e) * bytes(problem.dtype));
  };
  const double keys = tokens(chunk);
  const auto state = static_cast<double>(stage.rows() * problem.e * bytes(stage.shape.state));
  switch (stage.stage) {
    case Stage::update_state:
      return keys;
    case Stage::update_scan:
      // Of the path sm80 a piece is all chunks of a head.
      return stage.path == Path::sm90 ? keys : tokens(problem.t);
    case Stage::query_state:
      return state;
    case Stage::attention:
      return keys / 2;
    case Stage::attend_query:
      return keys / 2 + state;
    default:
      return 0;
  }
}

}  // namespace

Filling filling_of(const StageProblem& stage, const Config& config, const DeviceInfo& device, std::int64_t registers) {
  const StageTemplate& kernel = stage_template(stage.stage, stage.path);
  const Launch launch = kernel.launch(stage, config);
  Filling filling;
  filling.pieces = blocks_of(kernel.launch(stage, one_piece_per_block(config)));
  filling.resident = resident_of(launch, device, registers);
  filling.warps = filling.resident * threads_of(launch) / 32;
  filling.shared = launch.dynamic_shared_bytes;
  filling.waves = filling.pieces / (std::max(1, device.multiprocessors) * filling.resident);
  filling.utilisation = filling.waves / std::ceil(filling.waves);
  return filling;
}

double model_ms(const StageProblem& stage, const Config& config, const DeviceInfo& device, std::int64_t registers) {
  const double tflops = device.matrix_tflops > 0 ? device.matrix_tflops : fallback_tflops;
  const double tbps = device.copy_tbps > 0 ? device.copy_tbps : fallback_tbps;
  const Work work = work_of(stage);
  const Filling filling = filling_of(stage, config, device, registers);
  const double busy =
      work.flops / (tflops * 1e9) + work.bytes / (tbps * 1e9) + filling.pieces * bytes_per_piece(stage) / (l2_over_memory * tbps * 1e9);
  return launch_ms + busy / (filling.utilisation * filling.warps / (filling.warps + half_rate_warps));
}

}  // namespace phitune
