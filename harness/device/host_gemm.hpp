// The matrix products of library stages on the CPU.
#pragma once

#include "kernel_templates/library/gemm.hpp"

namespace phitune {

/// C = A B as gemm.hpp defines it, sums in double, fp32 operands rounded to tf32; the pointers are to host memory. On all cores.
void multiply_on_host(const Gemm& gemm, const GemmPointers& at);

}  // namespace phitune
