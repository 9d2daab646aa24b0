// Protects the oracle itself: it agrees with power attention computed another way, token by token through exact states.
#include "harness/verify/oracle.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include <cmath>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <random>

namespace phitune {
namespace {

/// Every sorted tuple of p features below d, in colexicographic order.
std::vector<std::vector<int>> tuples(int d, int p) {
  if (p == 0) return {{}};
  std::vector<std::vector<int>> out;
  for (int last = 0; last < d; ++last) {
    for (std::vector<int> head : tuples(last + 1, p - 1)) {
      head.push_back(last);
      out.push_back(std::move(head));
    }
  }
  return out;
}

double orderings(const std::vector<int>& tuple) {
  double count = std::tgamma(static_cast<double>(tuple.size()) + 1);
  std::map<int, int> repeats;
  for (const int i : tuple) ++repeats[i];
  for (const auto& [feature, n] : repeats) count /= std::tgamma(n + 1.0);
  return count;
}

/// y and the final state by the recurrent form: S decays by exp(log_g) and takes in phi(k) [v, 1] at each token. It sums D terms of mixed sign
/// where the quadratic form raises one small number to a power, so it needs long double's digits to be the more exact of the two.
struct Recurrent {
  std::vector<double> y, final_state;
};

Recurrent run_recurrent(const Problem& p, std::uint64_t seed, InputKind kind) {
  const StageProblem stage{.problem = p, .shape = {.fusion = Fusion::quadratic}};
  const auto tensor = [&](Buffer buffer) { return input_tensor(buffer, stage, seed, kind); };
  const auto index = tuples(static_cast<int>(p.d), static_cast<int>(p.p));
  const std::int64_t rows = static_cast<std::int64_t>(index.size()), width = p.e + 1;
  const BufferShape y = buffer_shape(Buffer::y, stage);
  Recurrent out{.y = std::vector<double>(static_cast<std::size_t>(y.count)), .final_state = {}};
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t hk = 0; hk < p.hk; ++hk) {
      std::vector<double> initial(static_cast<std::size_t>(rows * width), 0.0);
      if (p.initial_state) input_row(tensor(Buffer::initial_state), (b * p.hk + hk) * rows * width, initial);
      std::vector<long double> state(initial.begin(), initial.end());
      for (std::int64_t token = 0; token < p.t; ++token) {
        const std::int64_t row = (b * p.t + token) * p.hk + hk;
        std::vector<double> key(static_cast<std::size_t>(p.d)), value(static_cast<std::size_t>(p.e));
        input_row(tensor(Buffer::k), row * p.d, key);
        input_row(tensor(Buffer::v), row * p.e, value);
        value.push_back(1);
        const long double decay = p.gated ? std::exp(static_cast<long double>(input_value(tensor(Buffer::log_g), row))) : 1;
        for (std::int64_t r = 0; r < rows; ++r) {
          long double phi = 1;
          for (const int i : index[static_cast<std::size_t>(r)]) phi *= key[static_cast<std::size_t>(i)];
          for (std::int64_t c = 0; c < width; ++c) {
            long double& s = state[static_cast<std::size_t>(r * width + c)];
            s = decay * s + phi * value[static_cast<std::size_t>(c)];
          }
        }
        for (std::int64_t head = hk * (p.hq / p.hk); head < (hk + 1) * (p.hq / p.hk); ++head) {
          std::vector<double> query(static_cast<std::size_t>(p.d));
          std::vector<long double> sums(static_cast<std::size_t>(width), 0.0L);
          input_row(tensor(Buffer::q), ((b * p.t + token) * p.hq + head) * p.d, query);
          for (std::int64_t r = 0; r < rows; ++r) {
            long double phi = orderings(index[static_cast<std::size_t>(r)]) * std::pow(p.scale(), static_cast<double>(p.p));
            for (const int i : index[static_cast<std::size_t>(r)]) phi *= query[static_cast<std::size_t>(i)];
            for (std::int64_t c = 0; c < width; ++c)
              sums[static_cast<std::size_t>(c)] += phi * state[static_cast<std::size_t>(r * width + c)];
          }
          const long double denominator = p.normalisation == Normalisation::sum ? sums.back() : 1;
          for (std::int64_t c = 0; c < p.e; ++c) {
            out.y[static_cast<std::size_t>(b * y.strides.b + token * y.strides.t + head * y.strides.h + c)] =
                static_cast<double>(denominator == 0 ? 0 : sums[static_cast<std::size_t>(c)] / denominator);
          }
        }
      }
      for (const long double moment : state) out.final_state.push_back(static_cast<double>(moment));
    }
  }
  return out;
}

struct OracleCase {
  std::string name;
  Problem problem;
  InputKind kind = InputKind::normal;
};

class PlanOracle : public testing::TestWithParam<OracleCase> {};

TEST_P(PlanOracle, AgreesWithTheRecurrentForm) {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  const Problem& problem = GetParam().problem;
  const Recurrent expected = run_recurrent(problem, seed, GetParam().kind);
  int rows = 0;
  for (const Check& check : plan_checks(problem, seed, GetParam().kind)) {
    const std::vector<double>& whole = check.buffer == Buffer::y ? expected.y : expected.final_state;
    for (const CheckRow& row : check.rows) {
      double scale = 0;
      for (const double x : row.reference) scale = std::max(scale, std::abs(x));
      for (std::size_t i = 0; i < row.reference.size(); ++i) {
        ASSERT_NEAR(row.reference[i], whole[static_cast<std::size_t>(row.offset) + i], 1e-9 * scale + 1e-14)
            << to_string(check.buffer) << " offset " << row.offset << " value " << i;
      }
      ++rows;
    }
  }
  EXPECT_GE(rows, problem.t == 1 ? 2 : 10);
}

Problem base() { return {.b = 2, .t = 70, .hq = 4, .hk = 2, .d = 16, .e = 16, .p = 2, .gated = true, .normalisation = Normalisation::sum}; }

std::vector<OracleCase> oracle_cases() {
  std::vector<OracleCase> out{{.name = "headline", .problem = base()}};
  const auto add = [&out](const char* name, const std::function<void(Problem&)>& change, InputKind kind = InputKind::normal) {
    out.push_back({.name = name, .problem = base(), .kind = kind});
    change(out.back().problem);
  };
  add("ungated_bhtd", [](Problem& p) { p.gated = false, p.layout = Layout::bhtd; });
  add("linear", [](Problem& p) { p.p = 1, p.normalisation = Normalisation::none; });
  add("cubic_both_states", [](Problem& p) { p.p = 3, p.normalisation = Normalisation::none, p.initial_state = p.final_state = true; });
  add("both_states", [](Problem& p) { p.e = 32, p.initial_state = p.final_state = true; });
  add("one_token", [](Problem& p) { p.t = 1, p.initial_state = true; });
  add("quartic", [](Problem& p) { p.p = 4, p.b = 1, p.t = 40; });
  add(
      "zero_queries", [](Problem&) {}, InputKind::zero_queries);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Problems, PlanOracle, testing::ValuesIn(oracle_cases()), [](const auto& c) { return c.param.name; });

TEST(PlanOracleSamples, AlwaysHoldTheEdges) {
  const Problem problem{.t = 5000, .hq = 1, .hk = 1, .d = 16, .e = 16};
  std::vector<std::int64_t> tokens;
  const std::vector<Check> checks = plan_checks(problem, 7, InputKind::normal);
  for (const CheckRow& row : checks.front().rows) tokens.push_back(row.offset / 16);
  for (const std::int64_t token : {0, 1, 63, 64, 1023, 1024, 4095, 4096, 4999}) {
    EXPECT_NE(std::ranges::find(tokens, token), tokens.end()) << token;
  }
}

// References beyond what the output can hold would make a right answer look wrong; none of the kinds may produce them.
TEST(AdversarialInputs, StayWithinTheirDtype) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::fp16}) {
    for (std::int64_t p = 1; p <= 4; ++p) {
      for (const Normalisation normalisation : {Normalisation::none, Normalisation::sum}) {
        if (normalisation == Normalisation::sum && p % 2 == 1) continue;
        for (const InputKind kind : adversarial_kinds()) {
          const Problem problem{.t = 2000, .hq = 1, .hk = 1, .d = 32, .e = 32, .p = p, .dtype = dtype, .normalisation = normalisation};
          int kept = 0, all = 0;
          const std::vector<Check> checks = plan_checks(problem, 3, kind);
          for (const CheckRow& row : checks.front().rows) {
            bool fits = true;
            for (const double x : row.reference) fits = fits && std::abs(x) < largest(dtype);
            kept += fits, ++all;
            EXPECT_GE(row.condition, 0);
          }
          EXPECT_GT(kept, 3 * all / 4) << problem.key() << " " << to_string(kind);
        }
      }
    }
  }
}

TEST(AdversarialInputs, AZeroQueryMustGiveExactlyZero) {
  const Problem problem{.t = 300, .hq = 1, .hk = 1, .d = 16, .e = 16};
  std::vector<Check> checks = plan_checks(problem, 5, InputKind::zero_queries);
  std::erase_if(checks.front().rows, [](const CheckRow& row) { return row.condition > 0; });
  ASSERT_GT(checks.front().rows.size(), 2u);
  const auto filled = [](u16 bits) {
    return [bits](Buffer, std::int64_t, std::int64_t count, void* out) {
      for (std::int64_t i = 0; i < count; ++i) std::memcpy(static_cast<char*>(out) + 2 * i, &bits, 2);
    };
  };
  EXPECT_TRUE(compare(checks, filled(0)).ok);
  EXPECT_FALSE(compare(checks, filled(float_to_bf16(1e-20f))).ok);
  EXPECT_FALSE(compare(checks, filled(0x7fff)).ok);
}

}  // namespace
}  // namespace phitune
