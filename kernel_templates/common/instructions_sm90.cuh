// The instructions that only Hopper templates use; see instructions.cuh. cuda/instructions_sm90.cuh says what each does.
#pragma once

#include "kernel_templates/common/instructions.cuh"

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#include "kernel_templates/common/cuda/instructions_sm90.cuh"
#else
#include "kernel_templates/common/host/instructions_sm90.hpp"
#endif

namespace phitune {

/// Accumulators to add to. (A product that does not accumulate asks for a register and a vote on it.)
template <int N>
PHITUNE_DEVICE void set_zero(float (&r)[N]) {
  PHITUNE_UNROLL
  for (int i = 0; i < N; ++i) r[i] = 0.0f;
  settle(r);
}

/// `x`, which the compiler takes for another number: what is made of it is made where it is needed, instead of long before and kept in registers.
PHITUNE_DEVICE u32 anew(u32 x) {
  u32 again[1] = {x};
  settle(again);
  return again[0];
}

/// Arrives once for the warp, when all of its lanes have come here: what any of them has read or written is ordered before.
PHITUNE_DEVICE void barrier_arrive_warp(Barrier* barrier) {
  warp_barrier();
  if (lane() == 0) barrier_arrive(barrier);
}

}  // namespace phitune
