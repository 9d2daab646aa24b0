// The matrix products of `materialized`, described so that any GEMM library can run them. Pure C++: no CUDA, no cuBLAS.
#pragma once

#include <cstdint>

#include "kernel_templates/common/args.cuh"
#include "search/plan.hpp"

namespace phitune {

/// One operand: `outer[i]` are element strides of the outer repetitions, `batch` of the batch; rows are `leading` elements apart.
struct GemmOperand {
  Dtype dtype = Dtype::bf16;
  std::int64_t leading = 0;
  std::int64_t batch = 0;
  std::int64_t outer[2] = {0, 0};
  bool operator==(const GemmOperand&) const = default;
};

/// C[m][n] = sum_k A(m, k) B[k][n], row-major, fp32 accumulation, beta 0. A is stored [k][m] when `a_transposed`, else [m][k]; B is stored
/// [k][n]. fp32 operands are multiplied as tf32. The product is repeated `batch` times, and that `outer[0] * outer[1]` times.
struct Gemm {
  std::int64_t m = 0, n = 0, k = 0;
  bool a_transposed = false;
  std::int64_t batch = 1;
  std::int64_t outer[2] = {1, 1};
  GemmOperand a, b, c;
  bool operator==(const Gemm&) const = default;
};

/// Where its operands are, device pointers.
struct GemmPointers {
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
};

/// update_gemm: U[D][R] = phi_k^T v_aug per chunk, fp32 out, column e the denominator's share.
/// query_gemm: inter[chunk][R] = phi_q S per chunk, fp32 out. Throws std::invalid_argument for any other stage.
[[nodiscard]] Gemm gemm_of(const StageProblem& problem);
[[nodiscard]] GemmPointers gemm_pointers(const StageProblem& problem, const Args& args);

}  // namespace phitune
