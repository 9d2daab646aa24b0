// What the tests of the stage oracles share: one small problem, a config of each kernel for it, and how a stage's kernel is found.
#pragma once

#include <algorithm>
#include <functional>
#include <stdexcept>

#include "harness/verify/oracle.hpp"
#include "host_device.hpp"
#include "kernel_templates/sm80/attend_query.cuh"
#include "kernel_templates/sm80/attention.cuh"
#include "kernel_templates/sm80/query_state.cuh"
#include "kernel_templates/sm80/scan.cuh"
#include "kernel_templates/sm80/update_state.cuh"

namespace phitune::verify_test {

// Ragged, grouped heads, several chunks, both states: one small problem for every stage.
inline const Problem kProblem{.b = 2,
                       .t = 150,
                       .hq = 2,
                       .hk = 1,
                       .d = 16,
                       .e = 16,
                       .p = 2,
                       .dtype = Dtype::bf16,
                       .gated = true,
                       .normalisation = Normalisation::sum,
                       .layout = Layout::bhtd,
                       .initial_state = true,
                       .final_state = true};

inline DeviceInfo nominal() {
  DeviceInfo device;
  device.compute_capability = 90;
  device.multiprocessors = 132;
  device.shared_per_block = 227 << 10;
  device.shared_per_multiprocessor = 228 << 10;
  return device;
}

inline constexpr Storage bf16 = Storage::bf16;

struct Case {
  const char* name;
  StageProblem problem;
  Config config;
  std::function<void(const Args&)> kernel;
};

inline StageProblem stage_of(Fusion fusion, Stage stage, Path path = Path::sm80, Problem problem = kProblem, int d_tile = 8) {
  PlanShape shape{.fusion = fusion, .chunk = 64, .d_tile = d_tile, .state = Dtype::bf16, .partial = Dtype::bf16, .path = path};
  if (fusion == Fusion::quadratic) {
    shape = {.fusion = Fusion::quadratic};
    problem.initial_state = problem.final_state = false;
  }
  for (const StageProblem& candidate : stages_of(problem, shape)) {
    if (candidate.stage == stage) return candidate;
  }
  throw std::logic_error("no such stage");
}

inline constexpr UpdateStateConfig update_config{.d = 16,
                                          .e = 16,
                                          .p = 2,
                                          .d_tile = 8,
                                          .rows = 192,
                                          .shared_bytes = 8192,
                                          .dtype = bf16,
                                          .math = Math::bf16,
                                          .state = bf16,
                                          .gated = true,
                                          .sum = true,
                                          .warps = 4,
                                          .m_tiles = 1,
                                          .token_tile = 32,
                                          .stages = 2,
                                          .unroll = 32};
inline constexpr QueryStateConfig query_config{.d = 16,
                                        .e = 16,
                                        .p = 2,
                                        .d_tile = 8,
                                        .input = bf16,
                                        .state = bf16,
                                        .partial = bf16,
                                        .gated = true,
                                        .normalised = true,
                                        .warps = 4,
                                        .m_tiles = 1,
                                        .steps = 4,
                                        .stages = 2};
inline constexpr AttentionConfig attention_config{.d = 16,
                                           .e = 16,
                                           .p = 2,
                                           .input = bf16,
                                           .output = bf16,
                                           .gated = true,
                                           .sum = true,
                                           .complete = false,
                                           .warps = 4,
                                           .m_tiles = 1,
                                           .key_tile = 32,
                                           .stages = 1,
                                           .q_registers = true};
inline constexpr AttendQueryConfig attend_query_config{.d = 16,
                                               .e = 16,
                                               .p = 2,
                                               .d_tile = 8,
                                               .input = bf16,
                                               .state = bf16,
                                               .gated = true,
                                               .normalised = true,
                                               .warps = 4,
                                               .m_tiles = 1,
                                               .steps = 4,
                                               .stages = 2,
                                               .key_tile = 32,
                                               .key_stages = 1,
                                               .q_registers = true};
inline constexpr ScanConfig scan_config{.d = 16,
                                 .e = 16,
                                 .p = 2,
                                 .d_tile = 8,
                                 .rows = 192,
                                 .state = bf16,
                                 .update = bf16,
                                 .gated = true,
                                 .sum = true,
                                 .z_in_update = false,
                                 .initial_state = true,
                                 .final_state = true,
                                 .threads = 128,
                                 .unroll = 1,
                                 .vector = 4};
inline const Config kUpdateKnobs{{"m_tiles", 1}, {"stages", 2}, {"token_tile", 32}, {"unroll", 32}, {"warps", 4}};
inline const Config kQueryKnobs{{"m_tiles", 1}, {"stages", 2}, {"steps", 4}, {"warps", 4}};
inline const Config kAttendQueryKnobs{{"key_stages", 1}, {"key_tile", 32}, {"m_tiles", 1}, {"q_registers", 1},
                                      {"stages", 2},     {"steps", 4},     {"warps", 4}};
inline const Config kScanKnobs{{"threads", 128}, {"unroll", 1}, {"vector", 4}};
inline const Config kAttentionKnobs{{"key_tile", 32}, {"m_tiles", 1}, {"q_registers", 1}, {"stages", 1}, {"warps", 4}};

/// The first config of the stage's own space with the knobs that this test instantiates: the others do not reach the kernel's text.
inline Config config_of(const Case& test, const StageTemplate& source) {
  const Space space = source.space(test.problem, nominal());
  for (std::size_t i = 0; i < space.size(); ++i) {
    const Config config = space.at(i);
    const auto agrees = [&](const auto& knob) { return config.at(knob.first) == knob.second; };
    if (std::ranges::all_of(test.config.values(), agrees)) return config;
  }
  throw std::logic_error("no config of the space has the knobs " + test.config.text() + " that this test instantiates");
}

}  // namespace phitune::verify_test
