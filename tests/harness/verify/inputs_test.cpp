// Protects the agreement of the CPU with the device on every input, and the distributions that make them worth testing with.
#include "harness/verify/inputs.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <iostream>
#include <random>
#include <set>

#include "host_device.hpp"

namespace phitune {
namespace {

std::uint64_t fresh_seed() {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  return seed;
}

StageProblem small(Layout layout, Dtype dtype) {
  const Problem problem{.b = 2,
                        .t = 37,
                        .hq = 4,
                        .hk = 2,
                        .d = 16,
                        .e = 32,
                        .p = 3,
                        .dtype = dtype,
                        .gated = true,
                        .normalisation = Normalisation::none,
                        .layout = layout,
                        .initial_state = true};
  return {.problem = problem,
          .shape = {.fusion = Fusion::expand_mma, .chunk = 16, .d_tile = 4, .state = Dtype::fp32, .partial = Dtype::fp32}};
}

// The fill kernel is the GPU's, run on the emulator: every element of every tensor, in both layouts, bit for bit.
TEST(Inputs, DeviceAndOracleAgreeOnEveryElement) {
  const std::uint64_t seed = fresh_seed();
  for (const Layout layout : {Layout::bthd, Layout::bhtd}) {
    for (const Dtype dtype : {Dtype::bf16, Dtype::fp16}) {
      std::vector<InputKind> kinds = adversarial_kinds();
      kinds.push_back(InputKind::normal);
      for (const InputKind kind : kinds) {
        const StageProblem stage = small(layout, dtype);
        for (const Buffer buffer : {Buffer::q, Buffer::k, Buffer::v, Buffer::log_g, Buffer::initial_state, Buffer::update, Buffer::state}) {
          const InputTensor tensor = input_tensor(buffer, stage, seed, kind);
          const auto size = static_cast<std::size_t>(bytes(tensor.shape.dtype));
          std::vector<char> memory(static_cast<std::size_t>(tensor.shape.count) * size, '\xff');
          verify_test::run_utility_on_host(fill_call(tensor, memory.data()), 2);
          for (std::int64_t i = 0; i < tensor.shape.count; ++i) {
            const std::int64_t row = i / tensor.shape.width, token_row = row / tensor.shape.heads;
            const Strides& s = tensor.shape.strides;
            const std::int64_t address = token_row / tensor.shape.t * s.b + token_row % tensor.shape.t * s.t +
                                         row % tensor.shape.heads * s.h + i % tensor.shape.width;
            const double filled = decode(tensor.shape.dtype, memory.data() + static_cast<std::size_t>(address) * size);
            const double expected = input_value(tensor, i);
            ASSERT_TRUE(filled == expected || (std::isnan(filled) && std::isnan(expected)))
                << to_string(buffer) << " " << to_string(kind) << " element " << i << ": " << filled << " and " << expected;
          }
        }
      }
    }
  }
}

// Which memory holds the columns past e depends on the layout: the fill kernel, the oracle and state_layout.cuh must mean the same.
TEST(Inputs, StatesInCoresKeepTheirColumnsApart) {
  StageProblem stage = small(Layout::bthd, Dtype::bf16);
  // (Of degree 2 denominators are a matrix.)
  stage.problem.b = 1, stage.problem.e = 16, stage.problem.p = 4;
  stage.problem.normalisation = Normalisation::sum, stage.problem.initial_state = false;
  stage.shape.state = Dtype::bf16, stage.shape.path = Path::sm90, stage.shape.d_tile = 2;
  const std::uint64_t seed = fresh_seed();
  const std::int64_t rows = stage.rows(), columns = stage.problem.e + 8;
  for (const Buffer buffer : {Buffer::update, Buffer::state}) {
    const InputTensor tensor = input_tensor(buffer, stage, seed, InputKind::normal);
    std::vector<u16> memory(static_cast<std::size_t>(tensor.shape.count));
    verify_test::run_utility_on_host(fill_call(tensor, memory.data()), 2);
    for (std::int64_t matrix = 0; matrix < tensor.shape.count / (rows * columns); ++matrix) {
      for (std::int64_t position = 0; position < rows; ++position) {
        for (std::int64_t column = 0; column < columns; ++column) {
          const std::int64_t at =
              matrix * rows * columns + core_element(static_cast<int>(position), static_cast<int>(column), static_cast<int>(columns));
          const double filled = decode(Dtype::bf16, &memory[static_cast<std::size_t>(at)]), expected = input_value(tensor, at);
          const auto where = [&] { return fmt::format("{} {} position {} column {}", to_string(buffer), matrix, position, column); };
          ASSERT_TRUE(filled == expected || (std::isnan(filled) && std::isnan(expected)))
              << filled << " and " << expected << ", " << where();
          if (buffer == Buffer::update) {
            ASSERT_EQ(std::isnan(filled), column >= stage.problem.e) << where();
          } else {
            const bool before_all = matrix % stage.chunks() == 0;
            ASSERT_EQ(filled == 0, before_all || column >= stage.problem.e + 3) << where();
          }
        }
      }
    }
  }
}

/// States in cores of degree 2 with denominators, as a stage that reads them has them.
StageProblem matrix_stage(Stage reader, bool initial_state) {
  StageProblem stage = small(Layout::bthd, Dtype::bf16);
  stage.stage = reader, stage.path = Path::sm90;
  stage.problem.d = 32, stage.problem.p = 2, stage.problem.normalisation = Normalisation::sum, stage.problem.initial_state = initial_state;
  stage.shape.state = Dtype::bf16, stage.shape.path = Path::sm90;
  return stage;
}

// The fill kernel, the oracle and state_layout.cuh must mean the same entries and parts, and nothing stands before the first chunk.
TEST(Inputs, DenominatorMatricesAreZeroOnlyBeforeAllTokens) {
  const std::uint64_t seed = fresh_seed();
  for (const Stage reader : {Stage::query_state, Stage::attend_query}) {
    for (const bool initial_state : {false, true}) {
      const StageProblem stage = matrix_stage(reader, initial_state);
      const InputTensor tensor = input_tensor(Buffer::state_z, stage, seed, InputKind::normal);
      const int d = static_cast<int>(stage.problem.d);
      ASSERT_EQ(tensor.shape.dtype, Dtype::bf16);
      ASSERT_EQ(tensor.shape.count, 2 * 2 * stage.chunks() * 2 * d * d);
      std::vector<u16> memory(static_cast<std::size_t>(tensor.shape.count));
      verify_test::run_utility_on_host(fill_call(tensor, memory.data()), 2);
      double squares[2] = {}, diagonal = 0;
      int diagonals = 0;
      for (std::int64_t matrix = 0; matrix < 2 * 2 * stage.chunks(); ++matrix) {
        const bool before_all = !initial_state && matrix % stage.chunks() == 0;
        for (int feature = 0; feature < d; ++feature) {
          for (int other = 0; other < d; ++other) {
            for (const int part : {0, 1}) {
              const std::int64_t at = matrix * 2 * d * d + denominator_element(feature, other, part, d);
              const double filled = decode(Dtype::bf16, &memory[static_cast<std::size_t>(at)]);
              const auto where = [&] { return fmt::format("matrix {} entry {}, {} part {}", matrix, feature, other, part); };
              ASSERT_EQ(filled, input_value(tensor, at)) << where();
              ASSERT_EQ(filled == 0, before_all) << where();
              if (before_all) continue;
              if (feature == other && part == 0)
                diagonal += filled, ++diagonals;
              else
                squares[part] += filled * filled;
            }
          }
        }
      }
      // Both parts are alike, or one of them could be left out unseen: variance 1 / d^2. Where keys have no say beside the state, the sum
      // on the diagonal cannot be cancelled by the rest. Six standard errors.
      const double each = diagonals / d * d * d;
      for (const double sum : {squares[0] * d / (d - 1), squares[1]}) EXPECT_NEAR(sum / each * d * d, 1, 6 * 1.3 / std::sqrt(each));
      EXPECT_NEAR(diagonal / diagonals * d, reader == Stage::attend_query ? 32 : 0, 6 / std::sqrt(diagonals));
    }
  }
}

// What follows from it: the denominators that attend_query meets are all well above zero, without a row_sum beside them.
TEST(Inputs, DenominatorMatricesAreNotCancelledByAnyQuery) {
  const StageProblem stage = matrix_stage(Stage::attend_query, true);
  const std::uint64_t seed = fresh_seed();
  const InputTensor z = input_tensor(Buffer::state_z, stage, seed, InputKind::normal);
  const InputTensor q = input_tensor(Buffer::q, stage, seed, InputKind::normal);
  const int d = static_cast<int>(stage.problem.d);
  for (std::int64_t row = 0; row < 40; ++row) {
    double squares = 0, sum = 0;
    for (int i = 0; i < d; ++i) {
      const double x = input_value(q, row * d + i);
      squares += x * x;
      for (int j = 0; j < d; ++j) {
        for (const int part : {0, 1})
          sum += x * input_value(q, row * d + j) * input_value(z, row % 8 * 2 * d * d + denominator_element(i, j, part, d));
      }
    }
    EXPECT_GT(sum, 16 * squares / d) << "query " << row;
  }
}

// What a chunk adds to a matrix is fp32, and all of it counts.
TEST(Inputs, SharesOfADenominatorMatrixAreAllDrawn) {
  const StageProblem stage = matrix_stage(Stage::scan, false);
  const InputTensor shares = input_tensor(Buffer::update_z, stage, fresh_seed(), InputKind::normal);
  EXPECT_EQ(shares.shape.dtype, Dtype::fp32);
  ASSERT_EQ(shares.shape.count, 2 * 2 * stage.chunks() * 32 * 32);
  std::vector<float> memory(static_cast<std::size_t>(shares.shape.count));
  verify_test::run_utility_on_host(fill_call(shares, memory.data()), 2);
  for (std::int64_t i = 0; i < shares.shape.count; ++i) {
    ASSERT_EQ(memory[static_cast<std::size_t>(i)], input_value(shares, i));
    ASSERT_NE(memory[static_cast<std::size_t>(i)], 0);
  }
}

TEST(Inputs, NormalElementsHaveVarianceOneAndNoMean) {
  const InputTensor q = input_tensor(Buffer::q, small(Layout::bthd, Dtype::bf16), fresh_seed(), InputKind::normal);
  double sum = 0, square = 0, product = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double x = input_value(q, i);
    sum += x, square += x * x, product += x * input_value(q, i + 1);
  }
  // Six standard errors.
  EXPECT_NEAR(sum / n, 0, 6 / std::sqrt(n));
  EXPECT_NEAR(square / n, 1, 6 * 1.3 / std::sqrt(n));
  EXPECT_NEAR(product / n, 0, 6 / std::sqrt(n));
}

TEST(Inputs, GatesAreNegativeWithMemoryOfAHundredToFiveThousandTokens) {
  StageProblem stage = small(Layout::bthd, Dtype::bf16);
  stage.problem.t = 20000;
  const InputTensor log_g = input_tensor(Buffer::log_g, stage, fresh_seed(), InputKind::normal);
  for (std::int64_t head = 0; head < 2; ++head) {
    double sum = 0;
    for (std::int64_t token = 0; token < 20000; ++token) {
      const double gate = input_value(log_g, token * 2 + head);
      ASSERT_LE(gate, 0);
      sum += gate;
    }
    const double length = -20000 / sum;
    EXPECT_GT(length, 100);
    EXPECT_LT(length, 5000);
  }
}

TEST(Inputs, HeadsForgetAtDifferentRates) {
  StageProblem stage = small(Layout::bthd, Dtype::bf16);
  stage.problem.hq = stage.problem.hk = 8;
  const InputTensor log_g = input_tensor(Buffer::log_g, stage, fresh_seed(), InputKind::normal);
  double slowest = -1, fastest = 0;
  for (std::int64_t head = 0; head < 8; ++head) {
    double sum = 0;
    for (std::int64_t token = 0; token < 500; ++token) sum += input_value(log_g, token * 8 + head);
    slowest = std::max(slowest, sum / 500);
    fastest = std::min(fastest, sum / 500);
  }
  // Neighbouring rates differ by a factor of 2; all eight heads draw the same of six once in 280,000 seeds.
  EXPECT_LT(fastest, 1.5 * slowest);
}

TEST(Inputs, ExtremeGatesForgetAtOnceAndNever) {
  StageProblem stage = small(Layout::bthd, Dtype::bf16);
  stage.problem.t = 2000;
  const InputTensor log_g = input_tensor(Buffer::log_g, stage, fresh_seed(), InputKind::extreme_gates);
  int resets = 0, strong = 0, none = 0;
  for (std::int64_t i = 0; i < 4000; ++i) {
    const double gate = input_value(log_g, i);
    resets += gate == -10000, strong += gate == -30, none += gate == 0;
  }
  EXPECT_GT(resets, 10);
  EXPECT_GT(strong, 50);
  EXPECT_GT(none, 500);
}

// What a state must be decayed by at a chunk's end can be seen if that gate closes, and nothing else hides what was before it.
TEST(Inputs, ForEveryChunkSizeSomeHeadsCloseWithTheSecondChunkAlone) {
  StageProblem stage = small(Layout::bthd, Dtype::bf16);
  stage.problem.t = 10000;
  stage.problem.hq = stage.problem.hk = 4;
  std::set<std::int64_t> chunks;
  for (const PlanShape& shape : plan_shapes(Problem::parse("b1 t65536 h8 d64 p2 bf16")).shapes) {
    if (shape.chunk > 0) chunks.insert(shape.chunk);
  }
  ASSERT_TRUE(chunks.contains(768));
  const std::uint64_t seed = fresh_seed();
  const InputTensor log_g = input_tensor(Buffer::log_g, stage, seed, InputKind::closing_gates);
  const InputTensor normal = input_tensor(Buffer::log_g, stage, seed, InputKind::normal);
  for (std::int64_t b = 0; b < stage.problem.b; ++b) {
    for (const std::int64_t chunk : chunks) {
      int heads = 0;
      for (std::int64_t head = 0; head < stage.problem.hk; ++head) {
        std::vector<std::int64_t> closed;
        for (std::int64_t token = chunk / 2; token < 2 * chunk; ++token) {
          const std::int64_t index = (b * stage.problem.t + token) * stage.problem.hk + head;
          if (input_value(log_g, index) == -10000)
            closed.push_back(token);
          else
            ASSERT_EQ(input_value(log_g, index), input_value(normal, index)) << "token " << token << " of head " << head;
        }
        heads += closed == std::vector<std::int64_t>{2 * chunk - 1};
      }
      EXPECT_EQ(heads, 1) << "of 4, chunk " << chunk << " of batch entry " << b;
    }
  }
}

TEST(Inputs, ZeroQueriesAreWholeRowsAndOnlySome) {
  const InputTensor q = input_tensor(Buffer::q, small(Layout::bthd, Dtype::bf16), fresh_seed(), InputKind::zero_queries);
  int zero_rows = 0;
  const std::int64_t rows = q.shape.count / q.shape.width;
  for (std::int64_t row = 0; row < rows; ++row) {
    int zeros = 0;
    for (std::int64_t i = 0; i < q.shape.width; ++i) zeros += input_value(q, row * q.shape.width + i) == 0;
    ASSERT_TRUE(zeros == 0 || zeros == q.shape.width);
    zero_rows += zeros > 0;
  }
  EXPECT_GT(zero_rows, rows / 8);
  EXPECT_LT(zero_rows, rows / 2);
}

TEST(Inputs, NearOrthogonalKeysCancelButForFourFeatures) {
  const StageProblem stage = small(Layout::bthd, Dtype::bf16);
  const std::uint64_t seed = fresh_seed();
  const InputTensor q = input_tensor(Buffer::q, stage, seed, InputKind::near_orthogonal);
  const InputTensor k = input_tensor(Buffer::k, stage, seed, InputKind::near_orthogonal);
  double first = 0, rest = 0;
  for (std::int64_t i = 0; i < 16; ++i) (i < 4 ? first : rest) += input_value(q, i) * input_value(k, i);
  EXPECT_EQ(rest, 0);
  EXPECT_NE(first, 0);
}

// The initial state is the moments of a few known tokens, so its entries can be had another way: by features, not by rank.
TEST(Inputs, InitialStateIsTheMomentsOfItsPseudoTokens) {
  const StageProblem stage = small(Layout::bthd, Dtype::bf16);
  const InputTensor state = input_tensor(Buffer::initial_state, stage, fresh_seed(), InputKind::normal);
  const std::int64_t width = stage.problem.e + 1, rows = state_rows(16, 3, 1);
  for (std::int64_t head = 0; head < 4; ++head) {
    std::int64_t row = 0;
    // Colexicographic: the last feature is the slowest.
    for (int i3 = 0; i3 < 16; ++i3) {
      for (int i2 = 0; i2 <= i3; ++i2) {
        for (int i1 = 0; i1 <= i2; ++i1, ++row) {
          double z = 0, first = 0;
          for (int m = 0; m < inputs::kPseudoTokens; ++m) {
            double x = 1;
            for (const int i : {i1, i2, i3}) x *= inputs::pseudo_feature(state.spec, static_cast<u64>(head), m, i) / 4.0;
            z += x;
            first += x * inputs::pseudo_feature(state.spec, static_cast<u64>(head), m, 16) / 4.0;
          }
          ASSERT_EQ(input_value(state, (head * rows + row) * width), first);
          ASSERT_EQ(input_value(state, (head * rows + row) * width + width - 1), z);
        }
      }
    }
    EXPECT_EQ(row, rows);
  }
}

TEST(Inputs, EqualContentsHaveEqualKeysAndOthersDoNot) {
  const StageProblem stage = small(Layout::bthd, Dtype::bf16);
  StageProblem other_heads = stage;
  other_heads.problem.hq = other_heads.problem.hk;
  EXPECT_EQ(input_tensor(Buffer::k, stage, 1, InputKind::normal).key(), input_tensor(Buffer::k, other_heads, 1, InputKind::normal).key());
  EXPECT_NE(input_tensor(Buffer::q, stage, 1, InputKind::normal).key(), input_tensor(Buffer::q, other_heads, 1, InputKind::normal).key());
  EXPECT_NE(input_tensor(Buffer::k, stage, 1, InputKind::normal).key(), input_tensor(Buffer::k, stage, 2, InputKind::normal).key());
  EXPECT_NE(input_tensor(Buffer::k, stage, 1, InputKind::normal).key(), input_tensor(Buffer::v, stage, 1, InputKind::normal).key());
  EXPECT_NE(input_tensor(Buffer::k, stage, 1, InputKind::normal).key(),
            input_tensor(Buffer::k, small(Layout::bhtd, Dtype::bf16), 1, InputKind::normal).key());
  StageProblem cores = stage;
  cores.shape.path = Path::sm90;
  EXPECT_EQ(input_tensor(Buffer::k, stage, 1, InputKind::normal).key(), input_tensor(Buffer::k, cores, 1, InputKind::normal).key());
  EXPECT_NE(input_tensor(Buffer::state, stage, 1, InputKind::normal).key(), input_tensor(Buffer::state, cores, 1, InputKind::normal).key());
  const auto matrix_key = [](Stage reader, bool initial_state) {
    return input_tensor(Buffer::state_z, matrix_stage(reader, initial_state), 1, InputKind::normal).key();
  };
  EXPECT_NE(matrix_key(Stage::query_state, true), matrix_key(Stage::attend_query, true));
  EXPECT_NE(matrix_key(Stage::query_state, true), matrix_key(Stage::query_state, false));
}

}  // namespace
}  // namespace phitune
