// y = (partial + exp(G_i) phi(q_i) S) / (row_sum + exp(G_i) phi(q_i) z): what the state before a chunk adds to its tokens, on Hopper.
//
// A matrix product per (b, query head, chunk): M = tokens, N = e columns and 8 that hold the denominator, K = D rows of the state. A =
// phi(q) is formed in registers, a batch of k16 steps ahead of the tensor cores. B = S comes from memory as it is, in core matrices
// (Path::sm90), by bulk copies that one warp issues into a ring of stages.
//
// Rows of the state come in groups of 8 tuples (rows of phi of degree p-1) times the d_tile features of the last tile. Thread t of a quad
// takes tuples 2t and 2t+1, one for each k half, so a group costs it one product for its two scalars and one packed multiply per pair slot.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/sm90/query_state_config.cuh"

namespace phitune::sm90 {

template <QueryStateConfig C>
struct QueryState {
  static constexpr QueryStateLayout L = query_state_layout(C);
  static constexpr int thread_rows = 2 * C.m_tiles;  // rows of A a thread holds slots of
  static constexpr int feature_pairs = C.d_tile / 2;
  static constexpr int lower_degree = C.p - 2;  // scalars of a tuple besides its last feature
  static constexpr int batches = C.steps / C.batch;
  static constexpr int accumulators = L.columns / 2;

  static_assert(C.p >= 2 && C.d % C.d_tile == 0 && C.d % 16 == 0 && C.e % 16 == 0 && C.d <= 128,
                "table entries are byte offsets in one byte");
  static_assert(L.rows % (8 * C.d_tile) == 0 && C.steps % L.group_steps == 0 && L.rows % (C.steps * 16) == 0);
  static_assert(batches % 2 == 0 && C.steps % C.batch == 0, "the two sets of fragments take turns");

  // What a thread reads of its query rows for one group, before any arithmetic: issued one group ahead.
  struct Tuples {
    u32 last[thread_rows];  // the last features of tuples 2t and 2t+1
    u16 lower[thread_rows][lower_degree > 0 ? lower_degree : 1];
  };
  using Scalars = u32[thread_rows][2];
  using Base = u32[thread_rows][feature_pairs];

  // What a block computes: tokens [first_token, first_token + valid_rows) of one query head.
  struct Place {
    int batch, head, kv_head, chunk, first_token, valid_rows;
  };

  const Args& args;
  Place place;
  float acc[C.m_tiles][accumulators];

  PHITUNE_DEVICE QueryState(const Args& a, int block) : args(a) { set_place(block); }

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

  PHITUNE_DEVICE static Barrier* full(int slot) { return reinterpret_cast<Barrier*>(shared_memory() + L.barriers_at) + slot; }
  PHITUNE_DEVICE static Barrier* empty(int slot) { return full(C.stages + slot); }
  PHITUNE_DEVICE static char* q_tile() { return shared_memory() + L.q_at; }
  PHITUNE_DEVICE static u32* table() { return reinterpret_cast<u32*>(shared_memory() + L.table_at); }
  PHITUNE_DEVICE static char* ring() { return shared_memory() + L.ring_at; }
  PHITUNE_DEVICE static void consumer_barrier() { named_barrier(1, L.consumers); }

  // ---- the warp that feeds ----

  PHITUNE_DEVICE static void open_barriers() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int slot = 0; slot < C.stages; ++slot) {
        barrier_init(full(slot), 1);
        barrier_init(empty(slot), L.consumers / 32);
      }
      barrier_init_fence();
    }
  }

  PHITUNE_DEVICE void feed() const {
    const i64 matrix = (static_cast<i64>(place.batch) * args.hk + place.kv_head) * args.chunks + place.chunk;
    const char* source = static_cast<const char*>(args.state) + matrix * (L.rows * L.columns * 2);
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < L.stage_count; ++stage) {
      const int slot = stage % C.stages;
      barrier_wait(empty(slot), (stage / C.stages & 1) ^ 1);
      barrier_arrive_expect(full(slot), L.stage_bytes);
      bulk_copy(ring() + slot * L.stage_bytes, source, L.stage_bytes, full(slot));
      source += L.stage_bytes;
    }
  }

  // ---- filling shared memory ----

  PHITUNE_DEVICE void load_queries() const {
    constexpr int vectors = C.d / 8;
    const u16* const source = static_cast<const u16*>(args.q) + place.batch * args.q_strides.b + place.head * args.q_strides.h;
    PHITUNE_UNROLL
    for (int i = 0; i < ceil_div(L.block_rows * vectors, L.consumers); ++i) {
      const int at = thread_index() + i * L.consumers;
      const int row = at / vectors, column = at % vectors;
      const int token = place.first_token + (row < place.valid_rows ? row : 0);
      const u16* const from = source + token * args.q_strides.t + column * 8;
      if (row < L.block_rows) cp_async_16(q_tile() + row * L.q_stride + column * 16, from, row < place.valid_rows);
    }
    cp_async_commit();
  }

  // An entry holds byte offsets in a query row: of the last feature of a tuple, of its lower features, and of the last tile (high byte).
  PHITUNE_DEVICE static void build_table() {
    constexpr int entries = (L.groups + 2) * L.table_lanes;
    PHITUNE_NO_UNROLL
    for (int at = thread_index(); at < entries; at += L.consumers) {
      u32 entry = 0;
      if (at < L.groups * L.table_lanes) {
        const tspow::Indices x = tspow::decode(at * (8 * C.d_tile / L.table_lanes), C.p, C.d_tile);
        entry = static_cast<u32>(x.i[C.p - 1]) << 25 | static_cast<u32>(x.i[C.p - 2]) << 1;
        PHITUNE_UNROLL
        for (int k = 0; k < lower_degree; ++k) entry |= static_cast<u32>(x.i[k]) << (8 * k + 9);
      }
      table()[at] = entry;
    }
  }

  // ---- forming phi(q) ----

  PHITUNE_DEVICE static int row_of(int r) {
    return warp() / 4 * (64 * C.m_tiles) + warp() % 4 * 16 + (r / 2) * 64 + (r % 2) * 8 + lane() / 4;
  }
  PHITUNE_DEVICE static constexpr int row_step(int r) { return (r / 2 * 64 + r % 2 * 8) * L.q_stride; }

  PHITUNE_DEVICE static u32 entry_of(int group) {
    if constexpr (L.table_lanes == 1)
      return table()[group];
    else
      return table()[group * 4 + lane() % 4];
  }

  PHITUNE_DEVICE static void read_tuples(Tuples& out, const char* queries, u32 entry) {
    const char* const last = queries + (entry & 0xffu) + (L.table_lanes == 1 ? lane() % 4 * 4 : 0);
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      out.last[r] = *reinterpret_cast<const u32*>(last + row_step(r));
      PHITUNE_UNROLL
      for (int k = 0; k < lower_degree; ++k)
        out.lower[r][k] = *reinterpret_cast<const u16*>(queries + (entry >> (8 * k + 8) & 0xffu) + row_step(r));
    }
  }

  PHITUNE_DEVICE static u32 twice(u32 packed, bool high) { return permute_bytes(packed, packed, high ? 0x3232u : 0x1010u); }

  PHITUNE_DEVICE static void finish_tuples(Scalars& out, const Tuples& in) {
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      u32 both = in.last[r];
      PHITUNE_UNROLL
      for (int k = lower_degree - 1; k >= 0; --k) both = mul_bf16x2(both, twice(in.lower[r][k], false));
      out[r][0] = twice(both, false), out[r][1] = twice(both, true);
    }
  }

  // The features of the last tile, all of them in every thread.
  PHITUNE_DEVICE static void read_base(Base& out, const char* queries, u32 entry) {
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      const char* const at = queries + (entry >> 24) + row_step(r);
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

  PHITUNE_DEVICE void product() {
    const char* const queries = q_tile() + row_of(0) * L.q_stride;
    // What the next group needs is read before the products of this one are waited for, and its entry of the table a group earlier still.
    Tuples tuples;
    Base base, next_base;
    u32 next = entry_of(1);
    read_tuples(tuples, queries, entry_of(0));
    read_base(next_base, queries, entry_of(0));
    Scalars scalars;
    u32 fragments[2][C.batch][C.m_tiles][4];

    int group = 0;
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < L.stage_count; ++stage) {
      const int slot = stage % C.stages;
      const SharedMatrix state = core_matrices(ring() + slot * L.stage_bytes, L.step_bytes / 2, 128);
      PHITUNE_UNROLL
      for (int batch = 0; batch < batches; ++batch) {
        auto& a = fragments[batch % 2];
        PHITUNE_UNROLL
        for (int k = 0; k < C.batch; ++k) {
          const int pair = (batch * C.batch + k) % L.group_steps;
          if (pair == 0) {
            finish_tuples(scalars, tuples);
            PHITUNE_UNROLL
            for (int r = 0; r < thread_rows; ++r) {
              PHITUNE_UNROLL
              for (int i = 0; i < feature_pairs; ++i) base[r][i] = next_base[r][i];
            }
            read_tuples(tuples, queries, next);
            read_base(next_base, queries, next);
            next = entry_of(++group + 1);
          }
          PHITUNE_UNROLL
          for (int r = 0; r < thread_rows; ++r) {
            PHITUNE_UNROLL
            for (int s = 0; s < 2; ++s) a[k][r / 2][r % 2 + 2 * s] = mul_bf16x2(scalars[r][s], base[r][pair]);
          }
        }
        if (batch == 0) barrier_wait(full(slot), stage / C.stages & 1);
        PHITUNE_UNROLL
        for (int k = 0; k < C.batch; ++k) {
          PHITUNE_UNROLL
          for (int m = 0; m < C.m_tiles; ++m) settle(a[k][m]);
        }
        wgmma_fence();
        PHITUNE_UNROLL
        for (int k = 0; k < C.batch; ++k) {
          PHITUNE_UNROLL
          for (int m = 0; m < C.m_tiles; ++m)
            wgmma_bf16<L.columns, true>(acc[m], a[k][m], state.at((batch * C.batch + k) * L.step_bytes), stage + batch + k > 0);
        }
        wgmma_commit();
        // The batch before is done: its fragments may be overwritten, and if it was a stage's last, the stage.
        wgmma_wait<1>();
        if (batch == 0 && stage > 0 && lane() == 0) barrier_arrive(empty((stage - 1) % C.stages));
      }
    }
    wgmma_wait<0>();
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) settle(acc[m]);
    // The epilogue writes where other warps' products still read the state.
    consumer_barrier();
  }

  // ---- the epilogue, one 16-row tile of a warp at a time ----

  PHITUNE_DEVICE float gate_factor(int token) const {
    if constexpr (!C.gated)
      return 1.0f;
    else
      return gate_weight(
          reinterpret_cast<const F2*>(args.gates)[(static_cast<i64>(place.batch) * args.hk + place.kv_head) * args.t + token]);
  }

  PHITUNE_DEVICE i64 output_row(int token) const { return (static_cast<i64>(place.batch) * args.hq + place.head) * args.t + token; }

  // exp(G) phi(q) S of 16 rows to `out`, and behind each row the inverse of its denominator.
  PHITUNE_DEVICE void stage_tile(float* out, int m, int first_row) const {
    const int g = lane() / 4, t = lane() % 4;
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + g + 8 * h;
      const int token = place.first_token + (row < place.valid_rows ? row : 0);
      float* const to = out + (g + 8 * h) * L.epilogue_stride;
      const float factor = gate_factor(token);
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; ++n)
        *reinterpret_cast<F2*>(to + n * 8 + 2 * t) = F2{factor * acc[m][4 * n + 2 * h], factor * acc[m][4 * n + 2 * h + 1]};
      if constexpr (C.normalised) {
        // phi(q) z is spread over the columns that hold the terms of z.
        float sum = acc[m][accumulators - 4 + 2 * h] + acc[m][accumulators - 4 + 2 * h + 1];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const float denominator = args.row_sum[output_row(token)] + factor * sum;
        if (t == 0) to[C.e] = denominator != 0.0f ? 1.0f / denominator : 0.0f;
      }
    }
  }

  PHITUNE_DEVICE void read_partial(float (&out)[8], i64 row, int column) const {
    const char* const at = static_cast<const char*>(args.partial) + (row * C.e + column) * storage_bytes(C.partial);
    if constexpr (C.partial == Storage::fp32) {
      const F4 a = reinterpret_cast<const F4*>(at)[0], b = reinterpret_cast<const F4*>(at)[1];
      out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w, out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
    } else {
      load_vector_8<C.partial>(out, at);
    }
  }

  PHITUNE_DEVICE void write_vector(const float* staged, int row, int column) const {
    const int token = place.first_token + row;
    float out[8];
    read_partial(out, output_row(token), column);
    PHITUNE_UNROLL
    for (int i = 0; i < 8; ++i) out[i] += staged[column + i];
    if constexpr (C.normalised) {
      PHITUNE_UNROLL
      for (int i = 0; i < 8; ++i) out[i] *= staged[C.e];
    }
    u16* const y = static_cast<u16*>(args.y) + place.batch * args.y_strides.b + token * args.y_strides.t + place.head * args.y_strides.h;
    store_vector_8<Storage::bf16>(y + column, out);
  }

  PHITUNE_DEVICE void write_outputs() {
    constexpr int vectors = C.e / 8;
    float* const staging = reinterpret_cast<float*>(ring()) + warp() * (16 * L.epilogue_stride);
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      const int first_row = row_of(2 * m) - lane() / 4;
      stage_tile(staging, m, first_row);
      warp_barrier();
      PHITUNE_UNROLL
      for (int i = 0; i < vectors / 2; ++i) {
        const int at = lane() + 32 * i;
        const int row = at / vectors;
        if (first_row + row < place.valid_rows) write_vector(staging + row * L.epilogue_stride, first_row + row, at % vectors * 8);
      }
      warp_barrier();
    }
  }

  PHITUNE_DEVICE void clear() {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      PHITUNE_UNROLL
      for (int i = 0; i < accumulators; ++i) acc[m][i] = 0.0f;
    }
  }
};

/// Launch: query_state_layout(C) threads and shared bytes; x = b * hk * chunks * (hq / hk) * ceil(chunk / block_rows) blocks.
template <QueryStateConfig C>
PHITUNE_DEVICE void query_state(const Args& args) {
  using Kernel = QueryState<C>;
  Kernel kernel(args, block_index_x());
  if (kernel.place.valid_rows <= 0) return;
  // Without an initial state there is nothing before the first chunk: its tokens are only normalised.
  const bool multiplies = kernel.place.chunk > 0 || args.initial_state != nullptr;
  const bool feeds = warp() == Kernel::L.consumers / 32;
  if (multiplies) {
    Kernel::open_barriers();
    if (!feeds) {
      kernel.load_queries();
      Kernel::build_table();
      cp_async_wait<0>();
    }
    block_barrier();
  }
  if (feeds) {
    if (multiplies && lane() == 0) kernel.feed();
    return;
  }
  if (multiplies)
    kernel.product();
  else
    kernel.clear();
  kernel.write_outputs();
}

}  // namespace phitune::sm90
