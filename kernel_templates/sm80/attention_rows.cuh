// What a warp that attends to keys holds, and how 16 keys at a time extend it. See attention_walk.cuh for the scheme.
#pragma once

#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/tile.cuh"
#include "kernel_templates/sm80/attention_config.cuh"

namespace phitune {

namespace attention_detail {

/// x to the power P.
template <int P>
PHITUNE_DEVICE float power(float x) {
  static_assert(P >= 1 && P <= 4);
  if constexpr (P == 1) return x;
  const float square = x * x;
  if constexpr (P == 2) return square;
  return P == 3 ? square * x : square * square;
}

/// A packed pair of V as an operand of P V. 16-bit values are exact in tf32, so nothing is rounded.
template <Math M, Storage S>
PHITUNE_DEVICE void set_exact(FragB<M>& b, int slot, u32 bits) {
  if constexpr (M == Math::tf32)
    b.x[slot][0] = float_bits(unpack_low<S>(bits)), b.x[slot][1] = float_bits(unpack_high<S>(bits));
  else
    b.x[slot] = bits;
}

/// What one warp holds: its rows of the output, their sums, and how to extend both by 16 keys.
template <AttentionConfig C>
struct Rows {
  static constexpr Math score_math = C.input == Storage::bf16 ? Math::bf16 : Math::fp16;
  // Weights have the range of fp32: bf16 keeps it, fp16 would not.
  static constexpr Math value_math = C.input == Storage::bf16 ? Math::bf16 : Math::tf32;
  static constexpr int k_steps = C.d / 16, v_steps = C.e / 16, held = C.q_registers ? k_steps : 1;

  const char* q_tile;
  int row0;  // first of the warp's rows in the block's tile
  FragA<score_math> q[held][C.m_tiles];
  float acc[C.m_tiles][2 * v_steps][4];
  float sum[C.m_tiles][2];

  /// Scores of 16 keys: [m tile][n tile of 8][fragment].
  struct Scores {
    float c[C.m_tiles][2][4];
  };

  PHITUNE_DEVICE Rows(const char* queries, int first_row) : q_tile(queries), row0(first_row) {}

  PHITUNE_DEVICE void clear() {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      sum[m][0] = sum[m][1] = 0.0f;
      PHITUNE_UNROLL
      for (int n = 0; n < 2 * v_steps; ++n) acc[m][n][0] = acc[m][n][1] = acc[m][n][2] = acc[m][n][3] = 0.0f;
    }
  }

  PHITUNE_DEVICE void load_q(FragA<score_math> (&a)[C.m_tiles], int step) const {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      if constexpr (C.after_state)
        load_a_fragment_padded<attention_q_pitch(C)>(a[m].x, q_tile, row0 + m * 16, step * 16);
      else
        load_a_fragment<C.d>(a[m].x, q_tile, row0 + m * 16, step * 16);
    }
  }

  PHITUNE_DEVICE void hold_q() {
    if constexpr (C.q_registers) {
      PHITUNE_UNROLL
      for (int step = 0; step < k_steps; ++step) load_q(q[step], step);
    }
  }

  PHITUNE_DEVICE Scores scores(const char* k_tile, int key) {
    Scores s;
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      PHITUNE_UNROLL
      for (int n = 0; n < 2; ++n) s.c[m][n][0] = s.c[m][n][1] = s.c[m][n][2] = s.c[m][n][3] = 0.0f;
    }
    PHITUNE_UNROLL
    for (int step = 0; step < k_steps; ++step) {
      u32 bits[4];
      load_b_fragments<C.d>(bits, k_tile, key, step * 16);
      const FragB<score_math> b[2] = {{{bits[0], bits[1]}}, {{bits[2], bits[3]}}};
      if constexpr (!C.q_registers) load_q(q[0], step);
      const auto& a = q[C.q_registers ? step : 0];
      PHITUNE_UNROLL
      for (int m = 0; m < C.m_tiles; ++m) {
        mma(s.c[m][0], a[m], b[0]);
        mma(s.c[m][1], a[m], b[1]);
      }
    }
    return s;
  }

  /// Adds weights (in place of scores) to the row sums and, times V, to the output.
  PHITUNE_DEVICE void accumulate(const Scores& w, const char* v_tile, int key) {
    FragA<value_math> a[C.m_tiles];
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      PHITUNE_UNROLL
      for (int n = 0; n < 2; ++n) {
        const auto& c = w.c[m][n];
        a[m].set(2 * n, pair_from_floats<value_math>(c[0], c[1]));
        a[m].set(2 * n + 1, pair_from_floats<value_math>(c[2], c[3]));
        if constexpr (C.sum) sum[m][0] += c[0] + c[1], sum[m][1] += c[2] + c[3];
      }
    }
    PHITUNE_UNROLL
    for (int step = 0; step < v_steps; ++step) {
      u32 bits[4];
      load_b_fragments_trans<C.e>(bits, v_tile, step * 16, key);
      FragB<value_math> b[2];
      PHITUNE_UNROLL
      for (int i = 0; i < 4; ++i) set_exact<value_math, C.input>(b[i / 2], i % 2, bits[i]);
      PHITUNE_UNROLL
      for (int m = 0; m < C.m_tiles; ++m) {
        mma(acc[m][2 * step], a[m], b[0]);
        mma(acc[m][2 * step + 1], a[m], b[1]);
      }
    }
  }

  /// Multiplies row half h of m tile m by factor[m][h], in output and sum.
  PHITUNE_DEVICE void scale(const float (&factor)[C.m_tiles][2]) {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      sum[m][0] *= factor[m][0], sum[m][1] *= factor[m][1];
      PHITUNE_UNROLL
      for (int n = 0; n < 2 * v_steps; ++n) {
        acc[m][n][0] *= factor[m][0], acc[m][n][1] *= factor[m][0];
        acc[m][n][2] *= factor[m][1], acc[m][n][3] *= factor[m][1];
      }
    }
  }
};

/// Calls change(score, m tile, n tile, element of the fragment) for every score.
template <AttentionConfig C, class Change>
PHITUNE_DEVICE void for_scores(typename Rows<C>::Scores& s, Change&& change) {
  PHITUNE_UNROLL
  for (int m = 0; m < C.m_tiles; ++m) {
    PHITUNE_UNROLL
    for (int n = 0; n < 2; ++n) {
      PHITUNE_UNROLL
      for (int i = 0; i < 4; ++i) change(s.c[m][n][i], m, n, i);
    }
  }
}

/// Keys wholly before the block's rows, up to 64 of a tile. `factors` are exp(G_ref - G_j) of the tile's keys. Scores of the next 16 keys
/// are issued before the weights of these, so that the matrix units have work meanwhile; where the output alone takes half of the registers
/// there is no room.
template <AttentionConfig C>
PHITUNE_DEVICE void keys_before(Rows<C>& rows, const char* k_tile, const char* v_tile, const float* factors, int first) {
  constexpr int blocks = C.key_tile < 64 ? C.key_tile / 16 : 4;
  constexpr bool ahead = C.m_tiles * C.e < 256;
  typename Rows<C>::Scores next;
  if constexpr (ahead) next = rows.scores(k_tile, first);
  const auto one_block = [&](int block) {
    const int key = first + block * 16;
    typename Rows<C>::Scores s;
    if constexpr (ahead) {
      s = next;
      if (block + 1 < blocks) next = rows.scores(k_tile, key + 16);
    } else {
      s = rows.scores(k_tile, key);
    }
    F2 factor[2] = {{1.0f, 1.0f}, {1.0f, 1.0f}};
    if constexpr (C.gated) {
      PHITUNE_UNROLL
      for (int n = 0; n < 2; ++n) factor[n] = *reinterpret_cast<const F2*>(factors + key + n * 8 + 2 * (lane() & 3));
    }
    for_scores<C>(s, [&](float& x, int, int n, int i) {
      x = power<C.p>(x);
      if constexpr (C.gated) x *= i % 2 == 0 ? factor[n].x : factor[n].y;
    });
    rows.accumulate(s, v_tile, key);
  };
  if constexpr (ahead) {
    PHITUNE_UNROLL
    for (int block = 0; block < blocks; ++block) one_block(block);
  } else {
    PHITUNE_NO_UNROLL
    for (int block = 0; block < blocks; ++block) one_block(block);
  }
}

/// A key tile wholly before the block's rows. Wide tiles are not unrolled whole: that costs registers and instruction cache.
template <AttentionConfig C>
PHITUNE_DEVICE void whole_tile(Rows<C>& rows, const char* k_tile, const char* v_tile, const float* factors) {
  PHITUNE_NO_UNROLL
  for (int first = 0; first < C.key_tile; first += 64) keys_before<C>(rows, k_tile, v_tile, factors, first);
}

/// 16 keys of a tile, all before the warp's rows but in a tile that reaches the block's. `gates` are those of the tile's keys.
template <AttentionConfig C>
PHITUNE_DEVICE void block_before(Rows<C>& rows, const char* k_tile, const char* v_tile, const F2* gates,
                                 const F2 (&row_gates)[C.m_tiles][2], int key) {
  typename Rows<C>::Scores s = rows.scores(k_tile, key);
  float column[2][2] = {{1.0f, 1.0f}, {1.0f, 1.0f}}, row[C.m_tiles][2];
  if constexpr (C.gated) {
    const F2 reference = gates[key + 15];
    PHITUNE_UNROLL
    for (int i = 0; i < 4; ++i) column[i / 2][i % 2] = gate_weight(reference, gates[key + i / 2 * 8 + 2 * (lane() & 3) + i % 2]);
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * C.m_tiles; ++i) row[i / 2][i % 2] = gate_weight(row_gates[i / 2][i % 2], reference);
  }
  for_scores<C>(s, [&](float& x, int m, int n, int i) {
    x = power<C.p>(x);
    if constexpr (C.gated) x *= column[n][i % 2] * row[m][i / 2];
  });
  rows.accumulate(s, v_tile, key);
}

/// 16 keys that meet the diagonal. `offset` is the first key's position less the warp's first row's.
template <AttentionConfig C>
PHITUNE_DEVICE void block_diagonal(Rows<C>& rows, const char* k_tile, const char* v_tile, const F2* gates,
                                   const F2 (&row_gates)[C.m_tiles][2], int key, int offset) {
  typename Rows<C>::Scores s = rows.scores(k_tile, key);
  for_scores<C>(s, [&](float& x, int m, int n, int i) {
    const int column = n * 8 + 2 * (lane() & 3) + i % 2, row = m * 16 + lane() / 4 + i / 2 * 8;
    float weight = power<C.p>(x);
    if constexpr (C.gated) weight *= gate_weight(row_gates[m][i / 2], gates[key + column]);
    x = offset + column <= row ? weight : 0.0f;
  });
  rows.accumulate(s, v_tile, key);
}

}  // namespace attention_detail

}  // namespace phitune
