// Keys and values of the Hopper attention kernel in fp16 (half_attention.cuh), weighed once for all queries: tiles of 128 keys, each tile by one
// warp.
//
// The weight of key j for row i is (q_i.k_j)^p exp(G_i - G_j). For fp16 to hold all of it, a key is divided by a power of two, 2^b_j, that
// leaves its length below 1, and what was taken, with the gate, goes to its value: c_j = 2^(p b_j) exp(-G_j) times v_j, and times one for the
// sum of weights. All c_j of a tile are divided by the tile's 2^(p X), with the largest c_j at most 2^14 and c_j |v_j| below 2^15, so that queries
// can make up for it by 2^X.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/sm90/half_attention_config.cuh"

namespace phitune::sm90 {

/// The exponent of a tile that weighs nothing, below that of any other.
inline constexpr int no_exponent = -(1 << 24);

/// A power of two that leaves the length of a row of bf16 below 1, and no less than a quarter (more where fp32 ends); 2^-exponent.
struct RowScale {
  int exponent;
  float factor;
  /// Leaves the row's largest element, of these bits, between 1 and 2.
  PHITUNE_DEVICE explicit RowScale(u32 largest) { set(127 - 254 + static_cast<int>(largest >> 7)); }
  /// `squares`: the sum of the squares of the elements so multiplied, at least 1.
  PHITUNE_DEVICE void shorten(float squares) { set(exponent + static_cast<int>(((float_bits(squares) >> 23) + 1) / 2) - 63); }

 private:
  PHITUNE_DEVICE void set(int wanted) {
    exponent = wanted < 126 ? wanted : 126;
    factor = bits_float(static_cast<u32>(127 - exponent) << 23);
  }
};
PHITUNE_DEVICE float squares_of(u32 bf16_pair, float factor) {
  const float low = low_bf16(bf16_pair) * factor, high = high_bf16(bf16_pair) * factor;
  return low * low + high * high;
}
PHITUNE_DEVICE U2 four_keys(float a, float b, float c, float d) { return {pack_f16x2(a, b), pack_f16x2(c, d)}; }
PHITUNE_DEVICE constexpr u32 word_of(const U4& words, int i) { return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w; }
/// The larger of two magnitudes, where `pair` holds two bf16.
PHITUNE_DEVICE u32 largest_magnitude(u32 most, u32 pair) {
  const u32 low = pair & 0x7fffu, high = pair >> 16 & 0x7fffu;
  most = most > low ? most : low;
  return most > high ? most : high;
}
PHITUNE_DEVICE u32 largest_of(u32 most, const U4& words) {
  return largest_magnitude(largest_magnitude(largest_magnitude(largest_magnitude(most, words.x), words.y), words.z), words.w);
}
PHITUNE_DEVICE u32 scaled_pair(u32 bf16_pair, float factor) { return pack_f16x2(low_bf16(bf16_pair) * factor, high_bf16(bf16_pair) * factor); }

template <HalfAttentionConfig C>
struct KeyWeigher {
  static constexpr HalfTileLayout L = half_tile_layout(C);
  static constexpr int lane_keys = half_keys / 32;  // that follow each other
  // Of what is read; more would not fit into registers.
  static constexpr bool all_at_once = C.d + C.e <= 48;
  static constexpr int keys_at_once = all_at_once ? lane_keys : lane_keys / 2;
  static_assert(lane_keys == 4 && C.d % 16 == 0 && C.e % 8 == 0 && (C.p == 2 || C.p == 4));

  PHITUNE_DEVICE static int tiles_of(const Args& args) { return half_tiles(args.t); }
  PHITUNE_DEVICE static char* tile_at(const Args& args, int head, int tile) {
    return static_cast<char*>(args.weighed) + (static_cast<i64>(head) * tiles_of(args) + tile) * L.bytes;
  }
  /// The exponents of a head's tiles once more, side by side.
  PHITUNE_DEVICE static int* exponents(const Args& args, int head) {
    const i64 tiles = static_cast<i64>(args.b) * args.hk * tiles_of(args);
    return reinterpret_cast<int*>(static_cast<char*>(args.weighed) + tiles * L.bytes) + static_cast<i64>(head) * tiles_of(args);
  }

  PHITUNE_DEVICE explicit KeyWeigher(const Args& a) : args(a) {}

  /// Tile `index` of all heads and batches, of inputs of the plan alone.
  PHITUNE_DEVICE void read(int index) {
    read_keys(index, 0);
    if constexpr (all_at_once) read_values(index);
  }

  /// The same tile, behind read().
  PHITUNE_DEVICE void weigh(int index) {
    const int head = head_of(index), tile = index - head * tiles_of(args), own = own_key(index);
    const int first = tile * half_keys, last = first + half_keys < args.t ? first + half_keys - 1 : args.t - 1;
    const F2* const gates = reinterpret_cast<const F2*>(args.gates) + static_cast<i64>(head) * args.t;
    char* const out = tile_at(args, head, tile);
    constexpr float log2_e = 1.4426950408889634f;
    F2 end = {0.0f, 0.0f}, key_gates[lane_keys];
    // (What is read stands before what is written: the compiler may not move it there.)
    if constexpr (C.gated) {
      end = gates[last];
      PHITUNE_UNROLL
      for (int i = 0; i < lane_keys; ++i) key_gates[i] = gates[own + i < args.t ? own + i : last];
    }
    float weight[lane_keys];  // log2 c_j but for the tile's gate
    bool weighs[lane_keys];
    PHITUNE_UNROLL
    for (int from = 0; from < lane_keys; from += keys_at_once) {
      if (from > 0) read_keys(index, from);
      PHITUNE_UNROLL
      for (int i = 0; i < keys_at_once; ++i) {
        const auto& words = key_words[i];
        u32 largest = 0;
        PHITUNE_UNROLL
        for (int n = 0; n < C.d / 8; ++n) largest = largest_of(largest, words[n]);
        RowScale scale(largest);
        float squares = 0.0f;
        PHITUNE_UNROLL
        for (int n = 0; n < C.d / 8; ++n)
          squares += squares_of(words[n].x, scale.factor) + squares_of(words[n].y, scale.factor) + squares_of(words[n].z, scale.factor) + squares_of(words[n].w, scale.factor);
        if (largest != 0) scale.shorten(squares);
        PHITUNE_UNROLL
        for (int n = 0; n < C.d / 8; ++n) {
          const U4 w = words[n];
          *reinterpret_cast<U4*>(out + n / 2 * L.key_step_bytes + n % 2 * (L.key_step_bytes / 2) + (lane() * lane_keys + from + i) * 16) =
              U4{scaled_pair(w.x, scale.factor), scaled_pair(w.y, scale.factor), scaled_pair(w.z, scale.factor), scaled_pair(w.w, scale.factor)};
        }
        weighs[from + i] = largest != 0;
        weight[from + i] = static_cast<float>(C.p * scale.exponent);
        if constexpr (C.gated) weight[from + i] += ((end.x - key_gates[from + i].x) + (end.y - key_gates[from + i].y)) * log2_e;
      }
    }
    if constexpr (!all_at_once) read_values(index);
    float most = -0x1p100f;
    PHITUNE_UNROLL
    for (int i = 0; i < lane_keys; ++i) {
      u32 largest = 0;
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; ++n) largest = largest_of(largest, value_words[i][n]);
      const int above_one = static_cast<int>(largest >> 7) - 126;
      const float here = weight[i] + static_cast<float>(above_one > 0 ? above_one : 0);
      if (weighs[i] && here > most) most = here;
    }
    PHITUNE_UNROLL
    for (int step = 1; step < 32; step *= 2) {
      const float other = shuffle_xor(most, step);
      most = most > other ? most : other;
    }

    int exponent = no_exponent;
    float more = 0.0f;  // what log2 of a weight in the tile is more than above
    if (most > -0x1p99f) {
      // exp(-G) of the tile's last key is 2^whole times 2^part.
      const double gate = -(static_cast<double>(end.x) + static_cast<double>(end.y)) * 1.4426950408889634;
      const int whole = static_cast<int>(gate);  // (gates are not positive)
      const int up = static_cast<int>(most) + (static_cast<float>(static_cast<int>(most)) < most ? 1 : 0), exact = up - 13 + whole;
      exponent = (exact + C.p - 1) >> (C.p == 4 ? 2 : 1);
      more = static_cast<float>(gate - static_cast<double>(whole)) - static_cast<float>(up - 13 + (C.p * exponent - exact));
    }
    if (lane() == 0) {
      *reinterpret_cast<int*>(out + L.exponent_at) = exponent;
      exponents(args, head)[tile] = exponent;
    }

    float ones[lane_keys];
    PHITUNE_UNROLL
    for (int i = 0; i < lane_keys; ++i) ones[i] = weighs[i] ? exp2_approx(weight[i] + more) : 0.0f;
    PHITUNE_UNROLL
    for (int n = 0; n < C.e / 8; ++n) {
      PHITUNE_UNROLL
      for (int c = 0; c < 4; ++c) {
        u32 v[lane_keys];
        PHITUNE_UNROLL
        for (int i = 0; i < lane_keys; ++i) v[i] = word_of(value_words[i][n], c);
        write_columns(out, n * 8 + 2 * c,
                      four_keys(low_bf16(v[0]) * ones[0], low_bf16(v[1]) * ones[1], low_bf16(v[2]) * ones[2], low_bf16(v[3]) * ones[3]),
                      four_keys(high_bf16(v[0]) * ones[0], high_bf16(v[1]) * ones[1], high_bf16(v[2]) * ones[2], high_bf16(v[3]) * ones[3]));
      }
    }
    write_columns(out, C.e, four_keys(ones[0], ones[1], ones[2], ones[3]), U2{0, 0});
    PHITUNE_UNROLL
    for (int n = 2; n < 8; n += 2) write_columns(out, C.e + n, U2{0, 0}, U2{0, 0});
  }

 private:
  const Args& args;
  U4 key_words[keys_at_once][C.d / 8], value_words[lane_keys][C.e / 8];

  PHITUNE_DEVICE int head_of(int index) const { return index / tiles_of(args); }
  /// The first of the lane's keys.
  PHITUNE_DEVICE int own_key(int index) const { return index % tiles_of(args) * half_keys + lane() * lane_keys; }
  PHITUNE_DEVICE void read_keys(int index, int from) {
    const int head = head_of(index);
    const u16* const keys = static_cast<const u16*>(args.k) + head / args.hk * args.k_strides.b + head % args.hk * args.k_strides.h;
    PHITUNE_UNROLL
    for (int i = 0; i < keys_at_once; ++i) read_row(key_words[i], keys, args.k_strides.t, own_key(index) + from + i);
  }
  PHITUNE_DEVICE void read_values(int index) {
    const int head = head_of(index);
    const u16* const values = static_cast<const u16*>(args.v) + head / args.hk * args.v_strides.b + head % args.hk * args.v_strides.h;
    PHITUNE_UNROLL
    for (int i = 0; i < lane_keys; ++i) read_row(value_words[i], values, args.v_strides.t, own_key(index) + i);
  }
  template <int N>
  PHITUNE_DEVICE void read_row(U4 (&words)[N], const u16* rows, i64 stride, int row) const {
    PHITUNE_UNROLL
    for (int n = 0; n < N; ++n) words[n] = row < args.t ? *reinterpret_cast<const U4*>(rows + row * stride + n * 8) : U4{0, 0, 0, 0};
  }
  /// Columns n, even, and n + 1 of the lane's four keys. Two lanes have eight keys, 16 bytes of a column: each writes one column.
  PHITUNE_DEVICE static void write_columns(char* out, int n, U2 even, U2 odd) {
    const bool second = lane() % 2 != 0;
    const U2 own = second ? odd : even, other = second ? even : odd;
    const U2 got = {shuffle_xor(other.x, 1), shuffle_xor(other.y, 1)};
    char* const step = out + L.values_at + lane() / 4 * L.value_step_bytes + lane() / 2 % 2 * (L.value_step_bytes / 2);
    *reinterpret_cast<U4*>(step + n / 8 * 128 + (n % 8 + lane() % 2) * 16) = second ? U4{got.x, got.y, own.x, own.y} : U4{own.x, own.y, got.x, got.y};
  }
};

}  // namespace phitune::sm90
