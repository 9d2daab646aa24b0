// Weights of cumulative gates. A gate G is kept as two floats, hi + lo, because differences of large sums must be accurate.
#pragma once

#include "kernel_templates/common/instructions.cuh"

namespace phitune {

/// The P-th root of gate_weight(later, earlier).
template <int P>
PHITUNE_DEVICE float gate_root_weight(F2 later, F2 earlier) {
  constexpr float log2_e = 1.4426950408889634f;
  return exp2_approx(((later.x - earlier.x) + (later.y - earlier.y)) * (log2_e / P));
}

/// exp(later - earlier) of two cumulative gates (x = hi, y = lo). Never above 1 when `later` comes after `earlier` and log gates are <= 0.
PHITUNE_DEVICE float gate_weight(F2 later, F2 earlier) { return gate_root_weight<1>(later, earlier); }

/// exp(G) of a gate relative to its chunk's start.
PHITUNE_DEVICE float gate_weight(F2 gate) { return gate_weight(gate, F2{0.0f, 0.0f}); }

}  // namespace phitune
