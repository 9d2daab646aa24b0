// gates: inclusive cumulative sums of log_g since the start of each chunk, as hi + lo.
// Grid: x = segment of a chunk, y = group of kv heads, z = batch. A block walks its segment in tiles of tokens of all its heads.
//
// Where there are too few chunks and heads for all multiprocessors, as for the quadratic form, a chunk has several segments. Each block adds up
// by itself all that lies before its own: that is read many times, but by all threads at once, so no block waits for another.
//
// With one head, threads read and write the consecutive tokens that they sum: the least to do where a launch's latency is all. With several,
// which lie side by side in the layout that most callers have, memory is read and written as it lies there, neighbouring elements by
// neighbouring lanes, and shared memory gives each thread its tokens and takes its sums.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/instructions.cuh"
#include "kernel_templates/sm80/gates_config.cuh"

namespace phitune {

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

/// The gates of one block: of tokens [begin, end) of a chunk whose first is at `log_g`.
template <GatesConfig C>
struct Gates {
  static constexpr GatesLayout L = gates_layout(C);
  using Items = float[C.items];

  static constexpr bool direct = C.heads == 1;
  static constexpr int token_step = direct ? 1 : C.threads / C.heads;  // between the tokens that a thread loads

  const float* log_g;
  i64 t_stride, h_stride;
  int begin, end;

  /// The first token of a tile that the thread loads.
  PHITUNE_DEVICE static int own_token() { return direct ? thread_index() * C.items : static_cast<u32>(thread_index()) / C.heads; }

  PHITUNE_DEVICE void load(Items& x, int base) const {
    const int first = base + own_token();
    const float* const from = log_g + first * t_stride + thread_index() % C.heads * h_stride;
    PHITUNE_UNROLL
    for (int i = 0; i < C.items; ++i) x[i] = first + i * token_step < end ? bounded(from[i * token_step * t_stride]) : 0.0f;
  }

  /// From what the thread has loaded to what it sums.
  PHITUNE_DEVICE static void turn(Items& x) {
    float* const rows = reinterpret_cast<float*>(shared_memory());
    float* const to = rows + thread_index() % C.heads * L.stride + own_token();
    PHITUNE_UNROLL
    for (int i = 0; i < C.items; ++i) to[i * token_step] = x[i];
    block_barrier();
    const float* const own = rows + thread_index() / L.head_threads * L.stride + thread_index() % L.head_threads * C.items;
    PHITUNE_UNROLL
    for (int i = 0; i < C.items; ++i) x[i] = own[i];
  }

  /// Writes the warp's sums, which are of consecutive tokens from `first` on.
  PHITUNE_DEVICE void write(F2* out, const F2 (&sums)[C.items], int first) const {
    if constexpr (direct) {
      const int own = first + lane() * C.items;
      PHITUNE_UNROLL
      for (int i = 0; i < C.items; ++i) {
        if (own + i < end) out[own + i] = sums[i];
      }
    } else {
      F2* const turned = reinterpret_cast<F2*>(shared_memory() + L.sums_at) + thread_index() / 32 * (32 * C.items);
      PHITUNE_UNROLL
      for (int i = 0; i < C.items; ++i) turned[lane() * C.items + i] = sums[i];
      warp_barrier();
      PHITUNE_UNROLL
      for (int i = 0; i < C.items; ++i) {
        const int token = first + i * 32 + lane();
        if (token < end) out[token] = turned[i * 32 + lane()];
      }
    }
  }

  /// Sum of the thread's head over all tokens before `begin`.
  PHITUNE_DEVICE double sum_before() const {
    constexpr int tokens = C.threads / C.heads, at_once = 8;
    const float* const from = log_g + thread_index() % C.heads * h_stride;
    double sum = 0;
    PHITUNE_NO_UNROLL
    for (int first = static_cast<u32>(thread_index()) / C.heads; first < begin; first += at_once * tokens) {
      float x[at_once];
      PHITUNE_UNROLL
      for (int i = 0; i < at_once; ++i) x[i] = first + i * tokens < begin ? bounded(from[(first + i * tokens) * t_stride]) : 0.0f;
      PHITUNE_UNROLL
      for (int i = 0; i < at_once; ++i) sum += x[i];
    }
    PHITUNE_UNROLL
    for (int step = C.heads; step < 32; step *= 2) sum += shuffle_double(sum, lane() ^ step);
    double* const totals = reinterpret_cast<double*>(shared_memory() + L.before_at);
    if (lane() < C.heads) totals[thread_index() / 32 * C.heads + lane()] = sum;
    block_barrier();
    double all = 0;
    for (int w = 0; w < C.threads / 32; ++w) all += totals[w * C.heads + static_cast<u32>(thread_index()) / L.head_threads];
    return all;
  }

  PHITUNE_DEVICE void sum_to(F2* out) const {
    constexpr int warps = L.head_threads / 32;
    const int own_warp = warp() % warps;
    double* const totals = reinterpret_cast<double*>(shared_memory() + L.totals_at) + warp() / warps * warps;
    Items next;
    load(next, begin);
    double carry = C.segments > 1 ? sum_before() : 0;
    PHITUNE_NO_UNROLL
    for (int base = begin, parity = 0; base < end; base += L.tile, parity ^= 1) {
      Items x;
      PHITUNE_UNROLL
      for (int i = 0; i < C.items; ++i) x[i] = next[i];
      // The next tile's loads are on their way while this one is summed.
      load(next, base + L.tile);
      if constexpr (!direct) turn(x);
      double sum[C.items];
      sum[0] = x[0];
      PHITUNE_UNROLL
      for (int i = 1; i < C.items; ++i) sum[i] = sum[i - 1] + x[i];

      const double own = sum[C.items - 1], through = inclusive_scan(own);
      double* const warp_totals = totals + parity * (C.threads / 32);
      if (lane() == 31) warp_totals[own_warp] = through;
      block_barrier();
      double before = carry + (through - own);
      for (int w = 0; w < warps; ++w) {
        const double total = warp_totals[w];
        if (w < own_warp) before += total;
        carry += total;
      }
      F2 sums[C.items];
      PHITUNE_UNROLL
      for (int i = 0; i < C.items; ++i) {
        const double gate = before + sum[i];
        sums[i].x = static_cast<float>(gate);
        sums[i].y = static_cast<float>(gate - static_cast<double>(sums[i].x));
      }
      write(out, sums, base + own_warp * (32 * C.items));
    }
  }
};

}  // namespace gates_detail

template <GatesConfig C>
PHITUNE_DEVICE void gates(const Args& args) {
  using Gates = gates_detail::Gates<C>;
  static_assert(C.heads >= 1 && (C.heads & (C.heads - 1)) == 0 && C.threads % (32 * C.heads) == 0);
  wait_for_earlier_kernels();
  constexpr int segments = C.segments;
  const int start = block_index_x() / segments * args.chunk, first_head = block_index_y() * C.heads, batch = block_index_z();
  const int length = args.t - start < args.chunk ? args.t - start : args.chunk;
  const int segment = ceil_div(ceil_div(args.chunk, segments), Gates::L.tile) * Gates::L.tile, begin = block_index_x() % segments * segment;
  const int end = begin + segment < length ? begin + segment : length;
  if (begin >= end) return;
  const Gates block{args.log_g + batch * args.g_strides.b + first_head * args.g_strides.h + start * args.g_strides.t, args.g_strides.t,
                    args.g_strides.h, begin, end};
  const int head = first_head + static_cast<int>(thread_index()) / Gates::L.head_threads;
  block.sum_to(reinterpret_cast<F2*>(args.gates) + (static_cast<i64>(batch) * args.hk + head) * args.t + start);
}

}  // namespace phitune
