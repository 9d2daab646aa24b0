// Small kernels with known traits for the compile tests.
#pragma once

#include <fmt/format.h>

#include <string>

namespace phitune::test_kernels {

/// Uses few registers, no shared memory.
inline std::string plain(float factor) {
  return fmt::format("extern \"C\" __global__ void phitune_kernel(float* y) {{ y[threadIdx.x] *= {:.1f}f; }}\n", factor);
}

/// `live` values carried through a loop in registers; with a small register budget it spills. `shared` floats of static shared memory.
inline std::string heavy(int live, int shared, int threads, int blocks_per_multiprocessor) {
  return fmt::format(
      "extern \"C\" __global__ void __launch_bounds__({2}, {3}) phitune_kernel(const float* x, float* y, int n) {{\n"
      "  __shared__ float s[{1}];\n"
      "  s[threadIdx.x % {1}] = x[threadIdx.x];\n"
      "  __syncthreads();\n"
      "  float a[{0}];\n"
      "  for (int i = 0; i < {0}; ++i) a[i] = x[threadIdx.x + i * 32] + s[(threadIdx.x + i) % {1}];\n"
      "  for (int j = 0; j < n; ++j) {{\n"
      "#pragma unroll\n"
      "    for (int i = 0; i < {0}; ++i) a[i] = a[i] * a[(i + 7) % {0}] + x[j];\n"
      "  }}\n"
      "  for (int i = 0; i < {0}; ++i) y[threadIdx.x + i * 32] = a[i];\n"
      "}}\n",
      live, shared, threads, blocks_per_multiprocessor);
}

/// Only dynamic shared memory, as phitune's own templates.
inline std::string dynamic_shared() {
  return "extern __shared__ float s[];\n"
         "extern \"C\" __global__ void phitune_kernel(float* y) {\n"
         "  s[threadIdx.x] = y[threadIdx.x];\n  __syncthreads();\n  y[threadIdx.x] = s[threadIdx.x ^ 1];\n}\n";
}

/// An accumulator of a matrix instruction read before the instructions are waited for: the assembler serialises them and says so.
inline std::string serialised_wgmma() {
  return R"(extern "C" __global__ void phitune_kernel(float* y, unsigned long long a, unsigned long long b, int n) {
  float d0 = y[0], d1 = y[1], d2 = y[2], d3 = y[3];
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  for (int i = 0; i < n; ++i) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, p, 1, 1, 0, 0; }"
                 : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3) : "l"(a), "l"(b));
    d0 *= 2.0f;
  }
  asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::: "memory");
  y[0] = d0; y[1] = d1; y[2] = d2; y[3] = d3;
})";
}

}  // namespace phitune::test_kernels
