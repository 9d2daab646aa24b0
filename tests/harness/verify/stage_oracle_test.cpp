// Protects the verification of stages: every real kernel, run on the CPU emulator, meets its stage's references, and a result that is wrong
// in one place does not.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
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

StageProblem stage_of(Fusion fusion, Stage stage, Path path = Path::sm80, Problem problem = kProblem, int d_tile = 8) {
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

// Several times sixteen features, for what goes by sixteen.
Problem wide_problem() {
  Problem problem = kProblem;
  problem.d = 32;
  return problem;
}

Problem quartic_problem() {
  Problem problem = kProblem;
  problem.p = 4;
  return problem;
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
const Config kUpdateKnobs{{"m_tiles", 1}, {"stages", 2}, {"token_tile", 32}, {"unroll", 32}, {"warps", 4}};
const Config kQueryKnobs{{"m_tiles", 1}, {"stages", 2}, {"steps", 4}, {"warps", 4}};
const Config kScanKnobs{{"threads", 128}, {"unroll", 1}, {"vector", 4}};
const Config kAttentionKnobs{{"key_tile", 32}, {"m_tiles", 1}, {"q_registers", 1}, {"stages", 1}, {"warps", 4}};

std::vector<Case> cases() {
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
  constexpr ScanConfig core_scan_config = [](ScanConfig config) {
    config.cores = true;
    return config;
  }(scan_config);
  constexpr ScanConfig wide_core_scan_config = [](ScanConfig config) {
    config.d = 32, config.rows = 640;
    return config;
  }(core_scan_config);
  constexpr ScanConfig quartic_core_scan_config = [](ScanConfig config) {
    config.p = 4, config.d_tile = 2, config.rows = 5280;
    return config;
  }(core_scan_config);
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
      {"attention", stage_of(Fusion::expand_mma, Stage::attention), kAttentionKnobs,
       [](const Args& args) { attention<attention_config>(args); }},
      {"quadratic", stage_of(Fusion::quadratic, Stage::attention), kAttentionKnobs,
       [](const Args& args) { attention<quadratic_config>(args); }},
      {"update_state", stage_of(Fusion::expand_mma, Stage::update_state), kUpdateKnobs,
       [](const Args& args) { update_state<update_config>(args); }},
      {"scan", stage_of(Fusion::expand_mma, Stage::scan), kScanKnobs, [](const Args& args) { scan<scan_config>(args); }},
      {"scan_in_cores", stage_of(Fusion::expand_mma, Stage::scan, Path::sm90), kScanKnobs,
       [](const Args& args) { scan<core_scan_config>(args); }},
      {"wide_scan_in_cores", stage_of(Fusion::expand_mma, Stage::scan, Path::sm90, wide_problem()), kScanKnobs,
       [](const Args& args) { scan<wide_core_scan_config>(args); }},
      {"quartic_scan_in_cores", stage_of(Fusion::expand_mma, Stage::scan, Path::sm90, quartic_problem(), 2), kScanKnobs,
       [](const Args& args) { scan<quartic_core_scan_config>(args); }},
      {"scan_of_gemm", stage_of(Fusion::materialized, Stage::scan), kScanKnobs, [](const Args& args) { scan<wide_scan_config>(args); }},
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
      // Each term that the value is the sum of.
      for (int term = 0; term < row.sum_of; ++term) {
        const auto element = static_cast<std::size_t>(row.element(i) + term * row.sum_stride);
        char* at = device_.data(check.buffer) + element * size;
        std::vector<char> kept(at, at + size);
        const double wrong = decode(check.dtype, at) + 0.25 * row.reference[i];
        const float single = static_cast<float>(wrong);
        const u16 half = check.dtype == Dtype::bf16 ? float_to_bf16(single) : float_to_fp16(single);
        std::memcpy(at, check.dtype == Dtype::fp32 ? static_cast<const void*>(&single) : &half, size);
        EXPECT_FALSE(compare(checks_, device_.reader()).ok) << to_string(check.buffer) << " row " << which << " term " << term;
        std::memset(at, 0xFF, size);
        const Verdict verdict = compare(checks_, device_.reader());
        EXPECT_FALSE(verdict.ok);
        EXPECT_NE(verdict.reason.find("NaN"), std::string::npos) << verdict.reason;
        std::memcpy(at, kept.data(), size);
      }
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

/// Calls `visit(element in rows, element in cores)` for every value of U or S: with the column, from 0 to e - 1.
template <typename Visit>
void for_each_state_value(const StageProblem& stage, Visit&& visit) {
  const auto rows = static_cast<int>(stage.rows()), e = static_cast<int>(stage.problem.e);
  const auto columns = static_cast<int>(state_columns(stage.problem, Path::sm80));
  const auto core_columns = static_cast<int>(state_columns(stage.problem, Path::sm90));
  for (std::int64_t matrix = 0; matrix < stage.problem.b * stage.problem.hk * stage.chunks(); ++matrix) {
    for (int row = 0; row < rows; ++row) {
      const int position = core_position(row, static_cast<int>(stage.problem.p), static_cast<int>(stage.shape.d_tile));
      for (int column = 0; column < e; ++column)
        visit((matrix * rows + row) * columns + column, matrix * rows * core_columns + core_element(position, column, core_columns));
    }
  }
}

/// Calls `visit(state, row, first feature, second feature)` for every row of every state of degree 2.
template <typename Visit>
void for_each_state_row(const StageProblem& stage, Visit&& visit) {
  const auto rows = static_cast<int>(stage.rows());
  for (std::int64_t matrix = 0; matrix < stage.problem.b * stage.problem.hk * stage.chunks(); ++matrix) {
    for (int row = 0; row < rows; ++row) {
      const tspow::Indices x = tspow::decode(row, 2, static_cast<int>(stage.shape.d_tile));
      visit(matrix, matrix * rows + row, x.i[0], x.i[1]);
    }
  }
}

void run_rows(HostDevice& device, const StageProblem& stage, const Config& knobs, const std::function<void(const Args&)>& kernel) {
  const Case test{"", stage, knobs, kernel};
  const StageTemplate& source = stage_template(stage.stage, Path::sm80);
  device.run(source.launch(stage, config_of(test, source)), kernel);
}

/// What the kernel for rows makes of the tokens of `in_cores`, moved into core matrices and a denominator matrix's shares.
void permute_update_of_rows(const StageProblem& in_cores, std::uint64_t seed, HostDevice& device, HostDevice& permuted) {
  StageProblem stage = in_cores;
  stage.path = stage.shape.path = Path::sm80;
  device.fill_inputs(seed);
  run_rows(device, stage, kUpdateKnobs, [](const Args& args) { update_state<update_config>(args); });
  const auto* update = static_cast<const u16*>(device.args().update);
  auto* cores = static_cast<u16*>(permuted.allocate(Buffer::update));
  for_each_state_value(stage, [&](std::int64_t row, std::int64_t core) { cores[core] = update[row]; });
  auto* z = static_cast<float*>(permuted.allocate(Buffer::update_z));
  for_each_state_row(stage, [&](std::int64_t matrix, std::int64_t row, int i, int j) {
    for (const auto& [feature, other] : {std::pair(i, j), std::pair(j, i)})
      z[matrix * 16 * 16 + denominator_share(feature, other, 16)] = device.args().update_z[row];
  });
}

TEST(StageOracleInCores, AcceptsThePermutedUpdateOfRows) {
  const StageProblem stage = stage_of(Fusion::expand_mma, Stage::update_state);
  const StageProblem in_cores = stage_of(Fusion::expand_mma, Stage::update_state, Path::sm90);
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  HostDevice device(stage), permuted(in_cores);
  permute_update_of_rows(in_cores, seed, device, permuted);
  const std::vector<Check> checks = stage_checks(in_cores, seed);
  const Verdict verdict = compare(checks, permuted.reader());
  EXPECT_TRUE(verdict.ok) << verdict.reason;
  EXPECT_FALSE(compare(checks, device.reader()).ok) << "rows pass for cores";
  // All of it is written.
  EXPECT_EQ(permuted.inspect(Buffer::update).unwritten, 0u);
  EXPECT_EQ(permuted.inspect(Buffer::update_z).unwritten, 0u);
  auto* cores = reinterpret_cast<u16*>(permuted.data(Buffer::update));
  cores[core_element(9, 15, 16)] = 0xffff;
  EXPECT_EQ(permuted.inspect(Buffer::update).unwritten, 1u);
  const std::int64_t last = buffer_shape(Buffer::update_z, in_cores).count - 1;
  std::memset(permuted.data(Buffer::update_z) + last * 4, 0xff, 4);
  EXPECT_EQ(permuted.inspect(Buffer::update_z).unwritten, 1u);
  EXPECT_EQ(permuted.inspect(Buffer::update_z).first_bad, last);
}

// Rows of the matrix are sampled; in a sampled row no entry may be wrong, of either four of the eight that share two vectors.
TEST(StageOracleInCores, RefusesOneWrongEntryOfADenominatorMatrixsShare) {
  const StageProblem in_cores = stage_of(Fusion::expand_mma, Stage::update_state, Path::sm90);
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  HostDevice device(stage_of(Fusion::expand_mma, Stage::update_state)), permuted(in_cores);
  permute_update_of_rows(in_cores, seed, device, permuted);
  const std::vector<Check> checks = stage_checks(in_cores, seed);
  ASSERT_TRUE(compare(checks, permuted.reader()).ok);
  auto* z = reinterpret_cast<float*>(permuted.data(Buffer::update_z));
  // Always sampled: the first and the last feature, before the first chunk's end.
  for (const int feature : {0, 15}) {
    for (int other = 0; other < 16; ++other) {
      float& entry = z[denominator_share(feature, other, 16)];
      const float right = entry;
      entry += 0.25f * z[denominator_share(feature, feature, 16)];  // of the largest entry
      const Verdict verdict = compare(checks, permuted.reader());
      EXPECT_FALSE(verdict.ok) << "entry " << feature << ", " << other;
      EXPECT_NE(verdict.reason.find("update_z"), std::string::npos) << verdict.reason;
      entry = right;
    }
  }
  // Rows of d entries one after another are another layout.
  const std::vector<float> matrix(z, z + 16 * 16);
  for (int feature = 0; feature < 16; ++feature)
    for (int other = 0; other < 16; ++other)
      z[feature * 16 + other] = matrix[static_cast<std::size_t>(denominator_share(feature, other, 16))];
  EXPECT_FALSE(compare(checks, permuted.reader()).ok);
}

// Nobody needs what the last chunk adds if there is no final state: of the matrix too, that alone may be left unwritten.
TEST(StageOracleInCores, TheLastChunksShareIsNeededForAFinalStateAlone) {
  Problem problem = kProblem;
  problem.final_state = false;
  const StageProblem in_cores = stage_of(Fusion::expand_mma, Stage::update_state, Path::sm90, problem);
  HostDevice device(in_cores);
  auto* z = static_cast<float*>(device.allocate(Buffer::update_z));
  const std::int64_t entries = 16 * 16, chunks = in_cores.chunks(), heads = problem.b * problem.hk;
  ASSERT_EQ(buffer_shape(Buffer::update_z, in_cores).count, heads * chunks * entries);
  for (std::int64_t i = 0; i < heads * chunks * entries; ++i) {
    if (i / entries % chunks < chunks - 1) z[i] = 1;
  }
  EXPECT_EQ(device.inspect(Buffer::update_z).unwritten, 0u);
  for (const std::int64_t needed : {std::int64_t{0}, entries * (chunks - 1) - 1, entries * chunks}) {
    std::memset(&z[needed], 0xff, 4);
    const Inspection seen = device.inspect(Buffer::update_z);
    EXPECT_EQ(seen.unwritten, 1u);
    EXPECT_EQ(seen.first_bad, needed);
    z[needed] = 1;
  }
}

// Of both in one kernel: what the kernels for rows make of the tokens, one after the other, are the same states, and the denominators of
// their rows the matrix, times how often the row's product of features stands for it.
TEST(StageOracleInCores, AcceptsTheStatesOfRowsAndTheirDenominatorsAsAMatrix) {
  const StageProblem updates = stage_of(Fusion::expand_mma, Stage::update_state), stage = stage_of(Fusion::expand_mma, Stage::scan);
  const StageProblem in_cores = stage_of(Fusion::update_scan, Stage::update_scan, Path::sm90);
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  HostDevice updated(updates), device(stage), permuted(in_cores);
  updated.fill_inputs(seed), device.fill_inputs(seed);
  run_rows(updated, updates, kUpdateKnobs, [](const Args& args) { update_state<update_config>(args); });
  for (const Buffer buffer : {Buffer::update, Buffer::update_z})
    std::memcpy(device.data(buffer), updated.data(buffer), static_cast<std::size_t>(buffer_shape(buffer, updates).size_bytes()));
  run_rows(device, stage, kScanKnobs, [](const Args& args) { scan<scan_config>(args); });

  const auto* state = static_cast<const u16*>(device.args().state);
  auto* cores = static_cast<u16*>(permuted.allocate(Buffer::state));
  for_each_state_value(stage, [&](std::int64_t row, std::int64_t core) { cores[core] = state[row]; });
  auto* z = static_cast<u16*>(permuted.allocate(Buffer::state_z));
  for_each_state_row(stage, [&](std::int64_t matrix, std::int64_t row, int i, int j) {
    float sum = 0;
    for (int term = 0; term < 3; ++term) sum += bf16_to_float(state[row * 24 + 16 + term]);
    const float value = i / 8 == j / 8 ? sum : sum / 2;  // tiles of 8: of two tiles, one order alone has a row
    for (const auto& [feature, other] : {std::pair(i, j), std::pair(j, i)}) {
      u16* const entry = z + matrix * 2 * 16 * 16;
      const u16 rounded = float_to_bf16(value);
      entry[denominator_element(feature, other, 0, 16)] = rounded;
      entry[denominator_element(feature, other, 1, 16)] = float_to_bf16(value - bf16_to_float(rounded));
    }
  });
  std::memcpy(permuted.allocate(Buffer::final_state), device.data(Buffer::final_state),
              static_cast<std::size_t>(buffer_shape(Buffer::final_state, stage).size_bytes()));
  const std::vector<Check> checks = stage_checks(in_cores, seed);
  const Verdict verdict = compare(checks, permuted.reader());
  EXPECT_TRUE(verdict.ok) << verdict.reason;
  for (const Buffer buffer : {Buffer::state, Buffer::state_z, Buffer::final_state})
    EXPECT_EQ(permuted.inspect(buffer).unwritten, 0u) << to_string(buffer);
  // One wrong entry of the always sampled rows, in either part, before the second chunk.
  for (const int feature : {0, 15}) {
    for (const int part : {0, 1}) {
      u16* const matrix = z + 2 * 16 * 16;
      u16& entry = matrix[denominator_element(feature, 15 - feature, part, 16)];
      const u16 right = entry;
      entry = float_to_bf16(bf16_to_float(right) + 0.25f * bf16_to_float(matrix[denominator_element(feature, feature, 0, 16)]));
      const Verdict refused = compare(checks, permuted.reader());
      EXPECT_FALSE(refused.ok) << "feature " << feature << " part " << part;
      EXPECT_NE(refused.reason.find("state_z"), std::string::npos) << refused.reason;
      entry = right;
    }
  }
}

/// Gives the kernel for rows the drawn states and denominator matrices of a stage in cores: one state row is one entry of the matrix, or
/// two that are multiplied with the same two features. `weights`: of the parts of an entry.
void give_states_in_rows(HostDevice& device, const StageProblem& in_cores, std::uint64_t seed, std::array<double, 2> weights = {1, 1}) {
  const InputTensor cores = input_tensor(Buffer::state, in_cores, seed, InputKind::normal);
  const InputTensor z = input_tensor(Buffer::state_z, in_cores, seed, InputKind::normal);
  const int d = static_cast<int>(in_cores.problem.d), tile = static_cast<int>(in_cores.shape.d_tile);
  const std::int64_t columns = state_columns(in_cores.problem, Path::sm80), e = in_cores.problem.e;
  auto* state = reinterpret_cast<u16*>(device.data(Buffer::state));
  for_each_state_value(
      in_cores, [&](std::int64_t row, std::int64_t core) { state[row] = float_to_bf16(static_cast<float>(input_value(cores, core))); });
  for_each_state_row(in_cores, [&](std::int64_t matrix, std::int64_t row, int i, int j) {
    double sum = 0;
    for (const int part : {0, 1}) {
      const auto entry = [&](int feature, int other) {
        return weights[static_cast<std::size_t>(part)] * input_value(z, matrix * 2 * d * d + denominator_element(feature, other, part, d));
      };
      sum += entry(i, j) + (i / tile == j / tile ? 0 : entry(j, i));  // (Within a tile both orders are rows.)
    }
    u16* const terms = state + row * columns + e;
    for (int term = 0; term < 8; ++term) {
      terms[term] = term < 3 ? float_to_bf16(static_cast<float>(sum)) : u16{0};
      sum -= bf16_to_float(terms[term]);
    }
  });
}

// The oracle for cores expects of a state what the kernel for rows makes of the same state in rows.
TEST(StageOracleInCores, ExpectsTheOutputOfTheSameStateInRows) {
  const StageProblem stage = stage_of(Fusion::expand_mma, Stage::query_state);
  const StageProblem in_cores = stage_of(Fusion::expand_mma, Stage::query_state, Path::sm90);
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  HostDevice device(stage);
  device.fill_inputs(seed);
  const std::vector<Check> checks = stage_checks(in_cores, seed);
  const auto run = [&] { run_rows(device, stage, kQueryKnobs, [](const Args& args) { query_state<query_config>(args); }); };
  run();
  EXPECT_FALSE(compare(checks, device.reader()).ok) << "states of either layout pass for the other's";
  give_states_in_rows(device, in_cores, seed);
  run();
  const Verdict verdict = compare(checks, device.reader());
  EXPECT_TRUE(verdict.ok) << verdict.reason;
  // Neither part of the matrix may be left out, nor taken twice.
  for (const auto& weights : {std::array{0.0, 1.0}, std::array{1.0, 0.0}, std::array{2.0, 1.0}, std::array{1.0, 2.0}}) {
    give_states_in_rows(device, in_cores, seed, weights);
    run();
    EXPECT_FALSE(compare(checks, device.reader()).ok) << "parts times " << weights[0] << " and " << weights[1];
  }
}

// The same of both products in one kernel: attention's partial results and the state are one output.
TEST(StageOracleInCores, ExpectsTheOutputOfAttentionAndTheSameStateInRows) {
  const StageProblem attend = stage_of(Fusion::attend_query, Stage::attend_query, Path::sm90);
  const StageProblem keys = stage_of(Fusion::expand_mma, Stage::attention), stage = stage_of(Fusion::expand_mma, Stage::query_state);
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  HostDevice attended(keys), device(stage);
  attended.fill_inputs(seed), device.fill_inputs(seed);
  run_rows(attended, keys, kAttentionKnobs, [](const Args& args) { attention<attention_config>(args); });
  for (const Buffer partial : {Buffer::partial, Buffer::row_sum})
    std::memcpy(device.data(partial), attended.data(partial), static_cast<std::size_t>(buffer_shape(partial, keys).size_bytes()));
  const std::vector<Check> checks = stage_checks(attend, seed);
  const auto run = [&] { run_rows(device, stage, kQueryKnobs, [](const Args& args) { query_state<query_config>(args); }); };
  give_states_in_rows(device, attend, seed);
  run();
  const Verdict verdict = compare(checks, device.reader());
  EXPECT_TRUE(verdict.ok) << verdict.reason;
  for (const auto& weights : {std::array{0.0, 1.0}, std::array{1.0, 0.0}}) {
    give_states_in_rows(device, attend, seed, weights);
    run();
    EXPECT_FALSE(compare(checks, device.reader()).ok) << "parts times " << weights[0] << " and " << weights[1];
  }
}

INSTANTIATE_TEST_SUITE_P(Sm80, StageOracle, testing::ValuesIn(cases()), [](const auto& c) { return std::string(c.param.name); });

}  // namespace
}  // namespace phitune
