// Cumulative gates, on the CPU emulator, against sums in extended precision.
#include "kernel_templates/sm80/gates.cuh"

#include <gtest/gtest.h>

#include "kernel_templates/sm80/gates.hpp"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::Array;
using kernel_test::run_on_host;
using kernel_test::test_seed;

StageProblem stage_problem(int b, int t, int hk, int chunk, Layout layout) {
  PlanShape shape{.fusion = Fusion::quadratic};
  if (chunk > 0) shape = {.chunk = chunk, .d_tile = 16};
  return {{.b = b, .t = t, .hq = hk, .hk = hk, .d = 16, .e = 16, .layout = layout}, shape, Stage::gates, Path::sm80};
}

// Largest distance of hi + lo from the exact sums, over the size of the sum.
template <GatesConfig C>
double worst_error(const StageProblem& s, const std::function<float(int)>& log_gate) {
  const Problem& p = s.problem;
  const std::int64_t count = p.b * p.hk * p.t;
  Array log_g(Storage::fp32, count), sums(Storage::fp32, 2 * count);
  for (std::int64_t i = 0; i < count; ++i) log_g.floats()[i] = log_gate(static_cast<int>(i));
  Args args;
  bind_workspace(args, p, s.shape, nullptr);
  args.log_g = log_g.floats(), args.gates = sums.floats();
  const Launch launch = gates_template().launch(s, {{"threads", C.threads}, {"items", C.items}, {"heads", C.heads}, {"segments", C.segments}});
  EXPECT_EQ(launch.dynamic_shared_bytes, static_cast<std::uint32_t>(gates_layout(C).shared_bytes));
  run_on_host(launch, [&] { gates<C>(args); }, {.seed = test_seed() | 1});

  double worst = 0;
  for (std::int64_t b = 0; b < p.b; ++b) {
    for (std::int64_t h = 0; h < p.hk; ++h) {
      long double sum = 0;
      for (std::int64_t i = 0; i < p.t; ++i) {
        if (i % args.chunk == 0) sum = 0;
        sum += std::max(log_g.floats()[b * args.g_strides.b + h * args.g_strides.h + i * args.g_strides.t], -104.0f);
        const std::int64_t at = 2 * ((b * p.hk + h) * p.t + i);
        const long double error = std::fabs(sums.floats()[at] + static_cast<long double>(sums.floats()[at + 1]) - sum);
        worst = std::isnan(error) ? std::numeric_limits<double>::infinity()
                                  : std::max(worst, static_cast<double>(error / (std::fabs(sum) + 1)));
      }
    }
  }
  return worst;
}

std::function<float(int)> uniform(double strongest) {
  return [rng = std::mt19937_64(test_seed()),
          gate = std::uniform_real_distribution<float>(static_cast<float>(-strongest), 0)](int) mutable { return gate(rng); };
}

// hi + lo hold 48 bits.
constexpr double tolerance = 0x1p-46;

TEST(Gates, ChunksOfEveryLengthAndLayout) {
  for (const Layout layout : {Layout::bthd, Layout::bhtd}) {
    EXPECT_LT((worst_error<GatesConfig{.threads = 64, .items = 1}>(stage_problem(2, 200, 3, 64, layout), uniform(1))), tolerance);
    EXPECT_LT((worst_error<GatesConfig{.threads = 64, .items = 4}>(stage_problem(1, 1025, 2, 512, layout), uniform(0.01))), tolerance);
    EXPECT_LT((worst_error<GatesConfig{.threads = 128, .items = 8}>(stage_problem(2, 1, 2, 64, layout), uniform(1))), tolerance);
  }
}

// Blocks with several heads turn their tiles in shared memory.
TEST(Gates, SeveralHeadsOfABlock) {
  for (const Layout layout : {Layout::bthd, Layout::bhtd}) {
    EXPECT_LT((worst_error<GatesConfig{.threads = 64, .items = 4, .heads = 2}>(stage_problem(2, 700, 4, 512, layout), uniform(1))), tolerance);
    EXPECT_LT((worst_error<GatesConfig{.threads = 256, .items = 1, .heads = 8}>(stage_problem(1, 333, 8, 96, layout), uniform(1))), tolerance);
    EXPECT_LT((worst_error<GatesConfig{.threads = 256, .items = 8, .heads = 4}>(stage_problem(1, 2500, 12, 0, layout), uniform(0.01))), tolerance);
  }
}

// Each adds up what lies before it.
TEST(Gates, SeveralSegmentsOfAChunk) {
  for (const Layout layout : {Layout::bthd, Layout::bhtd}) {
    EXPECT_LT((worst_error<GatesConfig{.threads = 64, .items = 2, .segments = 8}>(stage_problem(2, 3001, 3, 0, layout), uniform(1))), tolerance);
    EXPECT_LT((worst_error<GatesConfig{.threads = 128, .items = 4, .heads = 4, .segments = 4}>(stage_problem(1, 1700, 8, 768, layout), uniform(1))), tolerance);
    // Segments are whole tiles, so the last ones may have no tokens.
    EXPECT_LT((worst_error<GatesConfig{.threads = 64, .items = 1, .heads = 2, .segments = 16}>(stage_problem(1, 530, 2, 0, layout), uniform(1))), tolerance);
  }
}

TEST(Gates, OneChunkOfManyPasses) {
  EXPECT_LT((worst_error<GatesConfig{.threads = 256, .items = 4}>(stage_problem(1, 20011, 2, 0, Layout::bthd), uniform(2))), tolerance);
}

TEST(Gates, AnInfinitelyStrongGateLeavesLaterSumsFinite) {
  const auto sometimes_infinite = [](int i) { return i % 7 == 3 ? -std::numeric_limits<float>::infinity() : -0.5f; };
  EXPECT_LT((worst_error<GatesConfig{.threads = 64, .items = 2}>(stage_problem(1, 300, 1, 128, Layout::bthd), sometimes_infinite)),
            tolerance);
}

TEST(GatesTemplate, HasConfigsForEveryLength) {
  DeviceInfo device;
  device.shared_per_block = 99 << 10;
  for (const auto& [t, chunk] : {std::pair{1, 64}, {65536, 1024}, {65536, 0}, {100, 4096}, {1 << 20, 0}}) {
    const Space space = gates_template().space(stage_problem(1, t, 8, chunk, Layout::bthd), device);
    EXPECT_FALSE(space.empty()) << "t" << t << " chunk" << chunk;
  }
}

}  // namespace
}  // namespace phitune
