#include "harness/device/host_gemm.hpp"

#include <vector>

#include "harness/verify/inputs.hpp"
#include "harness/verify/parallel.hpp"
#include "kernel_templates/common/numeric.cuh"

namespace phitune {
namespace {

double operand(Dtype dtype, const void* data, std::int64_t index) {
  const double value = decode(dtype, static_cast<const char*>(data) + index * bytes(dtype));
  return dtype == Dtype::fp32 ? bits_float(round_tf32(static_cast<float>(value))) : value;
}

}  // namespace

void multiply_on_host(const Gemm& gemm, const GemmPointers& at) {
  const std::int64_t repeats = gemm.outer[0] * gemm.outer[1] * gemm.batch;
  parallel_for(static_cast<std::size_t>(repeats * gemm.m), [&](std::size_t work) {
    const std::int64_t repeat = static_cast<std::int64_t>(work) / gemm.m, row = static_cast<std::int64_t>(work) % gemm.m;
    const std::int64_t batch = repeat % gemm.batch, inner = repeat / gemm.batch % gemm.outer[1],
                       outer = repeat / gemm.batch / gemm.outer[1];
    const auto start = [&](const GemmOperand& o) { return batch * o.batch + outer * o.outer[0] + inner * o.outer[1]; };
    std::vector<double> sums(static_cast<std::size_t>(gemm.n));
    for (std::int64_t k = 0; k < gemm.k; ++k) {
      const std::int64_t place = gemm.a_transposed ? k * gemm.a.leading + row : row * gemm.a.leading + k;
      const double a = operand(gemm.a.dtype, at.a, start(gemm.a) + place);
      const std::int64_t line = start(gemm.b) + k * gemm.b.leading;
      for (std::int64_t n = 0; n < gemm.n; ++n) sums[static_cast<std::size_t>(n)] += a * operand(gemm.b.dtype, at.b, line + n);
    }
    float* const out = static_cast<float*>(at.c) + start(gemm.c) + row * gemm.c.leading;
    for (std::int64_t n = 0; n < gemm.n; ++n) out[n] = static_cast<float>(sums[static_cast<std::size_t>(n)]);
  });
}

}  // namespace phitune
