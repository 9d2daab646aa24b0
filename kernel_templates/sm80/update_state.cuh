// The update of one chunk: U[r][n] = sum_j exp(G_end - G_j) phi(k_j)_r v_j[n] over its tokens j, and update_z[r] = the same without v
// (Buckman et al., arXiv:2507.04239, chunked form). fp32 accumulation; U is stored in the state dtype.
//
// A matrix product per (b, hk, chunk): M = rows of the state, N = e (and one column of ones for z), K = tokens. A = phi(K)^T is formed in
// registers, each slot as a product of p transposed features; a block transposes every token tile of K once, while it works on the tile
// before. A lane's rows stay the same through the kernel, so the features they are made of are decoded once.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/tspow.cuh"

namespace phitune {

struct UpdateStateConfig {
  int d, e, p, d_tile;
  int rows;          // D, as the host counts it
  int shared_bytes;  // of everything but the weights of the chunk's tokens, as the host counts it
  Storage dtype;     // of k and v
  Math math;
  Storage state;    // of U
  bool gated, sum;  // sum: normalisation "sum", update_z is wanted and U's rows are eight columns longer
  int warps, m_tiles, token_tile, stages, unroll;
};

namespace update_state_detail {

PHITUNE_DEVICE constexpr int log2(int x) {
  int bits = 0;
  while (x > 1) x /= 2, ++bits;
  return bits;
}

}  // namespace update_state_detail

/// One thread's part of the kernel. Grid: x = row block + row blocks * chunk, y = b * hk.
template <UpdateStateConfig C>
class UpdateState {
  static constexpr int threads = C.warps * 32;
  static constexpr int rows_per_warp = 16 * C.m_tiles;
  static constexpr int row_blocks = ceil_div(C.rows, C.warps* rows_per_warp);
  static constexpr int row_length = C.sum ? C.e + 8 : C.e;
  static constexpr int n_tiles = C.e / 8;
  // Tokens whose features are multiplied at once: as many as one 16-byte load holds, or half of that where a slot is two registers.
  static constexpr int k_step = is_packed(C.math) ? 32 : 16;
  static constexpr int slots = k_step / 8;  // pair slots of a row per step

  // Packed products take the gate's weight from a weighted copy of the transposed keys; fp32 products multiply by it.
  static constexpr bool weights_in_keys = C.gated && is_packed(C.math);
  static constexpr int copies = weights_in_keys && C.p > 1 ? 2 : 1;
  static constexpr int k_tile_bytes = C.token_tile * C.d * 2, v_tile_bytes = C.token_tile * C.e * 2;
  static constexpr int v_start = C.stages * k_tile_bytes;
  static constexpr int keys_start = v_start + C.stages * v_tile_bytes;
  static constexpr int weights_start = keys_start + 2 * copies * k_tile_bytes;
  static constexpr int key_row_bytes = C.token_tile * 2;

  static_assert(C.rows == tspow::rows(C.d / C.d_tile, C.p, C.d_tile), "host and kernel disagree on the rows of the state");
  static_assert(C.shared_bytes == weights_start, "host and kernel disagree on shared memory");
  static_assert(C.dtype != Storage::fp32 && threads % (C.d / 8) == 0 && threads % (C.e / 8) == 0);
  static_assert(C.token_tile % 32 == 0 && C.token_tile % C.unroll == 0 && C.unroll % 32 == 0);

  struct Slots {
    Pair<C.math> x[slots];
  };

  // ---- which factors the rows of a warp share ----
  // Bits of a row within a warp: 0-2 the lane's g, 3 the half of the m16 tile, above that the tile. Digit k of a row in a block of equal
  // tile multi-index is bits [k w, (k + 1) w) of the row.

  static constexpr int digit_bits = update_state_detail::log2(C.d_tile), tile_bits = 4 + update_state_detail::log2(C.m_tiles);
  static constexpr int block_rows = static_cast<int>(tspow::power(C.d_tile, C.p));
  static constexpr bool warp_in_block = block_rows % rows_per_warp == 0;
  static constexpr bool tile_in_block = block_rows % 16 == 0;

  PHITUNE_DEVICE static constexpr bool varies_by_tile(int k) {
    return C.m_tiles > 1 && (!warp_in_block || (k * digit_bits < tile_bits && (k + 1) * digit_bits > 4));
  }
  PHITUNE_DEVICE static constexpr bool varies_by_half(int k) { return !tile_in_block || (k * digit_bits <= 3 && (k + 1) * digit_bits > 3); }
  /// How far digit k of (tile, half) lies above that of (0, 0), for a warp in one block.
  PHITUNE_DEVICE static constexpr int digit_step(int tile, int half, int k) {
    return ((tile * 16 + half * 8) >> (k * digit_bits)) & (C.d_tile - 1);
  }
  static constexpr int stored_tiles = warp_in_block ? 1 : C.m_tiles, stored_halves = warp_in_block ? 1 : 2;

  // ---- shared memory ----

  /// Byte of 16-byte chunk `chunk` of a token in a tile of K or V whose rows have `Chunks`; the swizzle spreads the eight rows that
  /// ldmatrix reads at once over all banks.
  template <int Chunks>
  PHITUNE_DEVICE static int token_offset(int token, int chunk) {
    constexpr int rows_per_line = Chunks >= 8 ? 1 : 8 / Chunks;
    constexpr int mask = Chunks >= 8 ? 7 : Chunks - 1;
    return (token * Chunks + (chunk ^ ((token / rows_per_line) & mask))) * 16;
  }

  /// Byte of thread t's 16-byte chunk, first group of 32 tokens, in the row of a transposed feature: tokens 2t, 2t+1 of each eight. Odd
  /// rows swap the halves of each 128 bytes, so that eight lanes of two neighbouring rows meet no bank twice.
  PHITUNE_DEVICE static int key_offset(int feature, int t) { return feature * key_row_bytes + (t * 16 ^ key_flip(feature)); }
  PHITUNE_DEVICE static constexpr int key_flip(int feature) { return C.token_tile >= 64 ? (feature & 1) * 64 : 0; }
  /// The same for group `group` of 32 tokens.
  PHITUNE_DEVICE static int group_offset(int offset, int group) { return (offset ^ (group & 1) * 64) + (group >> 1) * 128; }

 public:
  PHITUNE_DEVICE explicit UpdateState(const Args& args)
      : args_(args),
        shared_(shared_memory()),
        warp_(thread_index() / 32),
        chunk_(block_index_x() / row_blocks),
        head_(block_index_y()),
        first_row_((block_index_x() % row_blocks * C.warps + warp_) * rows_per_warp),
        first_token_(chunk_ * args.chunk),
        tokens_(args.t - first_token_ < args.chunk ? args.t - first_token_ : args.chunk) {}

  PHITUNE_DEVICE void run() {
    const int tiles = ceil_div(tokens_, C.token_tile);
    open_sources();
    // Copy group j holds V of tile j and K of tile j + 1, which is transposed a tile ahead.
    copy_keys(0);
    cp_async_commit();
    PHITUNE_UNROLL
    for (int j = 0; j < C.stages - 1; ++j) copy_group(j);
    if constexpr (C.gated) write_weights(tiles * C.token_tile);
    decode_rows();
    clear();
    cp_async_wait<C.stages - 1>();
    block_barrier();
    transpose(0);
    PHITUNE_NO_UNROLL
    for (int n = 0; n < tiles; ++n) {
      cp_async_wait<C.stages - 2>();
      block_barrier();
      copy_group(n + C.stages - 1);
      // Of the warps that share a scheduler some transpose before they multiply, some after, so that its matrix unit is never idle.
      const bool early = warp_ < 4;
      if (early && n + 1 < tiles) transpose(n + 1);
      if (first_row_ < C.rows) multiply(n);
      if (!early && n + 1 < tiles) transpose(n + 1);
    }
    if (first_row_ < C.rows) write();
  }

 private:
  // ---- global to shared ----

  /// Points at the first 16 bytes that this thread copies; each copied tile moves on to the next.
  PHITUNE_DEVICE void open_sources() {
    const int b = head_ / args_.hk, h = head_ % args_.hk;
    keys_ = open<C.d>(args_.k, args_.k_strides, b, h);
    values_ = open<C.e>(args_.v, args_.v_strides, b, h);
  }
  template <int Width>
  PHITUNE_DEVICE const u16* open(const void* source, const Strides& strides, int b, int h) const {
    constexpr int chunks = Width / 8;
    const i64 token = first_token_ + thread_index() / chunks;
    return static_cast<const u16*>(source) + b * strides.b + h * strides.h + token * strides.t + thread_index() % chunks * 8;
  }

  /// Copies token tile `n` to `target`; tokens past the chunk become zeros.
  template <int Width>
  PHITUNE_DEVICE void copy_tile(char* target, const u16*& source, i64 stride, int n) {
    constexpr int chunks = Width / 8, step = threads / chunks;
    const int chunk = thread_index() % chunks, first = thread_index() / chunks;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(C.token_tile, step); ++i) {
      const int token = first + i * step;
      if (C.token_tile % step != 0 && token >= C.token_tile) break;
      cp_async_16(target + token_offset<chunks>(token, chunk), source + i * step * stride, n * C.token_tile + token < tokens_);
    }
    source += C.token_tile * stride;
  }
  PHITUNE_DEVICE void copy_keys(int n) {
    if (n * C.token_tile < tokens_) copy_tile<C.d>(shared_ + n % C.stages * k_tile_bytes, keys_, args_.k_strides.t, n);
  }
  PHITUNE_DEVICE void copy_group(int j) {
    if (j * C.token_tile < tokens_) copy_tile<C.e>(shared_ + v_start + j % C.stages * v_tile_bytes, values_, args_.v_strides.t, j);
    copy_keys(j + 1);
    cp_async_commit();
  }

  /// exp(G_end - G_j) of the chunk's tokens, in the order in which a thread reads its eight of a group of 32; 0 past the end.
  PHITUNE_DEVICE void write_weights(int padded) {
    constexpr float log2_e = 1.4426950408889634f;
    const F2* gates = reinterpret_cast<const F2*>(args_.gates) + static_cast<i64>(head_) * args_.t + first_token_;
    const F2 end = gates[tokens_ - 1];
    for (int j = thread_index(); j < padded; j += threads) {
      float weight = 0.0f;
      if (j < tokens_) weight = exp2_approx(((end.x - gates[j].x) + (end.y - gates[j].y)) * log2_e);
      const int t = j % 8 / 2, q = j % 32 / 8;
      weights()[j / 32 * 32 + t * 8 + q * 2 + j % 2] = weight;
    }
  }
  PHITUNE_DEVICE float* weights() { return reinterpret_cast<float*>(shared_ + weights_start); }

  // ---- transposed keys: [feature][token], twice, and a weighted copy ----

  PHITUNE_DEVICE char* plain_keys(int n) { return shared_ + keys_start + (n & 1) * (copies * k_tile_bytes); }
  PHITUNE_DEVICE char* first_keys(int n) { return plain_keys(n) + (copies - 1) * k_tile_bytes; }

  PHITUNE_DEVICE void transpose(int n) {
    constexpr int chunks = C.d / 8, units = chunks * (C.token_tile / 32);
    const char* source = shared_ + n % C.stages * k_tile_bytes;
    const int g = lane() / 4, t = lane() % 4;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(units, C.warps); ++i) {
      const int unit = warp_ + i * C.warps;
      if (units % C.warps != 0 && unit >= units) break;
      const int chunk = unit % chunks, group = unit / chunks;
      u32 r[4];
      ldmatrix_x4_trans(r, source + token_offset<chunks>(group * 32 + lane(), chunk));
      const int offset = group_offset(key_offset(chunk * 8 + g, t), group);
      if constexpr (copies == 2 || !weights_in_keys) *reinterpret_cast<U4*>(plain_keys(n) + offset) = U4{r[0], r[1], r[2], r[3]};
      if constexpr (weights_in_keys) {
        const float* w = weights() + n * C.token_tile + group * 32 + t * 8;
        const F4 low = *reinterpret_cast<const F4*>(w), high = *reinterpret_cast<const F4*>(w + 4);
        *reinterpret_cast<U4*>(first_keys(n) + offset) =
            U4{weigh(r[0], low.x, low.y), weigh(r[1], low.z, low.w), weigh(r[2], high.x, high.y), weigh(r[3], high.z, high.w)};
      }
    }
  }
  PHITUNE_DEVICE static u32 weigh(u32 pair, float lo, float hi) {
    return pair_from_floats<C.math>(unpack_low<C.dtype>(pair) * lo, unpack_high<C.dtype>(pair) * hi).bits;
  }

  // ---- A: products of features ----

  PHITUNE_DEVICE void decode_rows() {
    const int g = lane() / 4, t = lane() % 4;
    PHITUNE_UNROLL
    for (int tile = 0; tile < stored_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int half = 0; half < stored_halves; ++half) {
        const int row = first_row_ + tile * 16 + half * 8 + g;
        const tspow::Indices x = tspow::decode(row < C.rows ? row : C.rows - 1, C.p, C.d_tile);
        PHITUNE_UNROLL
        for (int k = 0; k < C.p; ++k) offsets_[tile][half][k] = key_offset(x.i[C.p - 1 - k], t);
      }
    }
  }

  /// Where the row of digit k of (tile, half) begins for this thread.
  PHITUNE_DEVICE int offset(int tile, int half, int k) const {
    if constexpr (warp_in_block) {
      const int step = digit_step(tile, half, k);
      return (offsets_[0][0][k] ^ key_flip(step)) + step * key_row_bytes;
    } else {
      return offsets_[tile][varies_by_half(k) ? half : 0][k];
    }
  }

  /// The slots of digit k of (tile, half) in the k_step tokens from `token` on of token tile n. Digit 0 carries the token's weight.
  PHITUNE_DEVICE Slots factor(int n, int token, int tile, int half, int k) {
    const char* keys = k == 0 ? first_keys(n) : plain_keys(n);
    const int from = offset(tile, half, k);
    Slots s;
    if constexpr (k_step == 32) {
      const U4 r = *reinterpret_cast<const U4*>(keys + group_offset(from, token / 32));
      s = {{pair_from_packed<C.math, C.dtype>(r.x), pair_from_packed<C.math, C.dtype>(r.y), pair_from_packed<C.math, C.dtype>(r.z),
            pair_from_packed<C.math, C.dtype>(r.w)}};
    } else {
      const U2 r = *reinterpret_cast<const U2*>(keys + group_offset(from, token / 32) + token % 32 / 2);
      s = {{pair_from_packed<C.math, C.dtype>(r.x), pair_from_packed<C.math, C.dtype>(r.y)}};
    }
    if constexpr (C.gated && !weights_in_keys) {
      if (k == 0) {
        const float* w = weights() + n * C.token_tile + token / 32 * 32 + lane() % 4 * 8 + token % 32 / 4;
        PHITUNE_UNROLL
        for (int q = 0; q < slots; ++q) {
          const F2 pair = *reinterpret_cast<const F2*>(w + 2 * q);
          s.x[q] = mul(s.x[q], pair_from_floats<C.math>(pair.x, pair.y));
        }
      }
    }
    return s;
  }
  PHITUNE_DEVICE static void multiply_by(Slots& product, bool& started, const Slots& f) {
    PHITUNE_UNROLL
    for (int q = 0; q < slots; ++q) product.x[q] = started ? mul(product.x[q], f.x[q]) : f.x[q];
    started = true;
  }

  /// Multiplies the factors of (tile, half) that vary as asked; the others are shared by more rows and multiplied once for all.
  PHITUNE_DEVICE void multiply_factors(Slots& product, bool& started, int n, int token, int tile, int half, bool by_tile, bool by_half) {
    PHITUNE_UNROLL
    for (int k = 0; k < C.p; ++k) {
      if (varies_by_tile(k) == by_tile && varies_by_half(k) == by_half) multiply_by(product, started, factor(n, token, tile, half, k));
    }
  }

  PHITUNE_DEVICE void form_phi(FragA<C.math> (&a)[C.m_tiles][k_step / 16], int n, int token) {
    Slots base[2] = {};
    bool base_started[2] = {false, false};
    multiply_factors(base[0], base_started[0], n, token, 0, 0, false, false);
    base[1] = base[0], base_started[1] = base_started[0];
    PHITUNE_UNROLL
    for (int half = 0; half < 2; ++half) multiply_factors(base[half], base_started[half], n, token, 0, half, false, true);
    PHITUNE_UNROLL
    for (int tile = 0; tile < C.m_tiles; ++tile) {
      Slots both = {};
      bool both_started = false;
      multiply_factors(both, both_started, n, token, tile, 0, true, false);
      PHITUNE_UNROLL
      for (int half = 0; half < 2; ++half) {
        Slots product = base[half];
        bool started = base_started[half];
        if (both_started) multiply_by(product, started, both);
        multiply_factors(product, started, n, token, tile, half, true, true);
        PHITUNE_UNROLL
        for (int q = 0; q < slots; ++q) a[tile][q / 2].set(half + 2 * (q % 2), product.x[q]);
      }
    }
  }

  // ---- the product ----

  PHITUNE_DEVICE void clear() {
    PHITUNE_UNROLL
    for (int tile = 0; tile < C.m_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int n = 0; n < n_tiles + C.sum; ++n) {
        PHITUNE_UNROLL
        for (int i = 0; i < 4; ++i) c_[tile][n][i] = 0.0f;
      }
    }
  }

  PHITUNE_DEVICE void multiply(int n) {
    const float one = lane() < 4 ? 1.0f : 0.0f;
    FragB<C.math> ones;
    ones.set(0, pair_from_floats<C.math>(one, one));
    ones.set(1, pair_from_floats<C.math>(one, one));
    const char* values = shared_ + v_start + n % C.stages * v_tile_bytes;
    PHITUNE_NO_UNROLL
    for (int begin = 0; begin < C.token_tile; begin += C.unroll) {
      PHITUNE_UNROLL
      for (int i = 0; i < C.unroll; i += k_step) {
        FragA<C.math> a[C.m_tiles][k_step / 16];
        form_phi(a, n, begin + i);
        PHITUNE_UNROLL
        for (int s = 0; s < k_step / 16; ++s) multiply_by_values(a, s, values, begin + i + 16 * s, ones);
      }
    }
  }

  /// Adds the product of sixteen tokens, slice `s` of a, with V from `token` on.
  PHITUNE_DEVICE void multiply_by_values(const FragA<C.math> (&a)[C.m_tiles][k_step / 16], int s, const char* values, int token,
                                         const FragB<C.math>& ones) {
    PHITUNE_UNROLL
    for (int column = 0; column < n_tiles; column += 2) {
      FragB<C.math> b[2];
      load_values(b, values, token, column);
      PHITUNE_UNROLL
      for (int tile = 0; tile < C.m_tiles; ++tile) {
        mma<C.math>(c_[tile][column], a[tile][s], b[0]);
        mma<C.math>(c_[tile][column + 1], a[tile][s], b[1]);
      }
    }
    if constexpr (C.sum) {
      PHITUNE_UNROLL
      for (int tile = 0; tile < C.m_tiles; ++tile) mma<C.math>(c_[tile][n_tiles], a[tile][s], ones);
    }
  }

  /// Sixteen tokens from `token` on, columns 8 column to 8 column + 15 of V.
  PHITUNE_DEVICE static void load_values(FragB<C.math> (&b)[2], const char* values, int token, int column) {
    u32 r[4];
    ldmatrix_x4_trans(r, values + token_offset<C.e / 8>(token + lane() % 16, column + lane() / 16));
    PHITUNE_UNROLL
    for (int i = 0; i < 4; ++i) b[i / 2].set(i % 2, pair_from_packed<C.math, C.dtype>(r[i]));
  }

  // ---- results ----

  PHITUNE_DEVICE void write() {
    const int g = lane() / 4, t = lane() % 4;
    const i64 first = (static_cast<i64>(head_) * args_.chunks + chunk_) * C.rows;
    PHITUNE_UNROLL
    for (int tile = 0; tile < C.m_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = first_row_ + tile * 16 + half * 8 + g;
        char* out = static_cast<char*>(args_.update) + (first + row) * row_length * storage_bytes(C.state);
        write_row(out, row < C.rows, tile, half);
        if (C.sum && t == 0 && row < C.rows) args_.update_z[first + row] = c_[tile][n_tiles][2 * half];
      }
    }
  }

  PHITUNE_DEVICE void write_row(char* out, bool valid, int tile, int half) {
    const int t = lane() % 4;
    if constexpr (C.state == Storage::bf16 && n_tiles % 4 == 0) {
      PHITUNE_UNROLL
      for (int n = 0; n < n_tiles; n += 4) {
        u32 x[4];
        PHITUNE_UNROLL
        for (int i = 0; i < 4; ++i) x[i] = pack_bf16x2(c_[tile][n + i][2 * half], c_[tile][n + i][2 * half + 1]);
        transpose_quad(x);
        if (valid) *reinterpret_cast<U4*>(out + (n + t) * 16) = U4{x[0], x[1], x[2], x[3]};
      }
    } else {
      PHITUNE_UNROLL
      for (int n = 0; n < n_tiles; ++n) {
        char* to = out + (n * 8 + 2 * t) * storage_bytes(C.state);
        if (valid) store_pair<C.state>(to, c_[tile][n][2 * half], c_[tile][n][2 * half + 1]);
      }
    }
  }

  const Args& args_;
  char* shared_;
  int warp_, chunk_, head_, first_row_, first_token_, tokens_;
  const u16* keys_ = nullptr;
  const u16* values_ = nullptr;
  int offsets_[stored_tiles][stored_halves][C.p];
  float c_[C.m_tiles][n_tiles + C.sum][4];
};

template <UpdateStateConfig C>
PHITUNE_DEVICE void update_state(const Args& args) {
  wait_for_earlier_kernels();
  UpdateState<C>(args).run();
}

}  // namespace phitune
