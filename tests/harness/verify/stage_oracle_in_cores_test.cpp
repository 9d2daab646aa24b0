// Protects the verification of stages whose states lie in core matrices, with denominators as a matrix: the oracle expects there what the
// kernels for rows make of the same tokens, and refuses a result that is wrong in one place.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <iostream>
#include <random>

#include "kernel_templates/common/state_layout.cuh"
#include "stage_oracle_cases.hpp"

namespace phitune {
namespace {

using namespace verify_test;

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

}  // namespace
}  // namespace phitune
