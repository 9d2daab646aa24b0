// attention: the quadratic form inside each chunk (or over all of t), w_ij = (s q_i.k_j)^p exp(G_i - G_j) for j <= i, in normal space: no
// running maximum, no logarithm. scale^p is left to the end, and cancels under normalisation.
//
// A block owns `warps * m_tiles * 16` query rows of one head and walks the key tiles of its chunk up to the diagonal. Gates factor, with
// every exponent <= 0 (log gates being <= 0):
//   key tiles before the diagonal: weights relative to the last of their tokens, exp(G_ref - G_j) per column; the accumulated rows are
//     multiplied once by exp(G_i - G_ref) when the diagonal is reached;
//   16 keys all before a warp's rows: relative to the last of the 16;
//   16 keys on the diagonal: exp(G_i - G_j) per element, with the causal mask.
// Grid: x = query tiles x chunks, latest tile of a chunk first (the most work); y = 1; z = batch x query head.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/sm80/attention_rows.cuh"

namespace phitune {

namespace attention_detail {

/// Where a block works: rows [first, ...) of a chunk of `length` tokens that begins at token `start`.
struct Place {
  int batch, head, kv_head, start, length, first;
  i64 head_row;  // row of (batch, head, start) in [b][hq][t]
};

template <AttentionConfig C>
PHITUNE_DEVICE Place place_of(const Args& args) {
  const int tiles = ceil_div(args.chunk, attention_rows(C));
  const int chunk = block_index_x() / tiles, tile = tiles - 1 - block_index_x() % tiles;
  Place at;
  at.batch = block_index_z() / args.hq;
  at.head = block_index_z() % args.hq;
  at.kv_head = at.head / (args.hq / args.hk);
  at.start = chunk * args.chunk;
  at.length = args.t - at.start < args.chunk ? args.t - at.start : args.chunk;
  at.first = tile * attention_rows(C);
  at.head_row = (static_cast<i64>(at.batch) * args.hq + at.head) * args.t + at.start;
  return at;
}

PHITUNE_DEVICE const char* tensor_row(const void* base, const Strides& strides, int batch, int token, int head) {
  return static_cast<const char*>(base) + (batch * strides.b + token * strides.t + head * strides.h) * 2;
}

/// Gates of the key tiles in shared memory, two tiles by turns. Fetched a tile ahead, so that memory's latency is hidden.
template <AttentionConfig C>
struct KeyGates {
  const F2* gates;  // of the chunk
  char* shared;
  int length, whole;
  F2 reference, fetched;

  PHITUNE_DEVICE F2 at(int token) const { return gates[token < length ? token : length - 1]; }
  PHITUNE_DEVICE char* slot(int tile) const { return shared + (tile & 1) * C.key_tile * 8; }
  PHITUNE_DEVICE void fetch(int tile) {
    if (C.gated && thread_index() < C.key_tile) fetched = at(tile * C.key_tile + thread_index());
  }
  /// Before the diagonal a column's factor is all that is needed; at the diagonal the gates themselves.
  PHITUNE_DEVICE void publish(int tile) const {
    if (!C.gated || thread_index() >= C.key_tile) return;
    if (tile < whole)
      reinterpret_cast<float*>(slot(tile))[thread_index()] = gate_weight(reference, fetched);
    else
      reinterpret_cast<F2*>(slot(tile))[thread_index()] = fetched;
  }
};

/// The key tile that meets the block's rows: each warp goes as far as its own last row.
template <AttentionConfig C>
PHITUNE_DEVICE void diagonal_tile(Rows<C>& rows, const char* k_tile, const char* v_tile, const F2* gates,
                                  const F2 (&row_gates)[C.m_tiles][2], int offset) {
  const int before = offset < -C.key_tile ? C.key_tile : -offset;
  const int reach = C.m_tiles * 16 - offset, end = reach < C.key_tile ? reach : C.key_tile;
  int key = 0;
  PHITUNE_NO_UNROLL
  for (; key < before && key < C.key_tile; key += 16) block_before<C>(rows, k_tile, v_tile, gates, row_gates, key);
  PHITUNE_NO_UNROLL
  for (; key < end; key += 16) block_diagonal<C>(rows, k_tile, v_tile, gates, row_gates, key, offset + key);
}

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
    if constexpr (C.quadratic) {
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
      if constexpr (C.quadratic) {
        // The reciprocal of a very small sum would overflow: lift both sides first.
        lift[i / 2][i % 2] = sum < 0x1p-100f ? 0x1p100f : 1.0f;
        factor[i / 2][i % 2] = sum == 0.0f ? 0.0f : 1.0f / (sum * lift[i / 2][i % 2]);
      }
    }
  }
  if constexpr (C.sum && C.quadratic) rows.scale(lift);
  rows.scale(factor);
  if constexpr (C.sum && !C.quadratic) {
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * C.m_tiles; ++i) {
      const int row = at.first + rows.row0 + i / 2 * 16 + lane() / 4 + i % 2 * 8;
      if (lane() % 4 == 0 && row < at.length) args.row_sum[at.head_row + row] = rows.sum[i / 2][i % 2];
    }
  }
  store_rows<C>(rows, args, at);
}

}  // namespace attention_detail

template <AttentionConfig C>
PHITUNE_DEVICE void attention(const Args& args) {
  wait_for_earlier_kernels();
  using namespace attention_detail;
  static_assert(C.key_tile <= C.warps * 32, "one thread fetches the gate of one key");
  static_assert(!C.quadratic || C.output == C.input, "y has the problem's dtype");
  constexpr int threads = C.warps * 32;
  constexpr AttentionShared layout = attention_shared(C);
  char* shared = shared_memory();

  const Place at = place_of<C>(args);
  if (at.first >= at.length) return;
  const int reach = at.first + attention_rows(C) < at.length ? at.first + attention_rows(C) : at.length;
  const int tiles = ceil_div(reach, C.key_tile), whole = at.first / C.key_tile;

  const char* k = tensor_row(args.k, args.k_strides, at.batch, at.start, at.kv_head);
  const char* v = tensor_row(args.v, args.v_strides, at.batch, at.start, at.kv_head);
  // Every call commits a group, tiles or not, so that waits count the same everywhere.
  const auto copy_keys = [&](int tile) {
    if (tile < tiles) {
      char* slot = shared + layout.ring + tile % C.stages * layout.stage;
      const int token = tile * C.key_tile;
      copy_tile_async<C.key_tile, C.d, threads>(slot, k + token * args.k_strides.t * 2, args.k_strides.t, at.length - token);
      copy_tile_async<C.key_tile, C.e, threads>(slot + C.key_tile * C.d * 2, v + token * args.v_strides.t * 2, args.v_strides.t,
                                                at.length - token);
    }
    cp_async_commit();
  };
  copy_tile_async<attention_rows(C), C.d, threads>(shared, tensor_row(args.q, args.q_strides, at.batch, at.start + at.first, at.head),
                                                   args.q_strides.t, at.length - at.first);
  if constexpr (C.stages == 1) cp_async_commit();
  for (int tile = 0; tile < C.stages - 1; ++tile) copy_keys(tile);

  Rows<C> rows;
  rows.q_tile = shared;
  rows.row0 = warp() * C.m_tiles * 16;
  rows.clear();
  const int warp_first = at.first + rows.row0;
  const bool active = warp_first < at.length;

  KeyGates<C> gates{};
  F2 row_gates[C.m_tiles][2] = {};
  if constexpr (C.gated) {
    gates.gates = reinterpret_cast<const F2*>(args.gates) + (static_cast<i64>(at.batch) * args.hk + at.kv_head) * args.t + at.start;
    gates.shared = shared + layout.gates;
    gates.length = at.length, gates.whole = whole;
    gates.reference = gates.at(whole > 0 ? whole * C.key_tile - 1 : 0);
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * C.m_tiles; ++i) row_gates[i / 2][i % 2] = gates.at(warp_first + i / 2 * 16 + lane() / 4 + i % 2 * 8);
    gates.fetch(0);
    gates.publish(0);
  }

  constexpr int in_flight = C.stages > 1 ? C.stages - 2 : 0;
  cp_async_wait<in_flight>();
  block_barrier();
  rows.hold_q();

  PHITUNE_NO_UNROLL
  for (int tile = 0; tile < tiles; ++tile) {
    if constexpr (C.stages > 1) cp_async_wait<in_flight>();
    block_barrier();
    copy_keys(tile + C.stages - 1);
    if constexpr (C.stages == 1) {
      cp_async_wait<0>();
      block_barrier();
    }
    if (tile + 1 < tiles) gates.fetch(tile + 1);

    const char* k_tile = shared + layout.ring + tile % C.stages * layout.stage;
    const char* v_tile = k_tile + C.key_tile * C.d * 2;
    if (active && tile < whole) {
      whole_tile<C>(rows, k_tile, v_tile, reinterpret_cast<const float*>(gates.slot(tile)));
    } else if (active) {
      if (C.gated && tile == whole && whole > 0) {
        float factor[C.m_tiles][2];
        PHITUNE_UNROLL
        for (int i = 0; i < 2 * C.m_tiles; ++i) factor[i / 2][i % 2] = gate_weight(row_gates[i / 2][i % 2], gates.reference);
        rows.scale(factor);
      }
      diagonal_tile<C>(rows, k_tile, v_tile, reinterpret_cast<const F2*>(gates.slot(tile)), row_gates, tile * C.key_tile - warp_first);
    }
    if (tile + 1 < tiles) gates.publish(tile + 1);
  }
  block_barrier();
  if (active) finish<C>(rows, args, at);
}

}  // namespace phitune
