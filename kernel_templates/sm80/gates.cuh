// gates: inclusive cumulative sums of log_g since the start of each chunk, as hi + lo.
// Grid: x = chunk, y = kv head, z = batch. A block walks its chunk in tiles of threads * items tokens.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/instructions.cuh"

namespace phitune {

struct GatesConfig {
  int threads = 256;
  int items = 4;  // consecutive tokens of a thread per tile
};

PHITUNE_DEVICE constexpr int gates_shared_bytes(const GatesConfig& c) { return 2 * (c.threads / 32) * 8; }

namespace gates_detail {

PHITUNE_DEVICE double shuffle_double(double x, int source) {
  const u64 bits = __builtin_bit_cast(u64, x);
  const u64 low = shuffle(static_cast<u32>(bits), source), high = shuffle(static_cast<u32>(bits >> 32), source);
  return __builtin_bit_cast(double, high << 32 | low);
}

/// Sum of `x` over this lane and the lanes before it.
PHITUNE_DEVICE double inclusive_scan(double x) {
  PHITUNE_UNROLL
  for (int step = 1; step < 32; step *= 2) {
    const double other = shuffle_double(x, lane() >= step ? lane() - step : lane());
    if (lane() >= step) x += other;
  }
  return x;
}

/// exp(-104) is 0 in fp32, so a stronger gate changes nothing, and an infinite one would make differences NaN.
PHITUNE_DEVICE float bounded(float log_g) { return log_g < -104.0f ? -104.0f : log_g; }

template <GatesConfig C>
PHITUNE_DEVICE void load(float (&x)[C.items], const float* log_g, i64 stride, int first, int length) {
  PHITUNE_UNROLL
  for (int i = 0; i < C.items; ++i) x[i] = first + i < length ? bounded(log_g[(first + i) * stride]) : 0.0f;
}

}  // namespace gates_detail

template <GatesConfig C>
PHITUNE_DEVICE void gates(const Args& args) {
  wait_for_earlier_kernels();
  using namespace gates_detail;
  constexpr int warps = C.threads / 32, tile = C.threads * C.items;
  const int own_warp = warp();
  const int start = block_index_x() * args.chunk, head = block_index_y(), batch = block_index_z();
  const int length = args.t - start < args.chunk ? args.t - start : args.chunk;
  const float* log_g = args.log_g + batch * args.g_strides.b + head * args.g_strides.h + start * args.g_strides.t;
  F2* out = reinterpret_cast<F2*>(args.gates) + (static_cast<i64>(batch) * args.hk + head) * args.t + start;
  // Two sets of warp totals, used by turns, need one barrier per tile.
  double* totals = reinterpret_cast<double*>(shared_memory());

  float x[C.items];
  load<C>(x, log_g, args.g_strides.t, thread_index() * C.items, length);
  double carry = 0;
  PHITUNE_NO_UNROLL
  for (int base = 0, turn = 0; base < length; base += tile, turn ^= 1) {
    const int first = base + thread_index() * C.items;
    double sum[C.items];
    sum[0] = x[0];
    PHITUNE_UNROLL
    for (int i = 1; i < C.items; ++i) sum[i] = sum[i - 1] + x[i];
    // The next tile's loads are on their way while this one is summed.
    load<C>(x, log_g, args.g_strides.t, first + tile, length);

    const double own = sum[C.items - 1], through = inclusive_scan(own);
    double* warp_totals = totals + turn * warps;
    if (lane() == 31) warp_totals[own_warp] = through;
    block_barrier();
    double before = carry + (through - own);
    for (int w = 0; w < warps; ++w) {
      const double total = warp_totals[w];
      if (w < own_warp) before += total;
      carry += total;
    }
    PHITUNE_UNROLL
    for (int i = 0; i < C.items; ++i) {
      const double gate = before + sum[i];
      const float hi = static_cast<float>(gate);
      if (first + i < length) out[first + i] = F2{hi, static_cast<float>(gate - static_cast<double>(hi))};
    }
  }
}

}  // namespace phitune
