// How a block of query rows meets the keys of its chunk, for attention and attend_query.
//
// A block owns `warps * m_tiles * 16` query rows of one head and walks the key tiles of its chunk up to the diagonal. Gates factor, with
// every exponent <= 0 (log gates being <= 0):
//   key tiles before the diagonal: weights relative to the last of their tokens, exp(G_ref - G_j) per column; the accumulated rows are
//     multiplied once by exp(G_i - G_ref) when the diagonal is reached;
//   16 keys all before a warp's rows: relative to the last of the 16;
//   16 keys on the diagonal: exp(G_i - G_j) per element, with the causal mask.
// What rows have from before the chunk is relative to G_ref, too: exp(G_ref), or 1 where no tile lies before the diagonal.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/sm80/attention_rows.cuh"

namespace phitune::attention_detail {

/// Where a block works: rows [first, ...) of a chunk of `length` tokens that begins at token `start`.
struct Place {
  int batch, head, kv_head, start, length, first;
  i64 head_row;  // row of (batch, head, start) in [b][hq][t]
};

PHITUNE_DEVICE Place make_place(const Args& args, int batch, int head, int chunk, int first) {
  Place at;
  at.batch = batch;
  at.head = head;
  at.kv_head = head / (args.hq / args.hk);
  at.start = chunk * args.chunk;
  at.length = args.t - at.start < args.chunk ? args.t - at.start : args.chunk;
  at.first = first;
  at.head_row = (static_cast<i64>(batch) * args.hq + head) * args.t + at.start;
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
  F2 reference;  // of the last token before the diagonal's tile; of the chunk's start where there is none
  F2 fetched;

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

/// A block's walk over its key tiles: start(), then load_gates(), then add_keys().
template <AttentionConfig C>
struct Walk {
  static_assert(C.key_tile <= C.warps * 32, "one thread fetches the gate of one key");
  static constexpr AttentionShared L = attention_shared(C);
  static constexpr int in_flight = C.stages > 1 ? C.stages - 2 : 0;

  const Args& args;
  const Place at;
  int row0, warp_first;  // first of the warp's rows in the block, and in the chunk
  int tiles, whole;      // up to the block's last row, and of these before its first
  const char *k, *v;
  KeyGates<C> gates{};
  F2 row_gates[C.m_tiles][2] = {};

  PHITUNE_DEVICE Walk(const Args& a, const Place& place) : args(a), at(place) {
    row0 = warp() * C.m_tiles * 16, warp_first = at.first + row0;
    const int reach = at.first + attention_rows(C) < at.length ? at.first + attention_rows(C) : at.length;
    tiles = ceil_div(reach, C.key_tile), whole = at.first / C.key_tile;
    k = tensor_row(args.k, args.k_strides, at.batch, at.start, at.kv_head);
    v = tensor_row(args.v, args.v_strides, at.batch, at.start, at.kv_head);
  }

  /// Every call commits a group, tiles or not, so that waits count the same everywhere.
  PHITUNE_DEVICE void copy_keys(int tile) const {
    constexpr int threads = C.warps * 32;
    if (tile < tiles) {
      char* slot = shared_memory() + L.ring + tile % C.stages * L.stage;
      const int token = tile * C.key_tile;
      copy_tile_async<C.key_tile, C.d, threads>(slot, k + token * args.k_strides.t * 2, args.k_strides.t, at.length - token);
      copy_tile_async<C.key_tile, C.e, threads>(slot + C.key_tile * C.d * 2, v + token * args.v_strides.t * 2, args.v_strides.t,
                                                at.length - token);
    }
    cp_async_commit();
  }

  /// Starts the copies of the first tiles. Queries that are on their way, in no group yet, are awaited with the first of them.
  PHITUNE_DEVICE void start() const {
    if constexpr (C.stages == 1) cp_async_commit();
    for (int tile = 0; tile < C.stages - 1; ++tile) copy_keys(tile);
  }

  PHITUNE_DEVICE void load_gates() {
    if constexpr (C.gated) {
      gates.gates = reinterpret_cast<const F2*>(args.gates) + (static_cast<i64>(at.batch) * args.hk + at.kv_head) * args.t + at.start;
      gates.shared = shared_memory() + L.gates;
      gates.length = at.length, gates.whole = whole;
      if (whole > 0) gates.reference = gates.at(whole * C.key_tile - 1);
      PHITUNE_UNROLL
      for (int i = 0; i < 2 * C.m_tiles; ++i) row_gates[i / 2][i % 2] = gates.at(warp_first + i / 2 * 16 + lane() / 4 + i % 2 * 8);
      gates.fetch(0);
      gates.publish(0);
    }
  }

  /// From the frame of the keys before the diagonal to that of each row.
  PHITUNE_DEVICE void reach_diagonal(Rows<C>& rows) const {
    float factor[C.m_tiles][2];
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * C.m_tiles; ++i) factor[i / 2][i % 2] = gate_weight(row_gates[i / 2][i % 2], gates.reference);
    rows.scale(factor);
  }

  /// Adds all keys up to the diagonal to rows that have none yet. Afterwards all warps are through with the tiles.
  PHITUNE_DEVICE void add_keys(Rows<C>& rows) {
    const bool active = warp_first < at.length;
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

      const char* k_tile = shared_memory() + L.ring + tile % C.stages * L.stage;
      const char* v_tile = k_tile + C.key_tile * C.d * 2;
      if (active && tile < whole) {
        whole_tile<C>(rows, k_tile, v_tile, reinterpret_cast<const float*>(gates.slot(tile)));
      } else if (active) {
        if (C.gated && tile == whole && (C.after_state || whole > 0)) reach_diagonal(rows);
        diagonal_tile<C>(rows, k_tile, v_tile, reinterpret_cast<const F2*>(gates.slot(tile)), row_gates, tile * C.key_tile - warp_first);
      }
      if (tile + 1 < tiles) gates.publish(tile + 1);
    }
    block_barrier();
  }
};

}  // namespace phitune::attention_detail
