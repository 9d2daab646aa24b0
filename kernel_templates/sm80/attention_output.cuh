// How the rows of a warp are normalised and written: as y, or as partial outputs and row sums.
#pragma once

#include "kernel_templates/sm80/attention_rows.cuh"
#include "kernel_templates/sm80/attention_walk.cuh"

namespace phitune::attention_detail {

template <AttentionConfig C>
PHITUNE_DEVICE void store_rows(const Rows<C>& rows, const Args& args, const Place& at) {
  constexpr int chunks = C.e / 8, step = 32 / chunks;
  constexpr AttentionShared layout = attention_shared(C);
  const int g = lane() / 4, t = lane() % 4;
  if constexpr (C.output == Storage::fp32) {
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * C.m_tiles; ++i) {
      const int row = at.first + rows.row0 + i / 2 * 16 + g + i % 2 * 8;
      float* out = static_cast<float*>(args.partial) + (at.head_row + row) * C.e + 2 * t;
      PHITUNE_UNROLL
      for (int n = 0; n < chunks; ++n)
        if (row < at.length) store_pair<C.output>(out + n * 8, rows.acc[i / 2][n][i % 2 * 2], rows.acc[i / 2][n][i % 2 * 2 + 1]);
    }
  } else {
    // Through shared memory, so that whole rows are written 16 bytes at a time.
    char* stage = shared_memory() + rows.row0 * layout.output_pitch;
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * C.m_tiles; ++i) {
      char* out = stage + (i / 2 * 16 + g + i % 2 * 8) * layout.output_pitch + t * 4;
      PHITUNE_UNROLL
      for (int n = 0; n < chunks; ++n) store_pair<C.output>(out + n * 16, rows.acc[i / 2][n][i % 2 * 2], rows.acc[i / 2][n][i % 2 * 2 + 1]);
    }
    warp_barrier();
    char* base;
    i64 stride;
    if constexpr (C.complete) {
      base = static_cast<char*>(args.y) + (at.batch * args.y_strides.b + at.start * args.y_strides.t + at.head * args.y_strides.h) * 2;
      stride = args.y_strides.t * 2;
    } else {
      base = static_cast<char*>(args.partial) + at.head_row * C.e * 2;
      stride = C.e * 2;
    }
    PHITUNE_UNROLL
    for (int r = lane() / chunks; r < C.m_tiles * 16; r += step) {
      const int row = at.first + rows.row0 + r, chunk = lane() % chunks;
      if (row < at.length)
        store_global_16(base + row * stride + chunk * 16, *reinterpret_cast<const U4*>(stage + r * layout.output_pitch + chunk * 16));
    }
  }
}

/// Sums over the four lanes of a row, applies scale^p or the normalisation, and writes.
template <AttentionConfig C>
PHITUNE_DEVICE void finish(Rows<C>& rows, const Args& args, const Place& at) {
  const float scale = power<C.p>(args.scale);
  float factor[C.m_tiles][2], lift[C.m_tiles][2];
  PHITUNE_UNROLL
  for (int i = 0; i < 2 * C.m_tiles; ++i) {
    float& sum = rows.sum[i / 2][i % 2];
    factor[i / 2][i % 2] = scale;
    if constexpr (C.sum) {
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
      if constexpr (C.complete) {
        // The reciprocal of a very small sum would overflow: lift both sides first.
        lift[i / 2][i % 2] = sum < 0x1p-100f ? 0x1p100f : 1.0f;
        factor[i / 2][i % 2] = sum == 0.0f ? 0.0f : 1.0f / (sum * lift[i / 2][i % 2]);
      }
    }
  }
  if constexpr (C.sum && C.complete) rows.scale(lift);
  rows.scale(factor);
  if constexpr (C.sum && !C.complete) {
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * C.m_tiles; ++i) {
      const int row = at.first + rows.row0 + i / 2 * 16 + lane() / 4 + i % 2 * 8;
      if (lane() % 4 == 0 && row < at.length) args.row_sum[at.head_row + row] = rows.sum[i / 2][i % 2];
    }
  }
  store_rows<C>(rows, args, at);
}

}  // namespace phitune::attention_detail
