// Protects the verification of stages: every real kernel, run on the CPU emulator, meets its stage's references, and a result that is wrong
// in one place does not.
#include <gtest/gtest.h>

#include <algorithm>

#include <iostream>
#include <random>

#include "harness/verify/oracle.hpp"
#include "host_device.hpp"
#include "kernel_templates/common/state_layout.cuh"
#include "kernel_templates/sm80/attention.cuh"
#include "kernel_templates/sm80/combine.cuh"
#include "kernel_templates/sm80/expand.cuh"
#include "kernel_templates/sm80/gates.cuh"
#include "kernel_templates/sm80/query_state.cuh"
#include "kernel_templates/sm80/scan.cuh"
#include "kernel_templates/sm80/update_state.cuh"

namespace phitune {
namespace {

using verify_test::HostDevice;

// Ragged, grouped heads, several chunks, both states: one small problem for every stage.
const Problem kProblem{.b = 2,
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

DeviceInfo nominal() {
  DeviceInfo device;
  device.compute_capability = 90;
  device.multiprocessors = 132;
  device.shared_per_block = 227 << 10;
  device.shared_per_multiprocessor = 228 << 10;
  return device;
}

constexpr Storage bf16 = Storage::bf16;

struct Case {
  const char* name;
  StageProblem problem;
  Config config;
  std::function<void(const Args&)> kernel;
};

StageProblem stage_of(Fusion fusion, Stage stage, Path path = Path::sm80) {
  Problem problem = kProblem;
  PlanShape shape{.fusion = fusion, .chunk = 64, .d_tile = 8, .state = Dtype::bf16, .partial = Dtype::bf16, .path = path};
  if (fusion == Fusion::quadratic) {
    shape = {.fusion = Fusion::quadratic};
    problem.initial_state = problem.final_state = false;
  }
  for (const StageProblem& candidate : stages_of(problem, shape)) {
    if (candidate.stage == stage) return candidate;
  }
  throw std::logic_error("no such stage");
}

constexpr UpdateStateConfig update_config{.d = 16,
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
constexpr QueryStateConfig query_config{.d = 16,
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
const Config kUpdateKnobs{{"m_tiles", 1}, {"stages", 2}, {"token_tile", 32}, {"unroll", 32}, {"warps", 4}};
const Config kQueryKnobs{{"m_tiles", 1}, {"stages", 2}, {"steps", 4}, {"warps", 4}};

std::vector<Case> cases() {
  constexpr AttentionConfig attention_config{.d = 16,
                                             .e = 16,
                                             .p = 2,
                                             .input = bf16,
                                             .output = bf16,
                                             .gated = true,
                                             .sum = true,
                                             .quadratic = false,
                                             .warps = 4,
                                             .m_tiles = 1,
                                             .key_tile = 32,
                                             .stages = 1,
                                             .q_registers = true};
  constexpr AttentionConfig quadratic_config{.d = 16,
                                             .e = 16,
                                             .p = 2,
                                             .input = bf16,
                                             .output = bf16,
                                             .gated = true,
                                             .sum = true,
                                             .quadratic = true,
                                             .warps = 4,
                                             .m_tiles = 1,
                                             .key_tile = 32,
                                             .stages = 1,
                                             .q_registers = true};
  constexpr ScanConfig scan_config{.d = 16,
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
  constexpr ScanConfig core_scan_config = [](ScanConfig config) {
    config.cores = true;
    return config;
  }(scan_config);
  constexpr ScanConfig wide_scan_config{.d = 16,
                                        .e = 16,
                                        .p = 2,
                                        .d_tile = 8,
                                        .rows = 192,
                                        .state = bf16,
                                        .update = Storage::fp32,
                                        .gated = true,
                                        .sum = true,
                                        .z_in_update = true,
                                        .initial_state = true,
                                        .final_state = true,
                                        .threads = 128,
                                        .unroll = 1,
                                        .vector = 4};
  constexpr ExpandConfig key_config{.d = 16,
                                    .e = 16,
                                    .p = 2,
                                    .d_tile = 8,
                                    .input = bf16,
                                    .state = bf16,
                                    .key = true,
                                    .gated = true,
                                    .normalised = true,
                                    .threads = 128,
                                    .tokens = 8};
  constexpr ExpandConfig expand_query_config{.d = 16,
                                             .e = 16,
                                             .p = 2,
                                             .d_tile = 8,
                                             .input = bf16,
                                             .state = bf16,
                                             .key = false,
                                             .gated = false,
                                             .normalised = false,
                                             .threads = 128,
                                             .tokens = 8};
  constexpr CombineConfig combine_config{.e = 16, .output = bf16, .partial = bf16, .gated = true, .sum = true, .threads = 128, .unroll = 1};
  return {
      {"gates",
       stage_of(Fusion::expand_mma, Stage::gates),
       {{"items", 1}, {"threads", 64}},
       [](const Args& args) { gates<GatesConfig{.threads = 64, .items = 1}>(args); }},
      {"attention",
       stage_of(Fusion::expand_mma, Stage::attention),
       {{"key_tile", 32}, {"m_tiles", 1}, {"q_registers", 1}, {"stages", 1}, {"warps", 4}},
       [](const Args& args) { attention<attention_config>(args); }},
      {"quadratic",
       stage_of(Fusion::quadratic, Stage::attention),
       {{"key_tile", 32}, {"m_tiles", 1}, {"q_registers", 1}, {"stages", 1}, {"warps", 4}},
       [](const Args& args) { attention<quadratic_config>(args); }},
      {"update_state", stage_of(Fusion::expand_mma, Stage::update_state), kUpdateKnobs,
       [](const Args& args) { update_state<update_config>(args); }},
      {"scan",
       stage_of(Fusion::expand_mma, Stage::scan),
       {{"threads", 128}, {"unroll", 1}, {"vector", 4}},
       [](const Args& args) { scan<scan_config>(args); }},
      {"scan_in_cores",
       stage_of(Fusion::expand_mma, Stage::scan, Path::sm90),
       {{"threads", 128}, {"unroll", 1}, {"vector", 4}},
       [](const Args& args) { scan<core_scan_config>(args); }},
      {"scan_of_gemm",
       stage_of(Fusion::materialized, Stage::scan),
       {{"threads", 128}, {"unroll", 1}, {"vector", 4}},
       [](const Args& args) { scan<wide_scan_config>(args); }},
      {"query_state", stage_of(Fusion::expand_mma, Stage::query_state), kQueryKnobs,
       [](const Args& args) { query_state<query_config>(args); }},
      {"expand_key",
       stage_of(Fusion::materialized, Stage::expand_key),
       {{"threads", 128}, {"tokens", 8}},
       [](const Args& args) { expand<key_config>(args); }},
      {"expand_query",
       stage_of(Fusion::materialized, Stage::expand_query),
       {{"threads", 128}, {"tokens", 8}},
       [](const Args& args) { expand<expand_query_config>(args); }},
      {"combine",
       stage_of(Fusion::materialized, Stage::combine),
       {{"threads", 128}, {"unroll", 1}},
       [](const Args& args) { combine<combine_config>(args); }},
  };
}

/// The first config of the stage's own space with the knobs that this test instantiates: the others do not reach the kernel's text.
Config config_of(const Case& test, const StageTemplate& source) {
  const Space space = source.space(test.problem, nominal());
  for (std::size_t i = 0; i < space.size(); ++i) {
    const Config config = space.at(i);
    const auto agrees = [&](const auto& knob) { return config.at(knob.first) == knob.second; };
    if (std::ranges::all_of(test.config.values(), agrees)) return config;
  }
  throw std::logic_error("no config of the space has the knobs " + test.config.text() + " that this test instantiates");
}

class StageOracle : public testing::TestWithParam<Case> {
 protected:
  void run() {
    std::cout << "seed " << seed_ << ", " << GetParam().problem.key() << std::endl;
    device_.fill_inputs(seed_);
    const StageTemplate& source = stage_template(GetParam().problem.stage, Path::sm80);
    device_.run(source.launch(GetParam().problem, config_of(GetParam(), source)), GetParam().kernel);
    checks_ = stage_checks(GetParam().problem, seed_);
  }

  std::uint64_t seed_ = std::random_device{}();
  HostDevice device_{GetParam().problem};
  std::vector<Check> checks_;
};

TEST_P(StageOracle, AcceptsTheKernel) {
  run();
  const Verdict verdict = compare(checks_, device_.reader());
  EXPECT_TRUE(verdict.ok) << verdict.reason;
  EXPECT_GE(verdict.errors.rows_checked, 6);
  std::cout << "relative l2 " << verdict.errors.relative_l2 << " of " << verdict.errors.tolerance << ", " << verdict.errors.rows_checked
            << " rows" << std::endl;
  for (const Buffer output : outputs_of(GetParam().problem)) {
    const Inspection seen = device_.inspect(output);
    EXPECT_EQ(seen.unwritten, 0u) << to_string(output) << " at " << seen.first_bad;
    EXPECT_EQ(seen.nonfinite, 0u) << to_string(output) << " at " << seen.first_bad;
  }
}

TEST_P(StageOracle, RefusesOneRowOffByAFewPercentInEveryOutput) {
  run();
  for (const Check& check : checks_) {
    for (const std::size_t which : {std::size_t{0}, check.rows.size() - 1}) {
      const CheckRow& row = check.rows[which];
      std::size_t i = 0;
      for (std::size_t n = 0; n < row.reference.size(); ++n) {
        if (std::abs(row.reference[n]) > std::abs(row.reference[i])) i = n;
      }
      if (row.reference[i] == 0) continue;
      const auto size = static_cast<std::size_t>(bytes(check.dtype));
      const auto element = static_cast<std::size_t>(row.element(i));
      char* at = device_.data(check.buffer) + element * size;
      std::vector<char> kept(at, at + size);
      const double wrong = decode(check.dtype, at) + 0.25 * row.reference[i];
      const float single = static_cast<float>(wrong);
      const u16 half = check.dtype == Dtype::bf16 ? float_to_bf16(single) : float_to_fp16(single);
      std::memcpy(at, check.dtype == Dtype::fp32 ? static_cast<const void*>(&single) : &half, size);
      EXPECT_FALSE(compare(checks_, device_.reader()).ok) << to_string(check.buffer) << " row " << which;
      std::memset(at, 0xFF, size);
      const Verdict verdict = compare(checks_, device_.reader());
      EXPECT_FALSE(verdict.ok);
      EXPECT_NE(verdict.reason.find("NaN"), std::string::npos) << verdict.reason;
      std::memcpy(at, kept.data(), size);
    }
  }
  EXPECT_TRUE(compare(checks_, device_.reader()).ok);
}

TEST_P(StageOracle, InspectionFindsWhatWasNotWritten) {
  run();
  for (const Buffer output : outputs_of(GetParam().problem)) {
    const Inspection before = device_.inspect(output);
    const auto size = static_cast<std::size_t>(bytes(buffer_shape(output, GetParam().problem).dtype));
    std::memset(device_.data(output) + 5 * size, 0xFF, size);
    const Inspection after = device_.inspect(output);
    EXPECT_EQ(after.unwritten, 1u);
    EXPECT_EQ(after.first_bad, 5);
    EXPECT_NE(after.checksum, before.checksum);
  }
}

/// Calls `visit(element in rows, element in cores)` for every element of U or S.
template <typename Visit>
void for_each_state_element(const StageProblem& stage, Visit&& visit) {
  const auto rows = static_cast<int>(stage.rows()), columns = static_cast<int>(state_columns(stage.problem));
  for (std::int64_t matrix = 0; matrix < stage.problem.b * stage.problem.hk * stage.chunks(); ++matrix) {
    for (int row = 0; row < rows; ++row) {
      const int position = core_position(row, static_cast<int>(stage.problem.p), static_cast<int>(stage.shape.d_tile));
      for (int column = 0; column < columns; ++column)
        visit((matrix * rows + row) * columns + column, matrix * rows * columns + core_element(position, column, columns));
    }
  }
}

void run_rows(HostDevice& device, const StageProblem& stage, const Config& knobs, const std::function<void(const Args&)>& kernel) {
  const Case test{"", stage, knobs, kernel};
  const StageTemplate& source = stage_template(stage.stage, Path::sm80);
  device.run(source.launch(stage, config_of(test, source)), kernel);
}

// What the kernel for rows writes, moved into core matrices, is what the oracle for cores expects.
TEST(StageOracleInCores, AcceptsThePermutedUpdateOfRows) {
  const StageProblem stage = stage_of(Fusion::expand_mma, Stage::update_state);
  const StageProblem in_cores = stage_of(Fusion::expand_mma, Stage::update_state, Path::sm90);
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  HostDevice device(stage), permuted(in_cores);
  device.fill_inputs(seed);
  run_rows(device, stage, kUpdateKnobs, [](const Args& args) { update_state<update_config>(args); });
  const auto* update = static_cast<const u16*>(device.args().update);
  auto* cores = static_cast<u16*>(permuted.allocate(Buffer::update));
  for_each_state_element(stage, [&](std::int64_t row, std::int64_t core) { cores[core] = update[row]; });
  auto* z = static_cast<float*>(permuted.allocate(Buffer::update_z));
  const std::int64_t rows = stage.rows();
  for (std::int64_t i = 0; i < buffer_shape(Buffer::update_z, stage).count; ++i)
    z[i / rows * rows + core_position(static_cast<int>(i % rows), 2, 8)] = device.args().update_z[i];
  const Verdict verdict = compare(stage_checks(in_cores, seed), permuted.reader());
  EXPECT_TRUE(verdict.ok) << verdict.reason;
  EXPECT_FALSE(compare(stage_checks(in_cores, seed), device.reader()).ok) << "rows pass for cores";
  // The columns past e are scan's: in cores too, unwritten elements are those alone.
  EXPECT_EQ(permuted.inspect(Buffer::update).unwritten, 0u);
  cores[core_element(9, 15, 24)] = 0xffff;
  EXPECT_EQ(permuted.inspect(Buffer::update).unwritten, 1u);
}

// The oracle for cores expects of a state what the kernel for rows makes of the same state in rows.
TEST(StageOracleInCores, ExpectsTheOutputOfTheSameStateInRows) {
  const StageProblem stage = stage_of(Fusion::expand_mma, Stage::query_state);
  const StageProblem in_cores = stage_of(Fusion::expand_mma, Stage::query_state, Path::sm90);
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  HostDevice device(stage);
  device.fill_inputs(seed);
  run_rows(device, stage, kQueryKnobs, [](const Args& args) { query_state<query_config>(args); });
  EXPECT_FALSE(compare(stage_checks(in_cores, seed), device.reader()).ok) << "states of either layout pass for the other's";
  const InputTensor cores = input_tensor(Buffer::state, in_cores, seed, InputKind::normal);
  auto* state = reinterpret_cast<u16*>(device.data(Buffer::state));
  for_each_state_element(
      stage, [&](std::int64_t row, std::int64_t core) { state[row] = float_to_bf16(static_cast<float>(input_value(cores, core))); });
  run_rows(device, stage, kQueryKnobs, [](const Args& args) { query_state<query_config>(args); });
  const Verdict verdict = compare(stage_checks(in_cores, seed), device.reader());
  EXPECT_TRUE(verdict.ok) << verdict.reason;
}

INSTANTIATE_TEST_SUITE_P(Sm80, StageOracle, testing::ValuesIn(cases()), [](const auto& c) { return std::string(c.param.name); });

}  // namespace
}  // namespace phitune
