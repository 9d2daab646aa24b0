// How far from the float64 reference a correct result may be. One table.
#pragma once

#include "search/problem.hpp"

namespace phitune {

/// Bounds on |out - ref| / |ref|: over all sampled rows together, and of any single row.
struct Tolerance {
  double relative_l2 = 0;
  double worst_row = 0;
};

/// By the coarsest rounding on the way to the result. bf16: operands or storage in bf16. fp16: fp16 storage or tf32 operands, which have
/// the same 11-bit significand. fp32: sums kept in fp32 and never multiplied by the tensor cores in less.
[[nodiscard]] Tolerance tolerance_of(Dtype coarsest);

/// Cumulative gates, kept as a sum of two floats.
[[nodiscard]] Tolerance gate_tolerance();

/// Adversarial inputs cancel, so a row is measured against what it was summed from as well: |out - ref| may reach
/// worst_row * |ref| + conditioning * eps(dtype) * condition, where condition is the sum of the typical sizes of the terms (oracle.hpp).
[[nodiscard]] double conditioning();

}  // namespace phitune
