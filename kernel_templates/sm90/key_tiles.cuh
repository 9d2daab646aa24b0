// The quadratic form on Hopper as attend_query has it: tiles of 64 keys with their values and gates in shared memory, scores
// Q K^T, weights w_ij = (q_i.k_j)^p exp(G_i - G_j) for j <= i, and their product with V. In normal space: no running maximum, no logarithm.
// scale^p is left to the caller.
//
// Gates are split at G_ref, that of the last key before the rows of the block: a key's factor is exp(G_ref - G_j), and the row's
// exp(G_i - G_ref) is applied once, by the caller, where it does not cancel anyway. For keys among the rows the exponent is positive: rows
// within which gates fall by more than `widest_split` take the other way, G_j in shared memory and exp(G_i - G_j) per element.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/tile.cuh"
#include "kernel_templates/sm90/key_tiles_config.cuh"

namespace phitune::sm90 {

template <KeyTilesConfig C>
struct KeyTiles {
  static constexpr KeyTilesLayout L = key_tiles_layout(C);
  static constexpr int keys = tile_keys, d_steps = C.d / 16, key_steps = keys / 16;
  using Queries = u32[d_steps][4];  // A fragments of 16 rows of a warp
  using Scores = float[keys / 2];
  using Weights = u32[key_steps][4];
  using Output = float[L.columns / 2];

  static_assert(C.d % 16 == 0 && C.e % 16 == 0 && (C.e & (C.e - 1)) == 0 && C.p >= 1 && C.p <= 4);

  /// Whether the weights of rows whose gates run from G_ref to `last` may be split: e^40 times a score's power is far from fp32's end.
  PHITUNE_DEVICE static bool may_split(F2 reference, F2 last) {
    constexpr float widest_split = 40.0f;
    return !C.gated || (reference.x - last.x) + (reference.y - last.y) <= widest_split;
  }

  // ---- filling a stage, by a warpgroup ----

  // K lies in panels of up to 64 columns: rows of up to 128 bytes, swizzled, so that neither copies nor products meet a bank twice.
  PHITUNE_DEVICE static constexpr int panel_columns(int width) { return width < 64 ? width : 64; }
  PHITUNE_DEVICE static constexpr int panel_bytes(int width) { return keys * panel_columns(width) * 2; }

  PHITUNE_DEVICE static void copy_keys(char* target, const u16* source, i64 stride, int valid) {
    constexpr int chunks = C.d / 8, panel = panel_columns(C.d), panel_chunks = panel / 8;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(keys * chunks, 128); ++i) {
      const int item = i * 128 + thread_index() % 128, row = item / chunks, chunk = item % chunks;
      const bool inside = row < valid;
      cp_async_16(target + chunk / panel_chunks * panel_bytes(C.d) + tile_offset<panel>(row, chunk % panel_chunks),
                  source + (inside ? row : 0) * stride + chunk * 8, inside);
    }
  }
  PHITUNE_DEVICE static constexpr int value_offset(int row, int chunk) {
    return row / 16 * L.step_bytes + (row / 8 % 2 * (L.columns / 8) + chunk) * core_stride + row % 8 * 16;
  }
  PHITUNE_DEVICE static void copy_values(char* target, const u16* source, i64 stride, int valid) {
    constexpr int chunks = C.e / 8;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(keys * chunks, 128); ++i) {
      const int item = i * 128 + thread_index() % 128, chunk = item % chunks, row = item / chunks;
      const bool inside = row < valid;
      cp_async_16(target + value_offset(row, chunk), source + (inside ? row : 0) * stride + chunk * 8, inside);
    }
  }
  /// Starts copying a tile whose first `valid` keys exist; the others become zeros.
  PHITUNE_DEVICE static void copy(char* stage, const u16* k, i64 k_stride, const u16* v, i64 v_stride, int valid) {
    copy_keys(stage, k, k_stride, valid);
    copy_values(stage + L.values_at, v, v_stride, valid);
  }
  /// What belongs to key `key` beside its copies: its gate, as a factor or as it is, and its one.
  PHITUNE_DEVICE static void store_key(char* stage, int key, bool split, F2 reference, F2 gate) {
    if constexpr (C.gated) {
      if (split)
        reinterpret_cast<float*>(stage + L.gates_at)[key] = gate_weight(reference, gate);
      else
        reinterpret_cast<F2*>(stage + L.gates_at)[key] = gate;
    }
    if constexpr (C.ones) *reinterpret_cast<U4*>(stage + L.values_at + value_offset(key, C.e / 8)) = U4{0x3f80u, 0, 0, 0};
  }

  // ---- products, by a warpgroup of 64 query rows ----

  PHITUNE_DEVICE static void multiply_keys(Scores& s, const Queries& q, const char* stage) {
    constexpr int row = panel_columns(C.d) * 2, panel_steps = panel_columns(C.d) / 16;
    const SharedMatrix k = swizzled_rows_of_k(stage, row);
    PHITUNE_UNROLL
    for (int step = 0; step < d_steps; ++step)
      wgmma_bf16<keys, false>(s, q[step], k.at(step / panel_steps * panel_bytes(C.d) + step % panel_steps * 32), step > 0);
  }
  PHITUNE_DEVICE static void multiply_values(Output& out, const Weights& w, const char* stage, bool accumulate) {
    const SharedMatrix v = core_matrices(stage + L.values_at, L.step_bytes / 2, core_stride);
    PHITUNE_UNROLL
    for (int step = 0; step < key_steps; ++step)
      wgmma_bf16<L.columns, true>(out, w[step], v.at(step * L.step_bytes), accumulate || step > 0);
  }

  PHITUNE_DEVICE static float power(float x) {
    if constexpr (C.p == 1) return x;
    const float square = x * x;
    if constexpr (C.p == 2) return square;
    return C.p == 3 ? square * x : square * square;
  }

  /// Weights of a tile whose gates are factors. Masked: `from` is the tile's first key less the thread's first row, and keys after a row
  /// have none. (Scores are read, not overwritten: whatever else writes registers that wgmma accumulates in makes the compiler serialise
  /// the products.)
  template <bool Masked>
  PHITUNE_DEVICE static void weigh_split(Weights& w, const Scores& s, const char* stage, int from) {
    const float* const factors = reinterpret_cast<const float*>(stage + L.gates_at) + lane() % 4 * 2;
    const int first = from + lane() % 4 * 2;
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      F2 factor{1.0f, 1.0f};
      if constexpr (C.gated) factor = *reinterpret_cast<const F2*>(factors + n * 8);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        F2 weight{power(s[4 * n + 2 * h]), power(s[4 * n + 2 * h + 1])};
        if constexpr (C.gated) weight.x *= factor.x, weight.y *= factor.y;
        if constexpr (Masked) weight = F2{first + n * 8 - 8 * h <= 0 ? weight.x : 0.0f, first + n * 8 - 8 * h < 0 ? weight.y : 0.0f};
        store(w, n, h, weight);
      }
    }
  }

  /// The same of a tile that has the gates themselves: exp(G_i - G_j) per element, masked.
  PHITUNE_DEVICE static void weigh_exactly(Weights& w, const Scores& s, const char* stage, int from, const F2 (&row_gates)[2]) {
    const F2* const gates = reinterpret_cast<const F2*>(stage + L.gates_at) + lane() % 4 * 2;
    const int first = from + lane() % 4 * 2;
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      F4 gate{};
      if constexpr (C.gated) gate = *reinterpret_cast<const F4*>(gates + n * 8);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        F2 weight{power(s[4 * n + 2 * h]), power(s[4 * n + 2 * h + 1])};
        if constexpr (C.gated)
          weight.x *= gate_weight(row_gates[h], F2{gate.x, gate.y}), weight.y *= gate_weight(row_gates[h], F2{gate.z, gate.w});
        store(w, n, h, F2{first + n * 8 - 8 * h <= 0 ? weight.x : 0.0f, first + n * 8 - 8 * h < 0 ? weight.y : 0.0f});
      }
    }
  }

  // ---- walks over tiles [begin, end) of a ring ----
  //
  // `ring` has const char* stage(tile), void wait(tile) for a tile to be there, and void release(tile) when all products with it are done.
  // Nothing is in flight before and after. `begun`: `out` holds something. weigh(weights, scores, tile, m) forms weights
  // of query tile m.

  /// The scores of the next tile and the product of this one's weights with V are in flight while weights are formed.
  /// weigh_last, of the last tile, may differ.
  template <class Ring, class Weigh, class WeighLast>
  PHITUNE_DEVICE static void walk_overlapped(Output& out, bool begun, const Queries& q, int begin, int end, const Ring& ring,
                                             const Weigh& weigh, const WeighLast& weigh_last) {
    if (begin >= end) return;
    Scores scores;
    Weights w[2];
    wait_for(ring, begin);
    wgmma_fence();
    multiply_keys(scores, q, ring.stage(begin));
    wgmma_commit();
    wgmma_wait<0>();
    settle(scores);
    const auto step = [&](int tile, Weights& weights) {
      weigh(weights, scores, tile, 0);
      settle_all(weights);
      wait_for(ring, tile + 1);
      wgmma_fence();
      multiply_keys(scores, q, ring.stage(tile + 1));
      wgmma_commit();
      multiply_values(out, weights, ring.stage(tile), begun || tile > begin);
      wgmma_commit();
      // The scores are there, and the product before this one is done.
      wgmma_wait<1>();
      settle(scores);
      if (tile > begin) ring.release(tile - 1);
    };
    const auto last = [&](int tile, Weights& weights) {
      weigh_last(weights, scores, tile, 0);
      settle_all(weights);
      wgmma_fence();
      multiply_values(out, weights, ring.stage(tile), begun || tile > begin);
      wgmma_commit();
      wgmma_wait<0>();
      if (tile > begin) ring.release(tile - 1);
      ring.release(tile);
    };
    int tile = begin;
    PHITUNE_NO_UNROLL
    for (; tile + 2 < end; tile += 2) {
      step(tile, w[0]);
      step(tile + 1, w[1]);
    }
    if (tile + 1 < end) {
      step(tile, w[0]);
      last(tile + 1, w[1]);
    } else {
      last(tile, w[0]);
    }
    settle(out);
  }

  /// For query tiles [First, M) of 64 rows: while the weights of one are formed, the scores of the next, then the product of the one before
  /// with V are in flight. read(queries, m) gives a tile's queries.
  template <int First, int M, class Ring, class Read, class Weigh>
  PHITUNE_DEVICE static void walk_in_turn(Output (&out)[M], bool begun, const Read& read, int begin, int end, const Ring& ring,
                                          const Weigh& weigh) {
    if (begin >= end) return;
    Queries q[M];
    PHITUNE_UNROLL
    for (int m = First; m < M; ++m) read(q[m], m);
    PHITUNE_NO_UNROLL
    for (int tile = begin; tile < end; ++tile) {
      Scores scores[M];
      Weights w[M];
      wait_for(ring, tile);
      wgmma_fence();
      PHITUNE_UNROLL
      for (int m = First; m < M; ++m) {
        multiply_keys(scores[m], q[m], ring.stage(tile));
        wgmma_commit();
      }
      PHITUNE_UNROLL
      for (int m = First; m < M; ++m) {
        // Behind each query tile's scores are those of the tiles after it and the products of the tiles before it.
        wgmma_wait<M - 1 - First>();
        settle(scores[m]);
        weigh(w[m], scores[m], tile, m);
        settle_all(w[m]);
        wgmma_fence();
        multiply_values(out[m], w[m], ring.stage(tile), begun || tile > begin);
        wgmma_commit();
      }
      wgmma_wait<0>();
      ring.release(tile);
    }
    PHITUNE_UNROLL
    for (int m = First; m < M; ++m) settle(out[m]);
  }

 private:
  template <class Ring>
  PHITUNE_DEVICE static void wait_for(const Ring& ring, int tile) {
    ring.wait(tile);
    fence_async_shared();
  }
  PHITUNE_DEVICE static void settle_all(Weights& w) {
    PHITUNE_UNROLL
    for (int step = 0; step < key_steps; ++step) settle(w[step]);
  }
  PHITUNE_DEVICE static void store(Weights& w, int n, int h, F2 weight) { w[n / 2][n % 2 * 2 + h] = pack_bf16x2(weight.x, weight.y); }
};

}  // namespace phitune::sm90
