// The quadratic form on Hopper, shared by the kernels that have one: tiles of 64 keys with their values and gates in shared memory, scores
// Q K^T, weights w_ij = (q_i.k_j)^p exp(G_i - G_j) for j <= i, and their product with V. In normal space: no running maximum, no logarithm.
// scale^p is left to the caller.
//
// Tiles before a block's rows have gates as factors exp(G_ref - G_j) per key, G_ref that of the last such key; tiles among the rows have
// G_j, and exp(G_i - G_j) per element with the causal mask. Every exponent is <= 0.
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
  using Output = float[C.e / 2];

  static_assert(C.d % 16 == 0 && C.e % 16 == 0 && C.p >= 1 && C.p <= 4);

  // ---- filling a stage, by a warpgroup ----

  // Tiles lie in panels of up to 64 columns: rows of up to 128 bytes, swizzled, so that neither copies nor products meet a bank twice.
  PHITUNE_DEVICE static constexpr int panel_columns(int width) { return width < 64 ? width : 64; }
  PHITUNE_DEVICE static constexpr int panel_bytes(int width) { return keys * panel_columns(width) * 2; }

  template <int Width>
  PHITUNE_DEVICE static void copy_rows(char* target, const u16* source, i64 stride, int valid) {
    constexpr int chunks = Width / 8, panel = panel_columns(Width), panel_chunks = panel / 8;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(keys * chunks, 128); ++i) {
      const int item = i * 128 + thread_index() % 128, row = item / chunks, chunk = item % chunks;
      const bool inside = row < valid;
      cp_async_16(target + chunk / panel_chunks * panel_bytes(Width) + tile_offset<panel>(row, chunk % panel_chunks),
                  source + (inside ? row : 0) * stride + chunk * 8, inside);
    }
  }
  /// Starts copying a tile whose first `valid` keys exist; the others become zeros.
  PHITUNE_DEVICE static void copy(char* stage, const u16* k, i64 k_stride, const u16* v, i64 v_stride, int valid) {
    copy_rows<C.d>(stage, k, k_stride, valid);
    copy_rows<C.e>(stage + L.values_at, v, v_stride, valid);
  }
  /// Key `key`'s gate, prepared for a tile before the rows of the block or among them.
  PHITUNE_DEVICE static void store_gate(char* stage, int key, bool before, F2 reference, F2 gate) {
    if (before)
      reinterpret_cast<float*>(stage + L.gates_at)[key] = gate_weight(reference, gate);
    else
      reinterpret_cast<F2*>(stage + L.gates_at)[key] = gate;
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
    constexpr int row = panel_columns(C.e) * 2;
    const SharedMatrix v = swizzled_rows_of_n(stage + L.values_at, row, panel_bytes(C.e));
    PHITUNE_UNROLL
    for (int step = 0; step < key_steps; ++step) wgmma_bf16<C.e, true>(out, w[step], v.at(step * 16 * row), accumulate || step > 0);
  }

  PHITUNE_DEVICE static float power(float x) {
    if constexpr (C.p == 1) return x;
    const float square = x * x;
    if constexpr (C.p == 2) return square;
    return C.p == 3 ? square * x : square * square;
  }

  /// Weights of a tile all of whose keys lie before the block's rows. Scores are read, not overwritten: whatever else writes registers that
  /// wgmma accumulates in makes the compiler serialise the products.
  PHITUNE_DEVICE static void weigh_before(Weights& w, float (&sum)[2], const Scores& s, const char* stage) {
    const float* const factors = reinterpret_cast<const float*>(stage + L.gates_at) + lane() % 4 * 2;
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      F2 factor{1.0f, 1.0f};
      if constexpr (C.gated) factor = *reinterpret_cast<const F2*>(factors + n * 8);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        F2 weight{power(s[4 * n + 2 * h]), power(s[4 * n + 2 * h + 1])};
        if constexpr (C.gated) weight.x *= factor.x, weight.y *= factor.y;
        store(w, sum, n, h, weight);
      }
    }
  }

  /// Weights of a tile among the block's rows. `column` is the tile's first key and `row` the thread's first row, counted alike; its other
  /// row is 8 on.
  PHITUNE_DEVICE static void weigh_among(Weights& w, float (&sum)[2], const Scores& s, const char* stage, int column, int row,
                                         const F2 (&row_gates)[2]) {
    const F2* const gates = reinterpret_cast<const F2*>(stage + L.gates_at) + lane() % 4 * 2;
    const int first = column + lane() % 4 * 2 - row;  // of a pair of keys, from the row
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      F4 gate{};
      if constexpr (C.gated) gate = *reinterpret_cast<const F4*>(gates + n * 8);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        F2 weight{power(s[4 * n + 2 * h]), power(s[4 * n + 2 * h + 1])};
        if constexpr (C.gated)
          weight.x *= gate_weight(row_gates[h], F2{gate.x, gate.y}), weight.y *= gate_weight(row_gates[h], F2{gate.z, gate.w});
        const int from = first + n * 8 - 8 * h;
        store(w, sum, n, h, F2{from <= 0 ? weight.x : 0.0f, from < 0 ? weight.y : 0.0f});
      }
    }
  }

 private:
  PHITUNE_DEVICE static void store(Weights& w, float (&sum)[2], int n, int h, F2 weight) {
    w[n / 2][n % 2 * 2 + h] = pack_bf16x2(weight.x, weight.y);
    if constexpr (C.sum) sum[h] += weight.x + weight.y;
  }
};

}  // namespace phitune::sm90
