#include "tests/kernel_templates/pipeline/cases.hpp"

#include <algorithm>
#include <random>
#include <stdexcept>

#include "kernel_templates/stage_template.hpp"

namespace phitune::kernel_test {
namespace {

struct Case {
  const char* name;
  const char* problem;
  const char* shape;
  int samples = 1;  // configs per stage
  bool padded = false;
};

constexpr Case cases[] = {
    // Boundaries of t, against chunks of 64; heads, layouts and gaps.
    {"one_token", "b1 t1 h1 d16 p2 bf16 gated", "expand_mma c64 d_tile8 state_bf16 partial_bf16", 3},
    {"part_of_a_chunk", "b1 t50 h1 d16 p2 bf16 gated", "expand_mma c64 d_tile8 state_bf16 partial_bf16", 3},
    {"one_chunk", "b1 t64 h1 d16 p2 bf16 gated", "expand_mma c64 d_tile8 state_bf16 partial_bf16"},
    {"one_more_token", "b1 t65 h1 d16 p2 bf16 gated", "expand_mma c64 d_tile8 state_bf16 partial_bf16"},
    {"ragged_gqa", "b2 t200 hq6 hk2 d16 p2 bf16 gated", "expand_mma c64 d_tile8 state_bf16 partial_bf16", 3},
    {"heads_first", "b2 t130 hq4 hk2 d16 p2 bf16 gated bhtd", "expand_mma c64 d_tile8 state_bf16 partial_bf16"},
    {"gaps", "b2 t130 hq4 hk2 d16 p2 bf16 gated", "expand_mma c64 d_tile8 state_bf16 partial_bf16", 1, true},
    {"gaps_heads_first", "b2 t130 hq4 hk2 d16 p2 bf16 gated bhtd", "expand_mma c64 d_tile8 state_bf16 partial_bf16", 1, true},
    {"long_chunks", "b1 t600 h1 d16 p2 bf16 gated", "expand_mma c256 d_tile8 state_bf16 partial_bf16"},
    // Feature tiles and widths at degree 2.
    {"tile_2", "b1 t150 h1 d32 p2 bf16 gated", "expand_mma c64 d_tile2 state_bf16 partial_bf16"},
    {"tile_4", "b1 t150 h1 d64 p2 bf16 gated", "expand_mma c64 d_tile4 state_bf16 partial_bf16"},
    {"tile_8", "b1 t300 h1 d64 p2 bf16 gated", "expand_mma c128 d_tile8 state_bf16 partial_bf16", 2},
    {"tile_16", "b1 t150 h1 d64 p2 bf16 gated", "expand_mma c64 d_tile16 state_bf16 partial_bf16", 2},
    {"wide_values", "b1 t150 h1 d16 e128 p2 bf16 gated", "expand_mma c64 d_tile16 state_bf16 partial_bf16"},
    {"narrow_values", "b1 t150 h1 d128 e16 p2 bf16 gated", "expand_mma c64 d_tile16 state_bf16 partial_bf16"},
    // Storage types, gates, normalisation.
    {"states_in_fp32", "b1 t150 h1 d32 e64 p2 bf16 ungated", "expand_mma c64 d_tile16 state_fp32 partial_fp32"},
    {"no_normalisation", "b1 t150 h1 d32 p2 bf16 gated none", "expand_mma c64 d_tile8 state_bf16 partial_fp32"},
    {"half", "b2 t150 hq4 hk2 d32 p2 fp16 gated", "expand_mma c64 d_tile8 state_fp32 partial_fp32", 2},
    {"half_ungated", "b1 t150 h1 d16 e32 p2 fp16 ungated", "expand_mma c64 d_tile4 state_fp32 partial_fp32"},
    // Degrees.
    {"linear", "b1 t200 hq2 hk1 d64 p1 bf16 gated none", "expand_mma c64 d_tile16 state_bf16 partial_bf16"},
    {"linear_half", "b1 t150 h1 d16 e32 p1 fp16 ungated none", "expand_mma c64 d_tile16 state_fp32 partial_fp32"},
    {"cubic_tile_2", "b1 t150 h1 d16 p3 bf16 gated none", "expand_mma c64 d_tile2 state_bf16 partial_bf16"},
    {"cubic_tile_4", "b1 t150 h1 d16 p3 bf16 gated none", "expand_mma c64 d_tile4 state_bf16 partial_bf16"},
    {"cubic_tile_8", "b1 t150 h1 d32 e16 p3 bf16 ungated none", "expand_mma c64 d_tile8 state_bf16 partial_bf16"},
    {"cubic_tile_16", "b1 t150 h1 d16 p3 fp16 gated none", "expand_mma c64 d_tile16 state_fp32 partial_fp32"},
    {"quartic_tile_2", "b1 t150 h1 d16 p4 bf16 gated", "expand_mma c64 d_tile2 state_bf16 partial_bf16"},
    {"quartic_tile_4", "b1 t150 h1 d16 p4 bf16 gated", "expand_mma c64 d_tile4 state_bf16 partial_bf16"},
    {"quartic_tile_8", "b1 t150 h1 d16 p4 fp16 gated", "expand_mma c64 d_tile8 state_fp32 partial_fp32"},
    // States from before and for after.
    {"states_linear", "b2 t150 h2 d16 p1 bf16 gated none initial final", "expand_mma c64 d_tile16 state_bf16 partial_bf16"},
    {"states_square", "b2 t150 hq2 hk1 d16 p2 bf16 gated initial final", "expand_mma c64 d_tile4 state_bf16 partial_bf16"},
    {"states_square_short", "b1 t30 h1 d16 p2 bf16 gated initial final", "expand_mma c64 d_tile4 state_bf16 partial_bf16"},
    {"states_cubic", "b1 t150 h1 d16 p3 fp16 ungated none initial final", "expand_mma c64 d_tile8 state_fp32 partial_fp32"},
    {"states_quartic", "b1 t150 h1 d16 p4 bf16 gated initial final", "expand_mma c64 d_tile2 state_fp32 partial_fp32"},
    {"initial_only", "b1 t150 h1 d16 p2 bf16 gated initial", "expand_mma c64 d_tile8 state_bf16 partial_bf16"},
    {"final_only", "b1 t150 h1 d16 p2 bf16 gated final", "expand_mma c64 d_tile8 state_bf16 partial_bf16"},
    {"whole_run", "b1 t200 hq2 hk1 d16 p2 bf16 gated initial final", "expand_mma c64 d_tile4 state_fp32 partial_fp32"},
    {"half_run", "b1 t100 hq2 hk1 d16 p2 bf16 gated initial final", "expand_mma c64 d_tile4 state_fp32 partial_fp32"},
    // One kernel over all of t.
    {"quadratic_one_token", "b1 t1 h1 d16 p2 bf16 gated", "quadratic", 2},
    {"quadratic", "b2 t300 hq4 hk2 d32 e64 p2 bf16 gated", "quadratic", 3},
    {"quadratic_ungated", "b1 t200 h1 d16 p2 fp16 ungated", "quadratic", 2},
    {"quadratic_linear", "b1 t200 h1 d64 p1 bf16 gated none bhtd", "quadratic"},
    {"quadratic_cubic", "b1 t200 h1 d64 e16 p3 bf16 ungated none", "quadratic"},
    {"quadratic_quartic", "b1 t200 h1 d128 p4 fp16 gated", "quadratic", 1, true},
    // The same on Hopper's own instructions.
    {"hopper_ragged_gqa", "b2 t200 hq4 hk2 d32 p2 bf16 gated", "expand_mma c64 d_tile8 state_bf16 partial_bf16 sm90", 3},
    {"hopper_heads_first", "b1 t150 h2 d64 e16 p2 bf16 gated bhtd", "expand_mma c64 d_tile2 state_bf16 partial_fp32 sm90"},
    {"hopper_gaps", "b2 t130 hq4 hk2 d32 p2 bf16 gated", "expand_mma c64 d_tile4 state_bf16 partial_bf16 sm90", 1, true},
    {"hopper_tile_16", "b1 t300 h1 d64 p2 bf16 ungated", "expand_mma c128 d_tile16 state_bf16 partial_bf16 sm90", 2},
    {"hopper_wide", "b1 t200 h1 d128 p2 bf16 gated", "expand_mma c128 d_tile8 state_bf16 partial_bf16 sm90"},
    {"hopper_cubic", "b1 t150 h1 d32 p3 bf16 gated none", "expand_mma c64 d_tile4 state_bf16 partial_bf16 sm90"},
    {"hopper_quartic", "b1 t100 h1 d32 e16 p4 bf16 gated", "expand_mma c64 d_tile4 state_bf16 partial_bf16 sm90"},
    {"hopper_states", "b1 t150 hq2 hk1 d32 p2 bf16 gated initial final", "expand_mma c64 d_tile4 state_bf16 partial_bf16 sm90"},
    {"hopper_quadratic", "b2 t300 hq4 hk2 d32 e64 p2 bf16 gated", "quadratic sm90", 3},
    {"hopper_quadratic_long", "b1 t700 h1 d64 p2 bf16 gated", "quadratic sm90", 3},
    {"hopper_quadratic_many", "b9 t128 hq8 hk1 d16 p2 bf16 gated", "quadratic sm90", 2},
    {"hopper_quadratic_one_token", "b1 t1 h1 d16 p2 bf16 gated", "quadratic sm90"},
    {"hopper_quadratic_quartic", "b1 t200 h1 d128 e16 p4 bf16 gated", "quadratic sm90", 1, true},
    {"hopper_quadratic_linear", "b1 t200 h1 d64 p1 bf16 ungated none bhtd", "quadratic sm90"},
    // Attention and the product with the state in one kernel.
    {"attend_query_ragged_gqa", "b2 t200 hq4 hk2 d32 e64 p2 bf16 gated", "attend_query c64 d_tile8 state_bf16 sm90", 3},
    {"attend_query_heads_first", "b1 t150 h2 d64 e16 p2 bf16 gated bhtd", "attend_query c64 d_tile2 state_bf16 sm90"},
    {"attend_query_gaps", "b2 t130 hq4 hk2 d32 p2 bf16 gated", "attend_query c64 d_tile4 state_bf16 sm90", 1, true},
    {"attend_query_long_chunks", "b1 t600 h1 d64 p2 bf16 gated", "attend_query c256 d_tile8 state_bf16 sm90", 2},
    {"attend_query_wide", "b1 t200 h1 d128 p2 bf16 ungated", "attend_query c128 d_tile8 state_bf16 sm90"},
    {"attend_query_cubic", "b1 t150 h1 d32 p3 bf16 gated none", "attend_query c64 d_tile4 state_bf16 sm90"},
    {"attend_query_quartic", "b1 t100 h1 d32 e16 p4 bf16 gated", "attend_query c64 d_tile4 state_bf16 sm90"},
    {"attend_query_states", "b1 t150 hq2 hk1 d32 p2 bf16 gated initial final", "attend_query c64 d_tile4 state_bf16 sm90"},
    {"attend_query_one_token", "b1 t1 h1 d32 p2 bf16 gated", "attend_query c64 d_tile8 state_bf16 sm90"},
    {"ampere_attend_query_ragged_gqa", "b2 t200 hq6 hk2 d16 e32 p2 bf16 gated", "attend_query c64 d_tile8 state_bf16 sm80", 3},
    {"ampere_attend_query_heads_first", "b1 t150 h2 d64 e16 p2 bf16 gated bhtd", "attend_query c64 d_tile2 state_bf16 sm80"},
    {"ampere_attend_query_gaps", "b2 t130 hq4 hk2 d32 p2 bf16 gated", "attend_query c64 d_tile4 state_fp32 sm80", 1, true},
    {"ampere_attend_query_long_chunks", "b1 t600 h1 d64 p2 bf16 gated", "attend_query c256 d_tile8 state_bf16 sm80", 3},
    {"ampere_attend_query_wide", "b1 t200 h1 d128 p2 bf16 ungated", "attend_query c128 d_tile16 state_bf16 sm80"},
    {"ampere_attend_query_half", "b2 t150 hq4 hk2 d32 p2 fp16 gated", "attend_query c64 d_tile8 state_fp32 sm80", 2},
    {"ampere_attend_query_linear", "b1 t200 hq2 hk1 d64 p1 bf16 gated none", "attend_query c64 d_tile16 state_bf16 sm80"},
    {"ampere_attend_query_cubic", "b1 t150 h1 d16 p3 fp16 gated none", "attend_query c64 d_tile4 state_fp32 sm80"},
    {"ampere_attend_query_quartic", "b1 t150 h1 d16 p4 bf16 gated", "attend_query c64 d_tile2 state_bf16 sm80"},
    {"ampere_attend_query_states", "b1 t150 hq2 hk1 d32 p2 bf16 gated initial final", "attend_query c64 d_tile4 state_bf16 sm80", 2},
    {"ampere_attend_query_one_token", "b1 t1 h1 d16 p2 bf16 gated", "attend_query c64 d_tile8 state_bf16 sm80"},
    // States made by one kernel, whose blocks wait for each other.
    {"update_scan_ragged_gqa", "b2 t330 hq4 hk2 d32 e64 p2 bf16 gated", "update_scan c64 d_tile8 state_bf16 partial_bf16 sm90", 3},
    {"update_scan_sum_free", "b1 t150 h2 d64 e16 p2 bf16 ungated none bhtd", "update_scan c64 d_tile2 state_bf16 partial_fp32 sm90", 2},
    {"update_scan_idle_warps", "b1 t768 h1 d32 e16 p2 bf16 gated", "update_scan c64 d_tile8 state_bf16 partial_bf16 sm90", 3},
    // States made by blocks that keep them from chunk to chunk.
    {"scanned_ragged_gqa", "b2 t330 hq4 hk2 d16 e32 p2 bf16 gated", "update_scan c64 d_tile8 state_bf16 partial_bf16", 3},
    {"scanned_tile_across_chunks", "b1 t250 h1 d32 p2 bf16 gated", "update_scan c80 d_tile8 state_bf16 partial_bf16", 3},
    {"scanned_long_chunks", "b1 t600 h1 d16 p2 bf16 gated", "update_scan c256 d_tile8 state_bf16 partial_bf16", 2},
    {"scanned_one_token", "b1 t1 h1 d16 p2 bf16 gated", "update_scan c64 d_tile8 state_bf16 partial_bf16", 2},
    {"scanned_heads_first", "b2 t130 hq4 hk2 d16 p2 bf16 gated bhtd", "update_scan c64 d_tile8 state_bf16 partial_bf16"},
    {"scanned_gaps", "b2 t130 hq4 hk2 d16 p2 bf16 gated", "update_scan c64 d_tile8 state_bf16 partial_bf16", 1, true},
    {"scanned_tile_2", "b1 t150 h1 d32 p2 bf16 ungated", "update_scan c64 d_tile2 state_bf16 partial_bf16"},
    {"scanned_tile_4", "b1 t150 h1 d64 p2 bf16 gated", "update_scan c64 d_tile4 state_fp32 partial_fp32"},
    {"scanned_tile_16", "b1 t150 h1 d64 p2 bf16 gated none", "update_scan c64 d_tile16 state_bf16 partial_bf16", 2},
    {"scanned_half", "b2 t150 hq4 hk2 d32 p2 fp16 gated", "update_scan c64 d_tile8 state_fp32 partial_fp32", 2},
    {"scanned_half_ungated", "b1 t150 h1 d16 e32 p2 fp16 ungated", "update_scan c64 d_tile4 state_fp32 partial_fp32"},
    {"scanned_linear", "b1 t200 hq2 hk1 d64 p1 bf16 gated none", "update_scan c64 d_tile16 state_bf16 partial_bf16"},
    {"scanned_cubic", "b1 t150 h1 d16 p3 bf16 gated none", "update_scan c64 d_tile4 state_bf16 partial_bf16"},
    {"scanned_quartic", "b1 t150 h1 d16 p4 bf16 gated", "update_scan c64 d_tile4 state_bf16 partial_bf16"},
    {"scanned_states", "b2 t150 hq2 hk1 d16 p2 bf16 gated initial final", "update_scan c64 d_tile4 state_bf16 partial_bf16", 2},
    {"scanned_states_short", "b1 t30 h1 d16 p2 bf16 gated initial final", "update_scan c64 d_tile8 state_bf16 partial_bf16"},
    {"scanned_states_linear", "b2 t150 h2 d16 p1 bf16 gated none initial final", "update_scan c64 d_tile16 state_bf16 partial_bf16"},
    {"scanned_states_cubic", "b1 t150 h1 d16 p3 fp16 ungated none initial final", "update_scan c64 d_tile8 state_fp32 partial_fp32"},
    {"scanned_states_quartic", "b1 t150 h1 d16 p4 bf16 gated initial final", "update_scan c64 d_tile2 state_fp32 partial_fp32"},
    {"scanned_initial_only", "b1 t150 h1 d16 p2 bf16 gated initial", "update_scan c64 d_tile8 state_bf16 partial_bf16"},
    {"scanned_final_only", "b1 t150 h1 d16 p2 bf16 gated final", "update_scan c64 d_tile8 state_bf16 partial_bf16"},
    // Two kernels.
    {"two_kernels", "b1 t600 h2 d64 p2 bf16 gated", "two_kernels c128 d_tile8 state_bf16 sm90", 3},
    {"two_kernels_tile_4", "b1 t200 h1 d64 p2 bf16 gated", "two_kernels c64 d_tile4 state_bf16 sm90", 3},
    {"two_kernels_long_chunks", "b1 t600 h1 d64 p2 bf16 gated", "two_kernels c256 d_tile8 state_bf16 sm90", 4},
    {"two_kernels_gaps", "b2 t130 hq4 hk2 d32 p2 bf16 gated", "two_kernels c64 d_tile4 state_bf16 sm90", 1, true},
    {"two_kernels_wide", "b1 t200 h1 d128 p2 bf16 ungated", "two_kernels c64 d_tile8 state_bf16 sm90"},
    {"two_kernels_cubic", "b1 t150 h1 d32 p3 bf16 gated none", "two_kernels c64 d_tile4 state_bf16 sm90"},
    {"two_kernels_quartic", "b1 t150 h1 d32 e16 p4 bf16 gated", "two_kernels c64 d_tile4 state_bf16 sm90"},
    {"two_kernels_states", "b1 t150 hq2 hk1 d32 p2 bf16 gated initial final", "two_kernels c64 d_tile4 state_bf16 sm90", 2},
    {"two_kernels_one_token", "b1 t1 h1 d32 p2 bf16 gated", "two_kernels c64 d_tile8 state_bf16 sm90"},
    // phi written out, products by a library.
    {"materialized", "b2 t150 hq4 hk2 d16 e32 p2 bf16 gated", "materialized c64 d_tile8 state_bf16 partial_bf16", 2},
    {"materialized_half", "b1 t150 h1 d16 p2 fp16 ungated", "materialized c64 d_tile4 state_fp32 partial_fp32"},
    {"materialized_linear", "b1 t100 h1 d32 p1 bf16 gated none initial final", "materialized c64 d_tile16 state_bf16 partial_bf16"},
    {"materialized_cubic", "b1 t100 h1 d16 p3 bf16 gated none bhtd", "materialized c64 d_tile2 state_bf16 partial_bf16"},
    {"materialized_quartic", "b1 t100 h1 d16 p4 bf16 gated final", "materialized c64 d_tile4 state_bf16 partial_fp32"},
};

// Limits of an H200, the device with the most shared memory, so that no config of the space is left out.
DeviceInfo device() {
  DeviceInfo info;
  info.name = "a device with the limits of sm_90";
  info.compute_capability = 90;
  info.architecture = "sm_90a";
  info.multiprocessors = 6;  // few blocks where all run at once
  info.shared_per_block = 227 << 10;
  info.shared_per_multiprocessor = 228 << 10;
  return info;
}

class Sampler {
 public:
  explicit Sampler(std::uint64_t seed) : rng_(seed) {}

  StageRun pick(const StageProblem& problem, int sample) {
    if (problem.path == Path::library) return {problem, {}, {}};
    const StageTemplate& stage = stage_template(problem.stage, problem.path);
    const Space space = stage.space(problem, device());
    if (space.empty()) throw std::logic_error("no config for " + problem.key());
    int equal = 0;
    for (const StageRun& earlier : picked_) {
      if (earlier.problem.stage != problem.stage || !space.find(earlier.config)) continue;
      if (stage.source(problem, earlier.config) == earlier.source && equal++ == sample) return {problem, earlier.config, earlier.source};
    }
    const Config config = space.at(space.sample(1, rng_).front());
    return picked_.emplace_back(StageRun{problem, config, stage.source(problem, config)});
  }

 private:
  std::mt19937_64 rng_;
  std::vector<StageRun> picked_;
};

}  // namespace

std::vector<PlannedCase> plan_cases(std::uint64_t seed) {
  Sampler sampler(seed);
  std::vector<PlannedCase> planned;
  for (const Case& c : cases) {
    for (int sample = 0; sample < c.samples; ++sample) {
      PlannedCase& out = planned.emplace_back();
      out.name = c.samples == 1 ? c.name : c.name + ("_" + std::to_string(sample + 1));
      out.problem = Problem::parse(c.problem);
      if (const auto reason = out.problem.invalid()) throw std::logic_error(out.name + ": " + *reason);
      out.shape = PlanShape::parse(c.shape);
      out.padded = c.padded;
      for (const StageProblem& stage : stages_of(out.problem, out.shape)) out.stages.push_back(sampler.pick(stage, sample));
    }
  }
  return planned;
}

}  // namespace phitune::kernel_test
