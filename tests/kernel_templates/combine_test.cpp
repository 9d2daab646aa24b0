// What combine adds up and divides, on the CPU emulator, against float64.
#include "kernel_templates/sm80/combine.cuh"

#include <gtest/gtest.h>

#include "kernel_templates/sm80/combine.hpp"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::Array;
using kernel_test::dtype_of;
using kernel_test::run_on_host;
using kernel_test::test_seed;

template <CombineConfig C>
void check(int b, int t, int hq, int hk, int chunk, Layout layout) {
  std::mt19937_64 rng(test_seed());
  const Problem p{.b = b,
                  .t = t,
                  .hq = hq,
                  .hk = hk,
                  .d = 16,
                  .e = C.e,
                  .dtype = dtype_of(C.output),
                  .gated = C.gated,
                  .normalisation = C.sum ? Normalisation::sum : Normalisation::none,
                  .layout = layout};
  const PlanShape shape{.fusion = Fusion::materialized, .chunk = chunk, .d_tile = 16, .partial = dtype_of(C.partial)};
  const StageProblem s{p, shape, Stage::combine, Path::sm80};
  const std::int64_t columns = state_columns(p, Path::sm80), padded = s.chunks() * chunk, rows = std::int64_t{b} * hq;
  Array partial(C.partial, rows * t * C.e), row_sum(Storage::fp32, rows * t), inter(Storage::fp32, rows * padded * columns);
  Array gates(Storage::fp32, std::int64_t{b} * hk * t * 2), y(C.output, rows * t * C.e);
  partial.fill_normal(rng), inter.fill_normal(rng);
  row_sum.fill([&] { return 5 + std::uniform_real_distribution<double>()(rng); });
  gates.fill([&] { return -std::uniform_real_distribution<double>()(rng); });
  // One token without weight: its output is zero, not NaN.
  const std::int64_t empty = t - 1;
  row_sum.set(empty, 0);
  for (std::int64_t x = C.e; x < columns; ++x) inter.set(empty * columns + x, 0);

  Args args;
  bind_workspace(args, p, shape, nullptr);
  args.partial = partial.data(), args.row_sum = row_sum.floats(), args.inter = inter.floats(), args.gates = gates.floats(),
  args.y = y.data();
  run_on_host(combine_template().launch(s, {{"threads", C.threads}, {"unroll", C.unroll}}), [&] { combine<C>(args); });

  const double tolerance = C.output == Storage::bf16 ? 0x1p-8 : 0x1p-10;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t batch = row / hq, head = row % hq, kv = batch * hk + head / (hq / hk);
    for (std::int64_t i = 0; i < t; ++i) {
      const double weight = C.gated ? std::exp(gates.at(2 * (kv * t + i)) + gates.at(2 * (kv * t + i) + 1)) : 1;
      const std::int64_t far = (row * padded + i) * columns, near = row * t + i;
      const double sum = row_sum.at(near) + weight * (inter.at(far + C.e) + inter.at(far + C.e + 1) + inter.at(far + C.e + 2));
      for (std::int64_t x = 0; x < C.e; ++x) {
        double expected = partial.at(near * C.e + x) + weight * inter.at(far + x);
        if (C.sum) expected = sum == 0 ? 0 : expected / sum;
        const std::int64_t at = batch * args.y_strides.b + i * args.y_strides.t + head * args.y_strides.h + x;
        ASSERT_NEAR(y.at(at), expected, tolerance * (1 + std::fabs(expected))) << "row " << row << " token " << i << " column " << x;
      }
    }
  }
}

TEST(Combine, NormalisesTheSumOfBothParts) {
  check<CombineConfig{.e = 64, .threads = 128, .unroll = 2}>(2, 150, 4, 2, 64, Layout::bthd);
  check<CombineConfig{.e = 32, .partial = Storage::fp32, .gated = false, .threads = 256}>(1, 65, 2, 2, 64, Layout::bhtd);
}

TEST(Combine, WithoutNormalisationItOnlyAdds) {
  check<CombineConfig{.e = 16, .output = Storage::fp16, .partial = Storage::fp32, .sum = false, .threads = 128, .unroll = 4}>(
      1, 130, 3, 1, 128, Layout::bthd);
}

TEST(Combine, OneToken) { check<CombineConfig{.e = 128, .threads = 512}>(1, 1, 1, 1, 64, Layout::bthd); }

}  // namespace
}  // namespace phitune
