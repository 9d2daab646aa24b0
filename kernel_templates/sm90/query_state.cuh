// y = (partial + exp(G_i) phi(q_i) S) / (row_sum + exp(G_i) phi(q_i) z): what the state before a chunk adds to its tokens, on Hopper.
//
// A matrix product per (b, query head, chunk): M = tokens, N = e columns and 8 that hold the denominator, K = D rows of the state. A =
// phi(q) is formed in registers, a batch of k16 steps ahead of the tensor cores. B = S comes from memory as it is, in core matrices
// (Path::sm90), by bulk copies that one warp issues into a ring of stages.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/sm90/query_state_config.cuh"
#include "kernel_templates/sm90/state_product.cuh"

namespace phitune::sm90 {

template <QueryStateConfig C>
struct QueryState {
  static constexpr QueryStateLayout L = query_state_layout(C);
  using State = StateProduct<state_product(C)>;
  static constexpr int accumulators = State::accumulators;

  static_assert(C.e % 16 == 0);

  // What a block computes: tokens [first_token, first_token + valid_rows) of one query head.
  struct Place {
    int batch, head, kv_head, chunk, first_token, valid_rows;
  };

  const Args& args;
  Place place;
  typename State::Accumulators acc;

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

  // (Signed: with the remainder of an unsigned division by 6, ptxas serialises the products of batches of one step.)
  PHITUNE_DEVICE static int slot_of(int turn) { return turn % C.stages; }
  PHITUNE_DEVICE static int phase_of(int turn) { return turn / C.stages & 1; }
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
    const char* source = static_cast<const char*>(args.state) + matrix * (State::L.rows * accumulators * 4);
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < State::L.stage_count; ++stage) {
      const int slot = slot_of(stage);
      barrier_wait(empty(slot), phase_of(stage) ^ 1);
      barrier_arrive_expect(full(slot), State::L.stage_bytes);
      bulk_copy(ring() + slot * State::L.stage_bytes, source, State::L.stage_bytes, full(slot));
      source += State::L.stage_bytes;
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
      if (row < L.block_rows) cp_async_16(q_tile() + row * State::L.q_stride + column * 16, from, row < place.valid_rows);
    }
    cp_async_commit();
  }

  // ---- the product ----

  /// Row in the block of slot `r` of a thread.
  PHITUNE_DEVICE static int row_of(int r) { return State::warp_row() + State::row_offset(r) + lane() / 4; }

  /// What StateProduct takes of the ring.
  struct Ring {
    PHITUNE_DEVICE const char* stage(int i) const { return ring() + slot_of(i) * State::L.stage_bytes; }
    PHITUNE_DEVICE void wait(int i) const { barrier_wait(full(slot_of(i)), phase_of(i)); }
    PHITUNE_DEVICE void release(int i) const {
      if (lane() == 0) barrier_arrive(empty(slot_of(i)));  // (Only products read a slot: nothing of the other lanes to wait for.)
    }
  };

  PHITUNE_DEVICE void product() {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) set_zero(acc[m]);
    State::multiply(acc, q_tile() + row_of(0) * State::L.q_stride, table(), Ring{});
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
  wait_for_earlier_kernels();
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
      Kernel::State::build_table(Kernel::table(), Kernel::L.consumers);
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
