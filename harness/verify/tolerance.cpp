#include "harness/verify/tolerance.hpp"

#include <stdexcept>

namespace phitune {

// The error of the best possible computation was found by simulation in float64 with each unavoidable rounding done once: phi per factor in
// the operand's dtype, gate folded in, state and partial output as stored, output once. tests/harness/verify/tolerance_test.cpp repeats the
// simulation for p = 1..4 and fails when a bound is not 1.25 to 4 times the worst it finds.
Tolerance tolerance_of(Dtype coarsest) {
  switch (coarsest) {
    case Dtype::bf16:
      return {.relative_l2 = 1e-2, .worst_row = 2.5e-2};
    case Dtype::fp16:
      return {.relative_l2 = 1.2e-3, .worst_row = 3e-3};
    case Dtype::fp32:
      return {.relative_l2 = 2e-5, .worst_row = 5e-4};
  }
  throw std::logic_error("unknown dtype");
}

// hi + lo carries 48 bits; what is lost is the order of the sum.
Tolerance gate_tolerance() { return {.relative_l2 = 1e-9, .worst_row = 1e-8}; }

// Two for the roundings of phi(q) and phi(k), two for those of state and output.
double conditioning() { return 4; }

}  // namespace phitune
