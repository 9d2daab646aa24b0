// attention on Hopper: the quadratic form inside each chunk (or over all of t), w_ij = (s q_i.k_j)^p exp(G_i - G_j) for j <= i, in normal
// space: no running maximum, no logarithm. scale^p is left to the end, and cancels under normalisation.
//
// A block owns 64 query rows of one head per warpgroup and walks the tiles of 64 keys of its chunk up to the diagonal. Q stays in registers
// as the A operand of Q K^T, the weights become the A operand of W V; K and V lie in swizzled rows. One warpgroup copies tiles into a ring
// and prepares the gates of their keys:
//   tiles before the block's rows: exp(G_ref - G_j) per column, G_ref that of the last such key; what has accumulated is multiplied once by
//     exp(G_i - G_ref) when the block's own rows are reached;
//   tiles among the block's rows: G_j, and exp(G_i - G_j) per element, with the causal mask. Every exponent is <= 0.
// Grid: x = query tiles x chunks, latest tile of a chunk first (the most work); z = batch x query head.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/tile.cuh"
#include "kernel_templates/sm90/attention_config.cuh"

namespace phitune::sm90 {

template <AttentionConfig C>
struct Attention {
  static constexpr AttentionLayout L = attention_layout(C);
  static constexpr int keys = attention_keys;
  static constexpr int d_steps = C.d / 16, key_steps = keys / 16;
  using Scores = float[keys / 2];
  using Output = float[C.e / 2];

  static_assert(C.d % 16 == 0 && C.e % 16 == 0 && C.stages >= 2);

  const Args& args;
  int batch, head, kv_head, start, length, first;  // rows [first, ...) of a chunk of `length` tokens that begins at token `start`
  int tiles, whole;                                // key tiles, and how many of them lie before all of the block's rows

  PHITUNE_DEVICE explicit Attention(const Args& a) : args(a) {
    const int row_tiles = ceil_div(args.chunk, attention_rows(C));
    const int chunk = block_index_x() / row_tiles, tile = row_tiles - 1 - block_index_x() % row_tiles;
    batch = block_index_z() / args.hq;
    head = block_index_z() % args.hq;
    kv_head = head / (args.hq / args.hk);
    start = chunk * args.chunk;
    length = args.t - start < args.chunk ? args.t - start : args.chunk;
    first = tile * attention_rows(C);
    const int reach = first + attention_rows(C) < length ? first + attention_rows(C) : length;
    tiles = ceil_div(reach, keys);
    whole = first / keys;
  }

  PHITUNE_DEVICE static Barrier* full(int slot) { return reinterpret_cast<Barrier*>(shared_memory()) + slot; }
  PHITUNE_DEVICE static Barrier* empty(int slot) { return full(C.stages + slot); }
  PHITUNE_DEVICE static char* stage(int slot) { return shared_memory() + L.ring_at + slot * L.stage_bytes; }

  PHITUNE_DEVICE static void open_barriers() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int slot = 0; slot < C.stages; ++slot) {
        barrier_init(full(slot), 2 * 128);  // copies landed, gates written
        barrier_init(empty(slot), L.consumers / 32);
      }
      barrier_init_fence();
    }
    block_barrier();
  }

  PHITUNE_DEVICE const F2* chunk_gates() const {
    return reinterpret_cast<const F2*>(args.gates) + (static_cast<i64>(batch) * args.hk + kv_head) * args.t + start;
  }

  // ---- the warpgroup that loads ----

  // Tiles lie in panels of up to 64 columns: rows of up to 128 bytes, swizzled, so that neither copies nor products meet a bank twice.
  PHITUNE_DEVICE static constexpr int panel_columns(int width) { return width < 64 ? width : 64; }
  PHITUNE_DEVICE static constexpr int panel_bytes(int width) { return keys * panel_columns(width) * 2; }

  /// Starts copying a tile of 64 rows.
  template <int Width>
  PHITUNE_DEVICE static void copy_tile(char* target, const u16* source, i64 stride, int valid) {
    constexpr int chunks = Width / 8, panel = panel_columns(Width), panel_chunks = panel / 8;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(keys * chunks, 128); ++i) {
      const int item = i * 128 + thread_index() % 128, row = item / chunks, chunk = item % chunks;
      const bool inside = row < valid;
      cp_async_16(target + chunk / panel_chunks * panel_bytes(Width) + tile_offset<panel>(row, chunk % panel_chunks),
                  source + (inside ? row : 0) * stride + chunk * 8, inside);
    }
  }

  PHITUNE_DEVICE void load() const {
    const u16* k = static_cast<const u16*>(args.k) + batch * args.k_strides.b + kv_head * args.k_strides.h + start * args.k_strides.t;
    const u16* v = static_cast<const u16*>(args.v) + batch * args.v_strides.b + kv_head * args.v_strides.h + start * args.v_strides.t;
    const int own_key = thread_index() % 128;
    const auto gate_of = [&](int tile) { return chunk_gates()[tile * keys + own_key < length ? tile * keys + own_key : length - 1]; };
    F2 reference{}, gate{};
    if (C.gated && own_key < keys) {
      if (whole > 0) reference = chunk_gates()[whole * keys - 1];
      gate = gate_of(0);
    }
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile) {
      const int slot = tile % C.stages, valid = length - tile * keys;
      barrier_wait(empty(slot), (tile / C.stages & 1) ^ 1);
      copy_tile<C.d>(stage(slot), k, args.k_strides.t, valid);
      copy_tile<C.e>(stage(slot) + L.keys_bytes, v, args.v_strides.t, valid);
      barrier_arrive_after_copies(full(slot));
      if (C.gated && own_key < keys) {
        if (tile < whole)
          reinterpret_cast<float*>(stage(slot) + L.gates_at)[own_key] = gate_weight(reference, gate);
        else
          reinterpret_cast<F2*>(stage(slot) + L.gates_at)[own_key] = gate;
        gate = gate_of(tile + 1);
      }
      barrier_arrive(full(slot));
      k += keys * args.k_strides.t;
      v += keys * args.v_strides.t;
    }
    // Copies must not land in the memory of the next block.
    cp_async_commit();
    cp_async_wait<0>();
  }

  // ---- the warpgroups that multiply ----

  PHITUNE_DEVICE static void wait_for(int tile) {
    barrier_wait(full(tile % C.stages), tile / C.stages & 1);
    fence_async_shared();
  }

  PHITUNE_DEVICE static float power(float x) {
    static_assert(C.p >= 1 && C.p <= 4);
    if constexpr (C.p == 1) return x;
    const float square = x * x;
    if constexpr (C.p == 2) return square;
    return C.p == 3 ? square * x : square * square;
  }

  /// Row of the block that accumulator half `h` of this thread belongs to. Not by warp(), which is a collective: rows are asked for by
  /// lanes alone, too.
  PHITUNE_DEVICE static int row_of(int h) { return thread_index() / 32 * 16 + lane() / 4 + 8 * h; }

  PHITUNE_DEVICE void load_queries(u32 (&q)[d_steps][4]) const {
    const u16* const source =
        static_cast<const u16*>(args.q) + batch * args.q_strides.b + head * args.q_strides.h + start * args.q_strides.t;
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = first + row_of(h);
      const u16* const from = source + (row < length ? row : length - 1) * args.q_strides.t + lane() % 4 * 2;
      PHITUNE_UNROLL
      for (int step = 0; step < d_steps; ++step) {
        q[step][h] = *reinterpret_cast<const u32*>(from + step * 16);
        q[step][h + 2] = *reinterpret_cast<const u32*>(from + step * 16 + 8);
      }
    }
  }

  PHITUNE_DEVICE static void multiply_keys(Scores& s, const u32 (&q)[d_steps][4], int slot) {
    constexpr int row = panel_columns(C.d) * 2, panel_steps = panel_columns(C.d) / 16;
    const SharedMatrix k = swizzled_rows_of_k(stage(slot), row);
    PHITUNE_UNROLL
    for (int step = 0; step < d_steps; ++step)
      wgmma_bf16<keys, false>(s, q[step], k.at(step / panel_steps * panel_bytes(C.d) + step % panel_steps * 32), step > 0);
  }

  PHITUNE_DEVICE static void multiply_values(Output& out, const u32 (&w)[key_steps][4], int slot, bool accumulate) {
    constexpr int row = panel_columns(C.e) * 2;
    const SharedMatrix v = swizzled_rows_of_n(stage(slot) + L.keys_bytes, row, panel_bytes(C.e));
    PHITUNE_UNROLL
    for (int step = 0; step < key_steps; ++step) wgmma_bf16<C.e, true>(out, w[step], v.at(step * 16 * row), accumulate || step > 0);
  }

  /// Weights of the pair of keys (2t, 2t + 1) of block n in row half h. Scores are read, not overwritten: whatever else writes registers
  /// that wgmma accumulates in makes the compiler serialise the products.
  using Pairs = F2[keys / 8][2];

  /// The weights of a tile all of whose keys lie before the block's rows.
  PHITUNE_DEVICE static void weigh_before(Pairs& out, const Scores& s, int slot) {
    const float* const factors = reinterpret_cast<const float*>(stage(slot) + L.gates_at);
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      F2 factor{1.0f, 1.0f};
      if constexpr (C.gated) factor = *reinterpret_cast<const F2*>(factors + n * 8 + lane() % 4 * 2);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        out[n][h] = F2{power(s[4 * n + 2 * h]), power(s[4 * n + 2 * h + 1])};
        if constexpr (C.gated) out[n][h].x *= factor.x, out[n][h].y *= factor.y;
      }
    }
  }

  /// The weights of a tile among the block's rows.
  PHITUNE_DEVICE void weigh_among(Pairs& out, const Scores& s, int slot, int tile, const F2 (&row_gates)[2]) const {
    const F2* const gates = reinterpret_cast<const F2*>(stage(slot) + L.gates_at);
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      const int column = n * 8 + lane() % 4 * 2, key = tile * keys + column;
      F4 gate{};
      if constexpr (C.gated) gate = *reinterpret_cast<const F4*>(gates + column);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        const int row = first + row_of(h);
        F2 weight{power(s[4 * n + 2 * h]), power(s[4 * n + 2 * h + 1])};
        if constexpr (C.gated)
          weight.x *= gate_weight(row_gates[h], F2{gate.x, gate.y}), weight.y *= gate_weight(row_gates[h], F2{gate.z, gate.w});
        out[n][h] = F2{key <= row ? weight.x : 0.0f, key + 1 <= row ? weight.y : 0.0f};
      }
    }
  }

  PHITUNE_DEVICE static void pack_weights(u32 (&w)[key_steps][4], float (&sum)[2], const Pairs& pairs) {
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        w[n / 2][n % 2 * 2 + h] = pack_bf16x2(pairs[n][h].x, pairs[n][h].y);
        if constexpr (C.sum) sum[h] += pairs[n][h].x + pairs[n][h].y;
      }
    }
  }

  PHITUNE_DEVICE static void scale_rows(Output& out, const float (&factor)[2]) {
    PHITUNE_UNROLL
    for (int i = 0; i < C.e / 2; ++i) out[i] *= factor[i % 4 / 2];
  }

  PHITUNE_DEVICE static void release(int tile) {
    if (lane() == 0) barrier_arrive(empty(tile % C.stages));
  }

  // What the rows of a thread have so far, and what it takes to go on.
  struct Rows {
    u32 q[d_steps][4];
    F2 gates[2] = {};
    Output out;
    float sum[2] = {0.0f, 0.0f};
  };

  /// Scores to packed weights.
  template <bool Before>
  PHITUNE_DEVICE void form_weights(u32 (&w)[key_steps][4], Rows& rows, Scores& scores, int tile) const {
    settle(scores);
    Pairs pairs;
    if constexpr (Before)
      weigh_before(pairs, scores, tile % C.stages);
    else
      weigh_among(pairs, scores, tile % C.stages, tile, rows.gates);
    pack_weights(w, rows.sum, pairs);
    PHITUNE_UNROLL
    for (int step = 0; step < key_steps; ++step) settle(w[step]);
  }

  /// Tiles [begin, end), all before the block's rows or all among them. Products of a tile's weights with V and the next tile's scores are
  /// in flight together; other warpgroups form weights meanwhile. Nothing is in flight before and after.
  template <bool Before>
  PHITUNE_DEVICE void walk(Rows& rows, int begin, int end) const {
    if (begin >= end) return;
    Scores scores;
    u32 w[key_steps][4];
    wait_for(begin);
    wgmma_fence();
    multiply_keys(scores, rows.q, begin % C.stages);
    wgmma_commit();
    wgmma_wait<0>();
    int tile = begin;
    PHITUNE_NO_UNROLL
    for (; tile + 1 < end; ++tile) {
      form_weights<Before>(w, rows, scores, tile);
      wait_for(tile + 1);
      wgmma_fence();
      multiply_values(rows.out, w, tile % C.stages, tile > 0);
      multiply_keys(scores, rows.q, (tile + 1) % C.stages);
      wgmma_commit();
      wgmma_wait<0>();
      release(tile);
    }
    form_weights<Before>(w, rows, scores, tile);
    wgmma_fence();
    multiply_values(rows.out, w, tile % C.stages, tile > 0);
    wgmma_commit();
    wgmma_wait<0>();
    settle(rows.out);
    release(tile);
  }

  PHITUNE_DEVICE void multiply(Rows& rows) const {
    load_queries(rows.q);
    PHITUNE_UNROLL
    for (int step = 0; step < d_steps; ++step) settle(rows.q[step]);
    F2 reference{};
    if constexpr (C.gated) {
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) rows.gates[h] = chunk_gates()[first + row_of(h) < length ? first + row_of(h) : length - 1];
      if (whole > 0) reference = chunk_gates()[whole * keys - 1];
    }
    walk<true>(rows, 0, whole);
    if (C.gated && whole > 0) {
      const float factor[2] = {gate_weight(rows.gates[0], reference), gate_weight(rows.gates[1], reference)};
      scale_rows(rows.out, factor);
      rows.sum[0] *= factor[0], rows.sum[1] *= factor[1];
      settle(rows.out);
    }
    // Tiles past a warpgroup's own rows have nothing for it.
    const int last_row = first + (warp() / 4 + 1) * 64 - 1;
    const int own = last_row / keys + 1 < tiles ? last_row / keys + 1 : tiles;
    walk<false>(rows, whole, own);
    // (Released once they have come: earlier, the barrier would take it for the tile before in the same slot.)
    for (int tile = own; tile < tiles; ++tile) {
      barrier_wait(full(tile % C.stages), tile / C.stages & 1);
      release(tile);
    }
  }

  /// Sums over the four lanes of a row, applies scale^p or the normalisation, and writes.
  PHITUNE_DEVICE void write(Output& out, float (&sum)[2]) const {
    float factor[2] = {power(args.scale), power(args.scale)};
    if constexpr (C.sum) {
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        sum[h] += shuffle_xor(sum[h], 1);
        sum[h] += shuffle_xor(sum[h], 2);
        if constexpr (C.quadratic) {
          // The reciprocal of a very small sum would overflow: lift both sides first.
          const float lift = sum[h] < 0x1p-100f ? 0x1p100f : 1.0f;
          PHITUNE_UNROLL
          for (int i = 0; i < C.e / 2; ++i) {
            if (i % 4 / 2 == h) out[i] *= lift;
          }
          factor[h] = sum[h] == 0.0f ? 0.0f : 1.0f / (sum[h] * lift);
        }
      }
    }
    scale_rows(out, factor);
    const i64 head_row = (static_cast<i64>(batch) * args.hq + head) * args.t + start;
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = first + row_of(h);
      const bool valid = row < length;
      if constexpr (C.sum && !C.quadratic) {
        if (lane() % 4 == 0 && valid) args.row_sum[head_row + row] = sum[h] * factor[h];
      }
      char* to;
      if constexpr (C.quadratic)
        to = static_cast<char*>(args.y) + (batch * args.y_strides.b + (start + row) * args.y_strides.t + head * args.y_strides.h) * 2;
      else
        to = static_cast<char*>(args.partial) + (head_row + row) * (C.e * storage_bytes(C.output));
      write_row(to, out, h, valid);
    }
  }

  PHITUNE_DEVICE static void write_row(char* to, const Output& out, int h, bool valid) {
    const int t = lane() % 4;
    if constexpr (C.output == Storage::bf16 && C.e % 32 == 0) {
      // Four neighbouring lanes exchange pairs, so that each writes 16 bytes.
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; n += 4) {
        u32 x[4];
        PHITUNE_UNROLL
        for (int i = 0; i < 4; ++i) x[i] = pack_bf16x2(out[4 * (n + i) + 2 * h], out[4 * (n + i) + 2 * h + 1]);
        transpose_quad(x);
        if (valid) *reinterpret_cast<U4*>(to + (n + t) * 16) = U4{x[0], x[1], x[2], x[3]};
      }
    } else {
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; ++n) {
        if (valid) store_pair<C.output>(to + (n * 8 + 2 * t) * storage_bytes(C.output), out[4 * n + 2 * h], out[4 * n + 2 * h + 1]);
      }
    }
  }
};

/// Launch: attention_layout(C) threads and shared bytes.
template <AttentionConfig C>
PHITUNE_DEVICE void attention(const Args& args) {
  wait_for_earlier_kernels();
  using Kernel = Attention<C>;
  const Kernel kernel(args);
  if (kernel.first >= kernel.length) return;
  Kernel::open_barriers();
  if (warp() >= Kernel::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    kernel.load();
  } else {
    registers_increase<C.consumer_registers>();
    typename Kernel::Rows rows;
    kernel.multiply(rows);
    kernel.write(rows.out, rows.sum);
  }
}

}  // namespace phitune::sm90
