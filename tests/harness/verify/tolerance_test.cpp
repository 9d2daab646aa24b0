// Protects the table of tolerances: it is neither looser nor tighter than what the best possible computation in each dtype needs.
#include "harness/verify/tolerance.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "harness/verify/inputs.hpp"
#include "harness/verify/oracle.hpp"
#include "kernel_templates/common/tspow.cuh"

namespace phitune {
namespace {

constexpr std::uint64_t kSeed = 20250807;
constexpr std::int64_t kChunk = 64;

/// Roundings of a computation: of operands of the matrix units, of states and partial outputs between kernels, of the output.
struct Arithmetic {
  Dtype operand, storage, output;
};

double to_operand(Dtype operand, double x) {
  // tf32 has fp16's significand and fp32's range.
  return operand == Dtype::fp16 ? bits_float(round_tf32(static_cast<float>(x))) : round_to(operand, x);
}

struct Measured {
  double relative_l2 = 0, worst_row = 0;
};

class Simulation {
 public:
  Simulation(Problem problem, Arithmetic arithmetic)
      : p_(problem), a_(arithmetic), stage_{.problem = problem, .shape = {.fusion = Fusion::quadratic}, .stage = Stage::attention} {
    rows_ = state_rows(p_.d, p_.p, 1);
    for (std::int64_t t = 0; t < p_.t; ++t) {
      q_.push_back(row(Buffer::q, t, p_.d));
      k_.push_back(row(Buffer::k, t, p_.d));
      v_.push_back(row(Buffer::v, t, p_.e));
    }
    gates_ = cumulative_gates(stage_, kSeed, InputKind::normal, 0, 0, 0, p_.t);
  }

  /// Every row of the last chunk, by the state form, against float64.
  Measured measure() {
    const std::int64_t begin = p_.t - kChunk;
    const std::vector<std::vector<double>> state = state_before(begin);
    double error2 = 0, norm2 = 0;
    Measured measured;
    for (std::int64_t i = begin; i < p_.t; ++i) {
      const std::vector<double> got = output(state, begin, i);
      std::vector<QueryRow> reference{{.token = i, .head = 0, .numerator = {}}};
      attend(stage_, kSeed, InputKind::normal, 0, 0, 0, reference, false);
      double row_error2 = 0, row_norm2 = 0;
      for (std::int64_t c = 0; c < p_.e; ++c) {
        const double want = reference[0].numerator[c] / (sum() ? reference[0].denominator : 1);
        row_error2 += (got[c] - want) * (got[c] - want);
        row_norm2 += want * want;
      }
      error2 += row_error2;
      norm2 += row_norm2;
      measured.worst_row = std::max(measured.worst_row, std::sqrt(row_error2 / row_norm2));
    }
    measured.relative_l2 = std::sqrt(error2 / norm2);
    return measured;
  }

 private:
  [[nodiscard]] bool sum() const { return p_.normalisation == Normalisation::sum; }

  std::vector<double> row(Buffer buffer, std::int64_t token, std::int64_t width) const {
    std::vector<double> out(width);
    input_row(input_tensor(buffer, stage_, kSeed, InputKind::normal), token * width, out);
    return out;
  }

  /// phi with one rounding per factor; `gate` is folded into the first.
  double feature(const std::vector<double>& x, std::int64_t r, double gate) const {
    const tspow::Indices indices = tspow::decode(static_cast<int>(r), static_cast<int>(p_.p), 1);
    double value = gate == 1 ? x[indices.i[0]] : to_operand(a_.operand, gate * x[indices.i[0]]);
    for (std::int64_t i = 1; i < p_.p; ++i) value = to_operand(a_.operand, value * x[indices.i[i]]);
    return value;
  }

  /// S: chunk updates rounded as stored, scanned, times multiplicity and scale^p, rounded as stored; the last column is z, kept in full.
  std::vector<std::vector<double>> state_before(std::int64_t begin) const {
    std::vector<std::vector<double>> state(rows_, std::vector<double>(p_.e + 1, 0.0));
    for (std::int64_t first = 0; first < begin; first += kChunk) {
      const double end_gate = gates_[first + kChunk - 1], decay = first == 0 ? 1 : std::exp(end_gate - gates_[first - 1]);
      for (std::int64_t r = 0; r < rows_; ++r) {
        std::vector<double> update(p_.e + 1, 0.0);
        for (std::int64_t j = first; j < first + kChunk; ++j) {
          const double x = feature(k_[j], r, p_.gated ? std::exp(end_gate - gates_[j]) : 1);
          for (std::int64_t c = 0; c < p_.e; ++c) update[c] += x * v_[j][c];
          update[p_.e] += x;
        }
        for (std::int64_t c = 0; c < p_.e; ++c) state[r][c] = decay * state[r][c] + round_to(a_.storage, update[c]);
        state[r][p_.e] = decay * state[r][p_.e] + update[p_.e];
      }
    }
    for (std::int64_t r = 0; r < rows_; ++r) {
      const tspow::Indices indices = tspow::decode(static_cast<int>(r), static_cast<int>(p_.p), 1);
      const double factor = tspow::multiplicity(indices, static_cast<int>(p_.p), 1) * std::pow(p_.scale(), double(p_.p));
      for (std::int64_t c = 0; c < p_.e; ++c) state[r][c] = to_operand(a_.operand, round_to(a_.storage, state[r][c] * factor));
      state[r][p_.e] *= factor;
    }
    return state;
  }

  std::vector<double> output(const std::vector<std::vector<double>>& state, std::int64_t begin, std::int64_t i) const {
    std::vector<double> partial(p_.e, 0.0), from_state(p_.e + 1, 0.0);
    double row_sum = 0;
    for (std::int64_t j = begin; j <= i; ++j) {
      double score = 0;
      for (std::int64_t f = 0; f < p_.d; ++f) score += q_[i][f] * k_[j][f];
      const double w = std::pow(p_.scale() * score, double(p_.p)) * std::exp(gates_[i] - gates_[j]);
      row_sum += w;
      for (std::int64_t c = 0; c < p_.e; ++c) partial[c] += to_operand(a_.operand, w) * v_[j][c];
    }
    for (std::int64_t r = 0; r < rows_; ++r) {
      const double x = feature(q_[i], r, 1);
      for (std::int64_t c = 0; c <= p_.e; ++c) from_state[c] += x * state[r][c];
    }
    const double gate = std::exp(gates_[i] - gates_[begin - 1]);
    for (std::int64_t c = 0; c < p_.e; ++c) {
      const double numerator = round_to(a_.storage, partial[c]) + gate * from_state[c];
      partial[c] = round_to(a_.output, numerator / (sum() ? row_sum + gate * from_state[p_.e] : 1));
    }
    return partial;
  }

  Problem p_;
  Arithmetic a_;
  StageProblem stage_;
  std::int64_t rows_ = 0;
  std::vector<std::vector<double>> q_, k_, v_;
  std::vector<double> gates_;
};

Measured worst_of_all_degrees(Dtype dtype) {
  const Arithmetic arithmetic =
      dtype == Dtype::bf16 ? Arithmetic{Dtype::bf16, Dtype::bf16, Dtype::bf16} : Arithmetic{Dtype::fp16, Dtype::fp32, Dtype::fp16};
  Measured worst;
  for (std::int64_t p = 1; p <= 4; ++p) {
    for (const bool sum : {false, true}) {
      if (sum && p % 2 == 1) continue;
      const Problem problem{.t = 4 * kChunk,
                            .d = p <= 2 ? 64 : 16,
                            .e = p <= 2 ? 64 : 16,
                            .p = p,
                            .dtype = dtype,
                            .gated = true,
                            .normalisation = sum ? Normalisation::sum : Normalisation::none};
      const Measured measured = Simulation(problem, arithmetic).measure();
      std::printf("%s: relative l2 %.3g, worst row %.3g\n", problem.key().c_str(), measured.relative_l2, measured.worst_row);
      worst.relative_l2 = std::max(worst.relative_l2, measured.relative_l2);
      worst.worst_row = std::max(worst.worst_row, measured.worst_row);
    }
  }
  return worst;
}

class Table : public testing::TestWithParam<Dtype> {};

TEST_P(Table, IsOneAndAQuarterToFourTimesTheBestPossibleError) {
  const Measured best = worst_of_all_degrees(GetParam());
  const Tolerance bound = tolerance_of(GetParam());
  EXPECT_GE(bound.relative_l2, 1.25 * best.relative_l2);
  EXPECT_LE(bound.relative_l2, 4 * best.relative_l2);
  EXPECT_GE(bound.worst_row, 1.25 * best.worst_row);
  EXPECT_LE(bound.worst_row, 4 * best.worst_row);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Table, testing::Values(Dtype::bf16, Dtype::fp16),
                         [](const auto& dtype) { return std::string(to_string(dtype.param)); });

// Row sums: scores and sums in plain fp32, one after another. Tensor cores cut off low bits as they add, hence the wider factor.
TEST(Table, Fp32SumsAreWithinSixtyFourTimesPlainFp32) {
  double worst = 0;
  for (std::int64_t p = 1; p <= 4; ++p) {
    const Problem problem{.t = 512, .d = 64, .e = 64, .p = p, .gated = false, .normalisation = Normalisation::none};
    const StageProblem stage{.problem = problem, .shape = {.fusion = Fusion::quadratic}, .stage = Stage::attention};
    const InputTensor q = input_tensor(Buffer::q, stage, kSeed, InputKind::normal),
                      k = input_tensor(Buffer::k, stage, kSeed, InputKind::normal);
    std::vector<double> query(64), key(64);
    double error2 = 0, norm2 = 0;
    for (std::int64_t i = 256; i < 512; ++i) {
      input_row(q, i * 64, query);
      double exact = 0;
      float rounded = 0;
      for (std::int64_t j = 0; j <= i; ++j) {
        input_row(k, j * 64, key);
        double score = 0;
        float single = 0;
        for (std::size_t f = 0; f < 64; ++f) {
          score += query[f] * key[f];
          single += static_cast<float>(query[f]) * static_cast<float>(key[f]);
        }
        float weight = 1;
        for (std::int64_t n = 0; n < p; ++n) weight *= single * static_cast<float>(problem.scale());
        exact += std::pow(score * problem.scale(), double(p));
        rounded += weight;
      }
      error2 += (rounded - exact) * (rounded - exact);
      norm2 += exact * exact;
    }
    worst = std::max(worst, std::sqrt(error2 / norm2));
  }
  std::printf("fp32 sums: relative l2 %.3g\n", worst);
  EXPECT_GE(tolerance_of(Dtype::fp32).relative_l2, 4 * worst);
  EXPECT_LE(tolerance_of(Dtype::fp32).relative_l2, 64 * worst);
}

}  // namespace
}  // namespace phitune
