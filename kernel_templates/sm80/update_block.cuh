// What a block does for the state, whatever becomes of its sums: for rows of one head it adds sum_j exp(G_end - G_j) phi(k_j)_r v_j[n] over
// tokens j, and the same without v (Buckman et al., arXiv:2507.04239, chunked form). fp32 accumulation.
//
// A matrix product: M = rows of the state, N = e (and one column of ones for z), K = tokens, of one chunk (update_state.cuh) or of a head's
// chunks one after another (update_scan.cuh). A = phi(K)^T is formed in registers, each slot as a product of p transposed features; a block
// transposes every token tile of K once, while it works on the tile before. A lane's rows stay the same through the kernel, so the features
// they are made of are decoded once.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/tspow.cuh"

namespace phitune {

struct UpdateStateConfig {
  int d, e, p, d_tile;
  int rows;          // D, as the host counts it
  int shared_bytes;  // of everything but the weights of one chunk's tokens, where there is one, as the host counts it
  Storage dtype;     // of k and v
  Math math;
  Storage state;    // of U, or S
  bool gated, sum;  // sum: normalisation "sum", z is wanted and rows of U and S are eight columns longer
  int warps, m_tiles, token_tile, stages, unroll;
  // update_scan alone: all chunks of a head, one after another.
  bool scans = false, initial_state = false, final_state = false;
};

namespace update_block_detail {

PHITUNE_DEVICE constexpr int log2(int x) {
  int bits = 0;
  while (x > 1) x /= 2, ++bits;
  return bits;
}

}  // namespace update_block_detail

/// Which tile of `Tokens` tokens comes next on a walk: over chunks that follow each other, if `Chunks`, which tiles do not reach across.
/// The caller counts tiles: `n` is the next one's number.
template <int Tokens, bool Chunks>
struct NextTile {
  int tokens;  // of the walk, from the tile on
  int left;    // of its chunk

  PHITUNE_DEVICE NextTile(int all, int chunk) : tokens(all), left(all < chunk ? all : chunk) {}
  /// Tokens of its chunk from the tile's first on; not above 0 past the end of the walk.
  PHITUNE_DEVICE int tokens_left(int) const { return left; }
  /// Tokens from a tile's first to the next one's, where its chunk has `left` from the tile on.
  PHITUNE_DEVICE static int step(int left) { return left < Tokens ? left : Tokens; }
  PHITUNE_DEVICE void advance(int chunk) {
    tokens -= step(left);
    left = left > Tokens ? left - Tokens : tokens < chunk ? tokens : chunk;
  }
};
/// The same where the walk is within one chunk. (Nothing to keep but its length.)
template <int Tokens>
struct NextTile<Tokens, false> {
  int tokens;

  PHITUNE_DEVICE NextTile(int all, int) : tokens(all) {}
  PHITUNE_DEVICE int tokens_left(int n) const { return tokens - n * Tokens; }
  PHITUNE_DEVICE static int step(int) { return Tokens; }
  PHITUNE_DEVICE void advance(int) {}
};

/// One thread's part of a block. It works on one walk over tokens: start, ready, then step for each tile.
template <UpdateStateConfig C>
class UpdateBlock {
 public:
  static constexpr int threads = C.warps * 32;
  static constexpr int rows_per_warp = 16 * C.m_tiles;
  static constexpr int row_blocks = ceil_div(C.rows, C.warps* rows_per_warp);
  static constexpr int row_length = C.sum ? C.e + 8 : C.e;
  static constexpr int n_tiles = C.e / 8;

 private:
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
  // Tiles whose weights are in shared memory at once when a walk is longer than a chunk: of one tile they are used, of the next too, and of
  // the one after written (a fourth, so that the slot of a tile is told by two bits).
  static constexpr int weight_slots = 4, weight_slot_bytes = C.scans && C.gated ? weight_slots * C.token_tile * 4 : 0;

  static_assert(C.rows == tspow::rows(C.d / C.d_tile, C.p, C.d_tile), "host and kernel disagree on the rows of the state");
  static_assert(C.shared_bytes == weights_start + weight_slot_bytes, "host and kernel disagree on shared memory");
  static_assert(C.dtype != Storage::fp32 && threads % (C.d / 8) == 0 && threads % (C.e / 8) == 0);
  static_assert(C.token_tile % 32 == 0 && C.token_tile % C.unroll == 0 && C.unroll % 32 == 0);

  struct Slots {
    Pair<C.math> x[slots];
  };

  // ---- which factors the rows of a warp share ----
  // Bits of a row within a warp: 0-2 the lane's g, 3 the half of the m16 tile, above that the tile. Digit k of a row in a block of equal
  // tile multi-index is bits [k w, (k + 1) w) of the row.

  static constexpr int digit_bits = update_block_detail::log2(C.d_tile), tile_bits = 4 + update_block_detail::log2(C.m_tiles);
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
  using Tile = NextTile<C.token_tile, C.scans>;
  // Rows of a lane that are told apart by the block of equal tile multi-index: none where all rows of a warp are in one.
  static constexpr int stored_tiles = warp_in_block ? 1 : C.m_tiles, stored_halves = warp_in_block ? 1 : 2;

  /// Walks over `tokens` tokens from `first_token` on, the first of a chunk.
  PHITUNE_DEVICE UpdateBlock(const Args& args, int row_block, int first_token, int tokens)
      : args_(args),
        shared_(shared_memory()),
        warp_(thread_index() / 32),
        head_(block_index_y()),
        first_row_((row_block * C.warps + warp_) * rows_per_warp),
        first_token_(first_token),
        tile_(tokens, args.chunk) {}

  /// Begins to load. Block, as all of these.
  PHITUNE_DEVICE void start() {
    open_sources();
    // Copy group j holds V of tile j and K of tile j + 1, which is transposed a tile ahead.
    copy_keys(0);
    cp_async_commit();
    PHITUNE_UNROLL
    for (int j = 0; j < C.stages - 1; ++j) copy_group(j);
  }
  /// Once this thread's weights of the first tile are written. `any`: the walk has tiles.
  PHITUNE_DEVICE void ready(bool any) {
    decode_rows();
    cp_async_wait<C.stages - 1>();
    block_barrier();
    if (any) transpose(0);
  }
  /// Adds tile n, and prepares the next if there is one, whose weights have been written before.
  PHITUNE_DEVICE void step(int n, bool next) {
    cp_async_wait<C.stages - 2>();
    block_barrier();
    copy_group(n + C.stages - 1);
    // Of the warps that share a scheduler some transpose before they multiply, some after, so that its matrix unit is never idle.
    const bool early = warp_ < 4;
    if (early && next) transpose(n + 1);
    if (has_rows()) multiply(n);
    if (!early && next) transpose(n + 1);
  }

  PHITUNE_DEVICE int head() const { return head_; }
  /// Whether the warp has rows; the same for all of its lanes.
  PHITUNE_DEVICE bool has_rows() const { return first_row_ < C.rows; }
  /// The row of this lane's half `half` of an m tile; past the end for some lanes where the state ends.
  PHITUNE_DEVICE int row(int tile, int half) const { return first_row_ + tile * 16 + half * 8 + lane() / 4; }

  /// Weights of tile n's tokens, in the order in which a thread reads its eight of a group of 32.
  PHITUNE_DEVICE float* weights(int n) {
    return reinterpret_cast<float*>(shared_ + weights_start) + (C.scans ? n % weight_slots : n) * C.token_tile;
  }
  /// Where the weight of token `j` of a tile stands.
  PHITUNE_DEVICE static int weight_position(int j) { return j / 32 * 32 + j % 8 / 2 * 8 + j % 32 / 8 * 2 + j % 2; }

  PHITUNE_DEVICE void clear() {
    PHITUNE_UNROLL
    for (int tile = 0; tile < C.m_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int n = 0; n < n_tiles + C.sum; ++n) {
        PHITUNE_UNROLL
        for (int i = 0; i < 4; ++i) c[tile][n][i] = 0.0f;
      }
    }
  }

  /// Writes the sums of a row's values, times `factor`, to `out` in the state dtype. Warp: by lanes without such a row as well.
  PHITUNE_DEVICE void write_row(char* out, bool valid, int tile, int half, float factor) const {
    const int t = lane() % 4;
    if constexpr (C.state == Storage::bf16 && n_tiles % 4 == 0) {
      PHITUNE_UNROLL
      for (int n = 0; n < n_tiles; n += 4) {
        u32 x[4];
        PHITUNE_UNROLL
        for (int i = 0; i < 4; ++i) x[i] = pack_bf16x2(c[tile][n + i][2 * half] * factor, c[tile][n + i][2 * half + 1] * factor);
        transpose_quad(x);
        if (valid) store_16(out + (n + t) * 16, U4{x[0], x[1], x[2], x[3]});
      }
    } else {
      PHITUNE_UNROLL
      for (int n = 0; n < n_tiles; ++n) {
        char* to = out + (n * 8 + 2 * t) * storage_bytes(C.state);
        if (valid) store_pair<C.state>(to, c[tile][n][2 * half] * factor, c[tile][n][2 * half + 1] * factor);
      }
    }
  }

  /// The sums: c[tile][n][2 half + i] is column 8 n + 2 (lane % 4) + i of row(tile, half). z, where wanted, is column e.
  float c[C.m_tiles][n_tiles + C.sum][4];

 private:
  /// (The scan reads updates next; states wait for a kernel that comes later.)
  PHITUNE_DEVICE static void store_16(char* to, U4 x) {
    if constexpr (C.scans)
      store_global_16_streaming(to, x);
    else
      *reinterpret_cast<U4*>(to) = x;
  }

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

  /// Copies a tile to `target`, of which the chunk has `left` tokens; others become zeros.
  template <int Width>
  PHITUNE_DEVICE void copy_tile(char* target, const u16*& source, i64 stride, int left) {
    constexpr int chunks = Width / 8, step = threads / chunks;
    const int chunk = thread_index() % chunks, first = thread_index() / chunks;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(C.token_tile, step); ++i) {
      const int token = first + i * step;
      if (C.token_tile % step != 0 && token >= C.token_tile) break;
      cp_async_16(target + token_offset<chunks>(token, chunk), source + i * step * stride, token < left);
    }
    source += Tile::step(left) * stride;
  }
  PHITUNE_DEVICE void copy_keys(int n) {
    const int left = tile_.tokens_left(n);
    if (left > 0) copy_tile<C.d>(shared_ + n % C.stages * k_tile_bytes, keys_, args_.k_strides.t, left);
  }
  PHITUNE_DEVICE void copy_group(int j) {
    const int left = tile_.tokens_left(j);
    if (left > 0) copy_tile<C.e>(shared_ + v_start + j % C.stages * v_tile_bytes, values_, args_.v_strides.t, left);
    tile_.advance(args_.chunk);
    copy_keys(j + 1);
    cp_async_commit();
  }

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
        const float* w = weights(n) + group * 32 + t * 8;
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
        const float* w = weights(n) + token / 32 * 32 + lane() % 4 * 8 + token % 32 / 4;
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
        mma<C.math>(c[tile][column], a[tile][s], b[0]);
        mma<C.math>(c[tile][column + 1], a[tile][s], b[1]);
      }
    }
    if constexpr (C.sum) {
      PHITUNE_UNROLL
      for (int tile = 0; tile < C.m_tiles; ++tile) mma<C.math>(c[tile][n_tiles], a[tile][s], ones);
    }
  }

  /// Sixteen tokens from `token` on, columns 8 column to 8 column + 15 of V.
  PHITUNE_DEVICE static void load_values(FragB<C.math> (&b)[2], const char* values, int token, int column) {
    u32 r[4];
    ldmatrix_x4_trans(r, values + token_offset<C.e / 8>(token + lane() % 16, column + lane() / 16));
    PHITUNE_UNROLL
    for (int i = 0; i < 4; ++i) b[i / 2].set(i % 2, pair_from_packed<C.math, C.dtype>(r[i]));
  }

  const Args& args_;
  char* shared_;
  int warp_, head_, first_row_, first_token_;
  Tile tile_;  // whose keys are copied, and whose values will be next
  const u16* keys_ = nullptr;
  const u16* values_ = nullptr;
  int offsets_[stored_tiles][stored_halves][C.p];
};

}  // namespace phitune
