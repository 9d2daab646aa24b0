// phi(q) S: the product of a block's query rows with the state before their chunk, for query_state and attend_query.
//
// A matrix product per (b, query head, chunk): M = tokens, N = e columns and 8 that hold the denominator, K = D rows of the state. A =
// phi(q) is formed in registers, B = S streams through a ring in shared memory. Rows of the state come in groups of 8 tuples (rows of phi
// of degree p-1) times the d_tile features of the last tile; thread t of a quad takes tuples 2t and 2t+1, one for each k half, so a group
// costs it one product for its two scalars, and one packed multiply per pair slot and step.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/sm80/state_product_config.cuh"

namespace phitune {

template <StateProductConfig C>
struct StateProduct {
  static constexpr StateProductLayout L = state_product_layout(C);
  static constexpr Math M = C.state == Storage::fp32 ? Math::tf32 : Math::bf16;
  static constexpr int thread_rows = 2 * C.m_tiles;  // rows of A a thread holds slots of
  static constexpr int n_tiles = L.columns / 8;
  static constexpr int feature_pairs = C.p == 1 ? 1 : C.d_tile / 2;
  static constexpr int lower_degree = C.p > 2 ? C.p - 2 : 0;  // scalars of a tuple besides its last feature

  static_assert(C.input != Storage::fp32 && C.state != Storage::fp16 && (C.state == Storage::fp32 || C.input == Storage::bf16));
  static_assert(C.d % C.d_tile == 0 && C.d % 16 == 0 && C.e % 16 == 0 && C.d <= 128, "table entries are byte offsets in one byte");
  static_assert(C.d_tile >= 2 && L.rows % L.group_rows == 0 && C.steps % L.group_steps == 0 && C.stages >= 2);

  // What a thread reads of its query rows for one group, before any arithmetic: issued one group ahead.
  struct Tuples {
    u32 last[thread_rows];  // the last features of tuples 2t and 2t+1
    u16 lower[thread_rows][lower_degree > 0 ? lower_degree : 1];
  };
  using Scalars = Pair<M>[thread_rows][2];
  using Base = u32[thread_rows][feature_pairs];

  // What a block computes: tokens [first_token, first_token + valid_rows) of one query head.
  struct Place {
    int batch, head, kv_head, chunk, first_token, valid_rows;
  };

  const Args& args;
  Place place;
  float acc[C.m_tiles][n_tiles][4] = {};  // [m tile][n tile of 8][fragment]

  PHITUNE_DEVICE StateProduct(const Args& a, int block) : args(a) { set_place(block); }

  PHITUNE_DEVICE void set_place(int block) {
    const int group = args.hq / args.hk;
    const int tiles = ceil_div(args.chunk, L.block_rows);
    const int tile = block % tiles;
    block /= tiles;
    const int head_in_group = block % group;
    block /= group;
    place.chunk = block % args.chunks;
    block /= args.chunks;
    place.kv_head = block % args.hk;
    place.batch = block / args.hk;
    place.head = place.kv_head * group + head_in_group;
    place.first_token = place.chunk * args.chunk + tile * L.block_rows;
    const int chunk_end = args.chunk < args.t - place.chunk * args.chunk ? (place.chunk + 1) * args.chunk : args.t;
    place.valid_rows = chunk_end - place.first_token;
  }

  /// The same place anew, for after the product. Through a shuffle the compiler cannot know that this is the old value: it computes the
  /// place again and keeps nothing during the product.
  PHITUNE_DEVICE void set_place_again(int block) { set_place(static_cast<int>(shuffle(static_cast<u32>(block), 0))); }

  /// First of the block's rows in its chunk.
  PHITUNE_DEVICE int first_row() const { return place.first_token - place.chunk * args.chunk; }

  /// Whether tokens of this chunk have a state before them: without an initial state the first chunk has none.
  PHITUNE_DEVICE bool has_state() const { return place.chunk > 0 || args.initial_state != nullptr; }

  PHITUNE_DEVICE static char* q_tile() { return shared_memory(); }
  PHITUNE_DEVICE static u32* table() { return reinterpret_cast<u32*>(shared_memory() + L.table_at); }
  PHITUNE_DEVICE static char* ring() { return shared_memory() + L.ring_at; }

  // ---- filling shared memory ----

  PHITUNE_DEVICE void load_queries() const {
    constexpr int vectors = C.d / 8;
    const u16* const source = static_cast<const u16*>(args.q) + place.batch * args.q_strides.b + place.head * args.q_strides.h;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(L.block_rows * vectors, L.threads); ++i) {
      const int at = thread_index() + i * L.threads;
      const int row = at / vectors, column = at % vectors;
      const int token = place.first_token + (row < place.valid_rows ? row : 0);
      const u16* const from = source + token * args.q_strides.t + column * 8;
      if (row < L.block_rows) cp_async_16(q_tile() + row * L.q_stride + column * 16, from, row < place.valid_rows);
    }
  }

  // An entry holds byte offsets in a query row: of the last feature of a tuple, of its lower features, and of the last tile (high byte).
  PHITUNE_DEVICE void build_table() const {
    if constexpr (C.p > 1) {
      constexpr int entries = (L.groups + 2) * L.table_lanes;
      PHITUNE_NO_UNROLL
      for (int at = thread_index(); at < entries; at += L.threads) {
        u32 entry = 0;
        if (at < L.groups * L.table_lanes) {
          const tspow::Indices x = tspow::decode(at * (L.group_rows / L.table_lanes), C.p, C.d_tile);
          entry = static_cast<u32>(x.i[C.p - 1]) << 25 | static_cast<u32>(x.i[C.p - 2]) << 1;
          PHITUNE_UNROLL
          for (int k = 0; k < lower_degree; ++k) entry |= static_cast<u32>(x.i[k]) << (8 * k + 9);
        }
        table()[at] = entry;
      }
    }
  }

  PHITUNE_DEVICE const char* state_of_chunk() const {
    const i64 matrix = (static_cast<i64>(place.batch) * args.hk + place.kv_head) * args.chunks + place.chunk;
    return static_cast<const char*>(args.state) + matrix * (L.rows * L.columns * storage_bytes(C.state));
  }

  PHITUNE_DEVICE void load_stage(const char* state, int stage) const {
    constexpr int row_bytes = L.columns * storage_bytes(C.state);
    constexpr int vectors = row_bytes / 16;
    char* const target = ring() + stage % C.stages * (L.stage_rows * L.row_stride);
    const char* const source = state + stage * (L.stage_rows * row_bytes);
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(L.stage_rows * vectors, L.threads); ++i) {
      const int at = thread_index() + i * L.threads;
      const int row = at / vectors, column = at % vectors;
      const int position = row / L.group_rows * L.group_rows + state_product_position(row % L.group_rows, C.p, C.d_tile);
      const bool inside = L.rows % L.stage_rows == 0 || stage * L.stage_rows + row < L.rows;
      if (L.stage_rows * vectors % L.threads == 0 || row < L.stage_rows)
        cp_async_16(target + position * L.row_stride + column * 16, source + (inside ? at * 16 : 0), inside);
    }
  }

  // ---- forming phi(q) ----

  PHITUNE_DEVICE int row_of(int r) const { return warp() * (16 * C.m_tiles) + (r / 2) * 16 + (r % 2) * 8 + lane() / 4; }

  PHITUNE_DEVICE u32 entry_of(int group) const {
    if constexpr (C.p == 1)
      return static_cast<u32>(group);
    else if constexpr (L.table_lanes == 1)
      return table()[group];
    else
      return table()[group * 4 + lane() % 4];
  }

  PHITUNE_DEVICE void read_tuples(Tuples& out, const char* queries, u32 entry) const {
    if constexpr (C.p > 1) {
      const char* const last = queries + (entry & 0xffu) + (L.table_lanes == 1 ? lane() % 4 * 4 : 0);
      PHITUNE_UNROLL
      for (int r = 0; r < thread_rows; ++r) {
        const int row = (r / 2 * 16 + r % 2 * 8) * L.q_stride;
        out.last[r] = *reinterpret_cast<const u32*>(last + row);
        PHITUNE_UNROLL
        for (int k = 0; k < lower_degree; ++k)
          out.lower[r][k] = *reinterpret_cast<const u16*>(queries + (entry >> (8 * k + 8) & 0xffu) + row);
      }
    }
  }

  PHITUNE_DEVICE static Pair<M> twice(u32 packed, bool high) {
    return pair_from_packed<M, C.input>(permute_bytes(packed, packed, high ? 0x3232u : 0x1010u));
  }

  PHITUNE_DEVICE void finish_tuples(Scalars& out, const Tuples& in) const {
    if constexpr (C.p == 2) {
      PHITUNE_UNROLL
      for (int r = 0; r < thread_rows; ++r) out[r][0] = twice(in.last[r], false), out[r][1] = twice(in.last[r], true);
    } else if constexpr (C.p > 2) {
      PHITUNE_UNROLL
      for (int r = 0; r < thread_rows; ++r) {
        Pair<M> both = pair_from_packed<M, C.input>(in.last[r]);
        PHITUNE_UNROLL
        for (int k = lower_degree - 1; k >= 0; --k) both = mul(both, twice(in.lower[r][k], false));
        if constexpr (M == Math::tf32) {
          out[r][0] = {both.lo, both.lo}, out[r][1] = {both.hi, both.hi};
        } else {
          out[r][0] = twice(both.bits, false), out[r][1] = twice(both.bits, true);
        }
      }
    }
  }

  // The features of the last tile, all of them in every thread.
  PHITUNE_DEVICE void read_base(Base& out, const char* queries, u32 entry) const {
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      const char* const at = queries + (entry >> 24) + (r / 2 * 16 + r % 2 * 8) * L.q_stride;
      if constexpr (C.d_tile >= 8) {
        PHITUNE_UNROLL
        for (int i = 0; i < feature_pairs / 4; ++i) {
          const U4 v = reinterpret_cast<const U4*>(at)[i];
          out[r][4 * i] = v.x, out[r][4 * i + 1] = v.y, out[r][4 * i + 2] = v.z, out[r][4 * i + 3] = v.w;
        }
      } else if constexpr (C.d_tile == 4) {
        const U2 v = *reinterpret_cast<const U2*>(at);
        out[r][0] = v.x, out[r][1] = v.y;
      } else {
        out[r][0] = *reinterpret_cast<const u32*>(at);
      }
    }
  }

  // ---- the product ----

  // B fragments of n tiles n and n + 1 (only n when it is the last).
  PHITUNE_DEVICE void read_state(FragB<M> (&b)[2], const char* step, int n) const {
    const int g = lane() / 4, t = lane() % 4;
    const int count = n + 1 < n_tiles ? 2 : 1;
    if constexpr (M == Math::tf32) {
      PHITUNE_UNROLL
      for (int i = 0; i < count; ++i) {
        PHITUNE_UNROLL
        for (int s = 0; s < 2; ++s) {
          const char* const at = step + (2 * t + 8 * s) * L.row_stride + ((n + i) * 8 + g) * 4;
          b[i].set(s, {*reinterpret_cast<const float*>(at), *reinterpret_cast<const float*>(at + L.row_stride)});
        }
      }
    } else if (count == 2) {
      u32 r[4];
      ldmatrix_x4_trans(r, step + lane() % 16 * L.row_stride + (n * 8 + lane() / 16 * 8) * 2);
      b[0].x[0] = r[0], b[0].x[1] = r[1], b[1].x[0] = r[2], b[1].x[1] = r[3];
    } else {
      ldmatrix_x2_trans(b[0].x, step + lane() % 16 * L.row_stride + n * 16);
    }
  }

  PHITUNE_DEVICE void multiply_step(const FragA<M> (&a)[C.m_tiles], const char* step) {
    PHITUNE_UNROLL
    for (int n = 0; n < n_tiles; n += 2) {
      FragB<M> b[2];
      read_state(b, step, n);
      PHITUNE_UNROLL
      for (int i = 0; i < 2; ++i) {
        if (n + i < n_tiles) {
          PHITUNE_UNROLL
          for (int m = 0; m < C.m_tiles; ++m) mma<M>(acc[m][n + i], a[m], b[i]);
        }
      }
    }
  }

  PHITUNE_DEVICE void multiply_group(const Scalars& scalars, const Base& base, const char* group) {
    PHITUNE_UNROLL
    for (int i = 0; i < L.group_steps; ++i) {
      FragA<M> a[C.m_tiles];
      PHITUNE_UNROLL
      for (int r = 0; r < thread_rows; ++r) {
        const Pair<M> feature = pair_from_packed<M, C.input>(base[r][i]);
        PHITUNE_UNROLL
        for (int s = 0; s < 2; ++s) a[r / 2].set(r % 2 + 2 * s, mul(scalars[r][s], feature));
      }
      multiply_step(a, group + i * 16 * L.row_stride);
    }
  }

  // Degree 1: phi(q) is q.
  PHITUNE_DEVICE void multiply_features(const char* queries, int step_index, const char* step) {
    FragA<M> a[C.m_tiles];
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      const char* const at = queries + (r / 2 * 16 + r % 2 * 8) * L.q_stride + (step_index * 16 + lane() % 4 * 2) * 2;
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) a[r / 2].set(r % 2 + 2 * s, pair_from_packed<M, C.input>(*reinterpret_cast<const u32*>(at + 16 * s)));
    }
    multiply_step(a, step);
  }

  /// Adds phi(q) S to the accumulators. The queries must be on their way (load_queries). All copies have landed and all warps are through
  /// with the state in shared memory when it returns.
  PHITUNE_DEVICE void multiply() {
    const char* const queries = q_tile() + row_of(0) * L.q_stride;
    const char* const state = state_of_chunk();
    PHITUNE_UNROLL
    for (int stage = 0; stage < C.stages - 1; ++stage) {
      if (stage < L.stage_count) load_stage(state, stage);
      cp_async_commit();
    }
    build_table();
    cp_async_wait<C.stages - 2>();
    block_barrier();

    Tuples tuples;
    Base base;
    u32 entry = entry_of(0), next = entry_of(1);
    read_tuples(tuples, queries, entry);
    if constexpr (C.p > 1) read_base(base, queries, entry);

    int group = 0;
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < L.stage_count; ++stage) {
      if (stage > 0) {
        cp_async_wait<C.stages - 2>();
        block_barrier();
      }
      if (stage + C.stages - 1 < L.stage_count) load_stage(state, stage + C.stages - 1);
      cp_async_commit();
      const char* const rows = ring() + stage % C.stages * (L.stage_rows * L.row_stride);
      PHITUNE_UNROLL
      for (int i = 0; i < L.stage_groups; ++i) {
        const char* const at = rows + i * L.group_rows * L.row_stride;
        if (L.groups % L.stage_groups != 0 && group >= L.groups) break;
        if constexpr (C.p == 1) {
          multiply_features(queries, group, at);
        } else {
          Scalars scalars;
          finish_tuples(scalars, tuples);
          read_tuples(tuples, queries, next);
          multiply_group(scalars, base, at);
          // Wide tiles last for many groups; the features of narrow ones are as cheap to read again as to compare.
          if (C.d_tile < 8 || next >> 24 != entry >> 24) read_base(base, queries, next);
          entry = next;
          next = entry_of(group + 2);
        }
        ++group;
      }
    }
    cp_async_wait<0>();
    // What comes next writes where other warps still read the state.
    block_barrier();
  }

  /// Of row half h of m tile m: this thread's share of phi(q) z, which is spread over the columns that hold the terms of z, and so over the
  /// four lanes of the row.
  PHITUNE_DEVICE float denominator_share(int m, int h) const {
    static_assert(C.normalised);
    return acc[m][n_tiles - 1][2 * h] + acc[m][n_tiles - 1][2 * h + 1];
  }
};

}  // namespace phitune
