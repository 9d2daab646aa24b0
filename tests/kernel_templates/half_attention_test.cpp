// The Hopper attention kernel in fp16, on the CPU emulator, against sums in double.
#include "kernel_templates/sm90/half_attention.cuh"

#include <gtest/gtest.h>

#include "kernel_templates/stage_template.hpp"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune::sm90 {
namespace {

using kernel_test::Array;
using kernel_test::Memory;
using kernel_test::run_on_host;
using kernel_test::test_seed;

struct Inputs {
  Problem problem;
  Array q, k, v, log_g;

  explicit Inputs(const Problem& p, double gate)
      : problem(p),
        q(Storage::bf16, p.b * p.t * p.hq * p.d),
        k(Storage::bf16, p.b * p.t * p.hk * p.d),
        v(Storage::bf16, p.b * p.t * p.hk * p.e),
        log_g(Storage::fp32, p.b * p.t * p.hk) {
    std::mt19937_64 rng(test_seed());
    q.fill_normal(rng), k.fill_normal(rng), v.fill_normal(rng);
    std::uniform_real_distribution<double> fall(-2 * gate, 0);
    log_g.fill([&] { return fall(rng); });
  }
  [[nodiscard]] std::int64_t key_row(std::int64_t b, std::int64_t t, std::int64_t h) const { return (b * problem.t + t) * problem.hk + h; }
};

/// Relative error of y, in L2; infinite where y is not a number.
template <HalfAttentionConfig C>
double run(const Inputs& in, unsigned blocks = 3) {
  const Problem& p = in.problem;
  Array y(Storage::bf16, p.b * p.t * p.hq * p.e), gates(Storage::fp32, p.b * p.hk * p.t * 2);
  const std::int64_t tiles = p.b * p.hk * half_tiles(static_cast<int>(p.t));
  Memory weighed(static_cast<std::size_t>(tiles * (half_tile_layout(C).bytes + 4)));
  std::uint32_t progress = 0;
  std::vector<double> sums(static_cast<std::size_t>(p.b * p.hk * p.t));
  for (std::int64_t b = 0; b < p.b; ++b)
    for (std::int64_t h = 0; h < p.hk; ++h) {
      double sum = 0;
      for (std::int64_t t = 0; t < p.t; ++t) {
        if (C.gated) sum += in.log_g.at(in.key_row(b, t, h));
        const std::int64_t at = (b * p.hk + h) * p.t + t;
        sums[static_cast<std::size_t>(at)] = sum;
        gates.floats()[2 * at] = static_cast<float>(sum);
        gates.floats()[2 * at + 1] = static_cast<float>(sum - static_cast<double>(static_cast<float>(sum)));
      }
    }
  Args args;
  bind_workspace(args, p, PlanShape{.fusion = Fusion::quadratic, .path = Path::sm90}, nullptr);
  args.q = in.q.data(), args.k = in.k.data(), args.v = in.v.data(), args.y = y.data(), args.gates = gates.floats();
  args.weighed = weighed.data(), args.progress = &progress;

  constexpr HalfAttentionLayout layout = half_attention_layout(C);
  Launch launch{.grid = {blocks, 1, 1}, .block = {static_cast<unsigned>(layout.threads), 1, 1}, .dynamic_shared_bytes = layout.shared_bytes};
  launch.cooperative = true;
  run_on_host(launch, [&] { half_attention<C>(args); }, {.seed = test_seed() | 1});

  std::vector<double> expected;
  for (std::int64_t b = 0; b < p.b; ++b)
    for (std::int64_t i = 0; i < p.t; ++i)
      for (std::int64_t hq = 0; hq < p.hq; ++hq) {
        const std::int64_t h = hq / (p.hq / p.hk);
        std::vector<double> sum(static_cast<std::size_t>(p.e));
        double total = 0;
        for (std::int64_t j = 0; j <= i; ++j) {
          double score = 0;
          for (std::int64_t n = 0; n < p.d; ++n) score += in.q.at(((b * p.t + i) * p.hq + hq) * p.d + n) * in.k.at(in.key_row(b, j, h) * p.d + n);
          const auto gate = [&](std::int64_t t) { return sums[static_cast<std::size_t>((b * p.hk + h) * p.t + t)]; };
          const double weight = std::pow(score, static_cast<double>(p.p)) * std::exp(gate(i) - gate(j));
          total += weight;
          for (std::int64_t n = 0; n < p.e; ++n) sum[static_cast<std::size_t>(n)] += weight * in.v.at(in.key_row(b, j, h) * p.e + n);
        }
        for (const double x : sum) expected.push_back(total == 0 ? 0 : x / total);
      }
  double errors = 0, squares = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = y.at(static_cast<std::int64_t>(i)) - expected[i];
    errors += error * error, squares += expected[i] * expected[i];
  }
  return std::isnan(errors) ? std::numeric_limits<double>::infinity() : std::sqrt(errors / squares);
}

Problem problem(std::int64_t b, std::int64_t t, std::int64_t hq, std::int64_t hk, std::int64_t d, std::int64_t e, std::int64_t p) {
  return {.b = b, .t = t, .hq = hq, .hk = hk, .d = d, .e = e, .p = p, .gated = true};
}

constexpr HalfAttentionConfig quartic{.d = 16, .e = 16, .p = 4, .gated = true, .warpgroups = 2, .stages = 3, .query_tiles = 2, .consumer_registers = 232, .loader_registers = 40};
constexpr HalfAttentionConfig wide{.d = 32, .e = 32, .p = 2, .gated = true, .warpgroups = 1, .stages = 3, .query_tiles = 1, .consumer_registers = 232, .loader_registers = 40};
// bf16 results alone have 1.7e-03; weights have 11 bits.
constexpr double tolerance = 2.2e-3;

TEST(HalfAttention, GivesTheNormalisedResult) {
  EXPECT_LT(run<quartic>(Inputs(problem(1, 900, 2, 1, 16, 16, 4), 0.005)), tolerance);
  EXPECT_LT(run<wide>(Inputs(problem(2, 500, 1, 1, 32, 32, 2), 0.005)), tolerance);
}

TEST(HalfAttention, MagnitudesOfKeysQueriesAndValues) {
  for (const double magnitude : {1e-18, 1e-6, 1e4, 1e15}) {
    Inputs in(problem(1, 300, 1, 1, 16, 16, 4), 0.005);
    for (std::int64_t i = 0; i < in.k.size(); ++i) in.k.set(i, in.k.at(i) * magnitude);
    for (std::int64_t i = 0; i < in.q.size(); ++i) in.q.set(i, in.q.at(i) / magnitude);
    for (std::int64_t i = 0; i < in.v.size(); ++i) in.v.set(i, in.v.at(i) * (magnitude > 1 ? magnitude : 1));
    EXPECT_LT(run<quartic>(in), tolerance) << magnitude;
  }
}

// What fp16 cannot hold is done again.
TEST(HalfAttention, GatesThatForgetAtOnce) {
  EXPECT_LT(run<quartic>(Inputs(problem(1, 300, 1, 1, 16, 16, 4), 3)), tolerance);
  EXPECT_LT(run<quartic>(Inputs(problem(1, 300, 1, 1, 16, 16, 4), 200)), tolerance);
}
TEST(HalfAttention, AKeyThatDwarfsAllOthersAndIsSeenByNobody) {
  Inputs in(problem(1, 300, 1, 1, 16, 16, 4), 0.005);
  for (std::int64_t n = 0; n < 16; ++n) in.k.set(40 * 16 + n, n == 0 ? 1e6 : 0);
  for (std::int64_t t = 0; t < 300; ++t) in.q.set(t * 16, 0);
  EXPECT_LT(run<quartic>(in), tolerance);
}
TEST(HalfAttention, TinyValues) {
  Inputs in(problem(1, 300, 1, 1, 16, 16, 4), 0.005);
  for (std::int64_t i = 0; i < in.v.size(); ++i) in.v.set(i, in.v.at(i) * 1e-4);
  EXPECT_LT(run<quartic>(in), tolerance);
}
TEST(HalfAttention, RowsAndKeysOfZerosAreZeros) {
  Inputs in(problem(1, 300, 1, 1, 16, 16, 4), 0.005);
  for (std::int64_t t = 200; t < 300; ++t)
    for (std::int64_t n = 0; n < 16; ++n) in.q.set(t * 16 + n, 0);
  for (std::int64_t t = 0; t < 130; ++t)
    for (std::int64_t n = 0; n < 16; ++n) in.k.set(t * 16 + n, 0);
  EXPECT_LT(run<quartic>(in), tolerance);
}

}  // namespace
}  // namespace phitune::sm90
