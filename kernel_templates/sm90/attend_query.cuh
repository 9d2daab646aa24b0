// attention and query_state in one kernel, on Hopper: y_i = (sum_j w_ij v_j + exp(G_i) phi(q_i) S) / (sum_j w_ij + exp(G_i) phi(q_i) z)
// over the keys j <= i of the chunk. Nothing but y leaves the block.
//
// A work is 64 query rows per m tile of each warpgroup, of one head and chunk. The accumulators take, in this order:
//   phi(q) S, with the denominator as eight columns more;
//   times exp(G_ref), G_ref the gate of the last key before the block's rows (all gates count from the chunk's start);
//   the tiles of keys up to the diagonal, each key weighted with exp(G_ref - G_j), ones beside V adding to the denominator;
//   times exp(G_i - G_ref), row by row, which cancels under normalisation.
// Where gates fall too steeply among the rows, their factors come before those keys, whose weights then have exp(G_i - G_j) each. S
// carries scale^p and the other weights do not, so phi(q) S is divided by it; it cancels under normalisation.
//
// One warpgroup loads: queries, then the stages of S by bulk copies and the tiles of keys by cp.async, all through one ring. Blocks are
// persistent: loading goes on through the ends of works.
#pragma once

#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/sm90/attend_query_config.cuh"
#include "kernel_templates/sm90/key_tiles.cuh"
#include "kernel_templates/sm90/state_product.cuh"

namespace phitune::sm90 {

template <AttendQueryConfig C>
struct AttendQuery {
  static constexpr AttendQueryLayout L = attend_query_layout(C);
  using State = StateProduct<state_product(C)>;
  using Tiles = KeyTiles<key_tiles(C)>;
  static constexpr int keys = tile_keys;
  static constexpr int accumulators = State::accumulators;
  // Arrivals that fill a slot: every loading thread when its copies have landed, and when its gate is written.
  static constexpr int slot_arrivals = 2 * 128;

  const Args& args;
  int batch, head, kv_head, chunk, start, length, first;  // rows [first, ...) of a chunk of `length` tokens that begins at token `start`
  int tiles, whole;                                       // key tiles, and how many of them lie before all of the block's rows
  bool multiplies;                                        // there is a state before the chunk
  bool split;                                             // gates of the rows' own keys are factors too
  F2 reference;                                           // G_ref; at the chunk's start gates are 0

  static_assert(!C.overlap || C.stages >= 3, "an overlapped walk holds two tiles when it waits for a third");
  static_assert(!C.overlap || C.m_tiles == 1, "several query tiles overlap each other");

  PHITUNE_DEVICE explicit AttendQuery(const Args& a) : args(a) {}

  PHITUNE_DEVICE int row_tiles() const { return ceil_div(args.chunk, L.block_rows); }
  PHITUNE_DEVICE int works() const { return args.b * args.hq * args.chunks * row_tiles(); }

  /// Works that run at the same time share chunks, so that S comes from L2; each block meets early and late rows of chunks in turn, so
  /// that they end together. False when the work has no rows.
  PHITUNE_DEVICE bool set_work(int work) {
    // (Unsigned: several divisions by numbers that the compiler does not know.)
    const u32 row_count = row_tiles(), group = static_cast<u32>(args.hq) / args.hk, turns = static_cast<u32>(grid_size_x()) / row_count;
    u32 rest = static_cast<u32>(work) / row_count;
    const u32 tile = (work + (turns > 0 ? rest / turns : 0)) % row_count;
    const u32 head_in_group = rest % group;
    rest /= group;
    chunk = rest % static_cast<u32>(args.chunks);
    rest /= static_cast<u32>(args.chunks);
    kv_head = rest % static_cast<u32>(args.hk);
    batch = rest / static_cast<u32>(args.hk);
    head = kv_head * group + head_in_group;
    start = chunk * args.chunk;
    length = args.t - start < args.chunk ? args.t - start : args.chunk;
    first = tile * L.block_rows;
    const int reach = first + L.block_rows < length ? first + L.block_rows : length;
    tiles = ceil_div(reach, keys);
    whole = first / keys;
    multiplies = chunk > 0 || args.initial_state != nullptr;
    if (first >= length) return false;
    return true;
  }

  /// G_ref and whether gates may be split: by the loading threads, from memory.
  PHITUNE_DEVICE void find_reference() {
    reference = F2{0.0f, 0.0f};
    split = true;
    if constexpr (C.gated) {
      const int reach = first + L.block_rows < length ? first + L.block_rows : length;
      if (whole > 0) reference = chunk_gates()[whole * keys - 1];
      split = Tiles::may_split(reference, chunk_gates()[reach - 1]);
    }
  }
  // Beside the queries, for the others, who would have to wait for memory.
  PHITUNE_DEVICE static F4* reference_of(int query_turn) {
    return reinterpret_cast<F4*>(shared_memory() + L.gates_at) + query_turn % C.query_tiles;
  }
  PHITUNE_DEVICE void take_reference(int query_turn) {
    const F4 found = *reference_of(query_turn);
    reference = F2{found.x, found.y};
    split = found.z != 0.0f;
  }

  PHITUNE_DEVICE static Barrier* barrier(int index) { return reinterpret_cast<Barrier*>(shared_memory() + L.barriers_at) + index; }
  // (Unsigned: signed division rounds to zero, at the price of some instructions.)
  PHITUNE_DEVICE static int slot_of(int turn) { return static_cast<int>(static_cast<u32>(turn) % C.stages); }
  PHITUNE_DEVICE static int phase_of(int turn) { return static_cast<int>(static_cast<u32>(turn) / C.stages & 1); }
  PHITUNE_DEVICE static Barrier* full(int turn) { return barrier(slot_of(turn)); }
  PHITUNE_DEVICE static Barrier* empty(int turn) { return barrier(C.stages + slot_of(turn)); }
  PHITUNE_DEVICE static Barrier* queries_full(int turn) { return barrier(2 * C.stages + turn % C.query_tiles); }
  PHITUNE_DEVICE static Barrier* queries_empty(int turn) { return barrier(2 * C.stages + C.query_tiles + turn % C.query_tiles); }
  PHITUNE_DEVICE static char* slot(int turn) { return shared_memory() + L.ring_at + slot_of(turn) * L.slot_bytes; }
  PHITUNE_DEVICE static char* queries(int turn) { return shared_memory() + L.queries_at + turn % C.query_tiles * L.query_bytes; }
  PHITUNE_DEVICE static u32* table() { return reinterpret_cast<u32*>(shared_memory() + L.table_at); }

  PHITUNE_DEVICE static void open() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int i = 0; i < C.stages; ++i) {
        barrier_init(full(i), slot_arrivals);
        barrier_init(empty(i), L.consumers / 32);
      }
      PHITUNE_UNROLL
      for (int i = 0; i < C.query_tiles; ++i) {
        barrier_init(queries_full(i), 128 + 1);  // copies landed, G_ref written
        barrier_init(queries_empty(i), L.consumers / 32);
      }
      barrier_init_fence();
    }
    State::build_table(table(), L.threads);
    block_barrier();
  }

  PHITUNE_DEVICE const F2* chunk_gates() const {
    return reinterpret_cast<const F2*>(args.gates) + (static_cast<i64>(batch) * args.hk + kv_head) * args.t + start;
  }
  // ---- the warpgroup that loads ----

  PHITUNE_DEVICE void load_queries(int query_turn) const {
    constexpr int vectors = C.d / 8, rows_at_once = 128 / vectors;
    const int own_row = thread_index() % 128 / vectors, column = thread_index() % vectors;
    const u16* from = static_cast<const u16*>(args.q) + batch * args.q_strides.b + head * args.q_strides.h +
                      (start + first + own_row) * args.q_strides.t + column * 8;
    barrier_wait(queries_empty(query_turn), (query_turn / C.query_tiles & 1) ^ 1);
    char* target = queries(query_turn) + own_row * State::L.q_stride + column * 16;
    // (Unrolled, the addresses would take more registers than the loading threads have.)
    PHITUNE_NO_UNROLL
    for (int row = first + own_row; row < first + L.block_rows; row += rows_at_once) {
      cp_async_16(target, row < length ? from : static_cast<const u16*>(args.q), row < length);
      from += rows_at_once * args.q_strides.t;
      target += rows_at_once * State::L.q_stride;
    }
    barrier_arrive_after_copies(queries_full(query_turn));
    if (thread_index() == L.consumers) {
      *reference_of(query_turn) = F4{reference.x, reference.y, split ? 1.0f : 0.0f, 0.0f};
      barrier_arrive(queries_full(query_turn));
    }
  }

  /// All threads wait for a slot, so that none falls a phase behind; one starts the copy, and arrives for all.
  PHITUNE_DEVICE void load_state(int& turn) const {
    const i64 matrix = (static_cast<i64>(batch) * args.hk + kv_head) * args.chunks + chunk;
    const char* source = static_cast<const char*>(args.state) + matrix * (State::L.rows * (accumulators * 2) * 2);
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < State::L.stage_count; ++stage, ++turn) {
      barrier_wait(empty(turn), phase_of(turn) ^ 1);
      if (thread_index() == L.consumers) {
        barrier_arrive_expect(full(turn), State::L.stage_bytes);
        bulk_copy(slot(turn), source, State::L.stage_bytes, full(turn));
        barrier_arrive_many(full(turn), slot_arrivals - 1);
      }
      source += State::L.stage_bytes;
    }
  }

  PHITUNE_DEVICE void load_tiles(int& turn) const {
    const u16* k = static_cast<const u16*>(args.k) + batch * args.k_strides.b + kv_head * args.k_strides.h + start * args.k_strides.t;
    const u16* v = static_cast<const u16*>(args.v) + batch * args.v_strides.b + kv_head * args.v_strides.h + start * args.v_strides.t;
    const int own_key = thread_index() % 128;
    const auto gate_of = [&](int tile) { return chunk_gates()[tile * keys + own_key < length ? tile * keys + own_key : length - 1]; };
    F2 gate{};
    if (C.gated && own_key < keys) gate = gate_of(0);
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile, ++turn) {
      barrier_wait(empty(turn), phase_of(turn) ^ 1);
      Tiles::copy(slot(turn), k, args.k_strides.t, v, args.v_strides.t, length - tile * keys);
      barrier_arrive_after_copies(full(turn));
      if (own_key < keys) {
        Tiles::store_key(slot(turn), own_key, split || tile < whole, reference, gate);
        if constexpr (C.gated) gate = gate_of(tile + 1);
      }
      barrier_arrive(full(turn));
      k += keys * args.k_strides.t;
      v += keys * args.v_strides.t;
    }
  }

  // ---- the warpgroups that multiply ----

  /// What StateProduct takes of the ring, from turn `base` on.
  struct Ring {
    int base;
    PHITUNE_DEVICE const char* stage(int i) const { return slot(base + i); }
    PHITUNE_DEVICE void wait(int i) const { barrier_wait(full(base + i), phase_of(base + i)); }
    PHITUNE_DEVICE void release(int i) const {
      if (lane() == 0) barrier_arrive(empty(base + i));
    }
  };
  // What the rows of a thread, two in each query tile and 8 apart, have so far.
  struct Rows {
    float acc[C.m_tiles][accumulators];  // e columns, then the denominator's
    bool begun;                          // acc holds something
  };
  PHITUNE_DEVICE static void scale(float (&acc)[accumulators], const float (&factor)[2]) {
    PHITUNE_UNROLL
    for (int i = 0; i < accumulators; ++i) acc[i] *= factor[i % 4 / 2];
    settle(acc);
  }

  /// Row in the block of query tile `m` and the thread's half `h`. Not by warp(), which is a collective.
  PHITUNE_DEVICE static int row_of(int m, int h) {
    return thread_index() / 128 * (64 * C.m_tiles) + m * 64 + thread_index() / 32 % 4 * 16 + lane() / 4 + 8 * h;
  }

  PHITUNE_DEVICE static void load_fragments(typename Tiles::Queries& q, const char* query_tile, int m) {
    const int warp_row = thread_index() / 128 * (64 * C.m_tiles) + m * 64 + thread_index() / 32 % 4 * 16;
    const char* const from = query_tile + (warp_row + (lane() & 15)) * State::L.q_stride + (lane() >> 4) * 16;
    PHITUNE_UNROLL
    for (int step = 0; step < Tiles::d_steps; ++step) {
      ldmatrix_x4(q[step], from + step * 32);
      settle(q[step]);
    }
  }

  PHITUNE_DEVICE F2 row_gate(int m, int h) const {
    const int row = first + row_of(m, h);
    return chunk_gates()[row < length ? row : length - 1];
  }

  static_assert(C.m_tiles <= 2, "query tiles between the first and the last would see keys after them");
  /// How many tiles of keys concern this warpgroup's first and its last query tile.
  struct Own {
    int first, last;
  };
  PHITUNE_DEVICE Own own_tiles() const {
    const int last_row = first + (warp() / 4 + 1) * (64 * C.m_tiles) - 1, first_row = last_row - 64 * (C.m_tiles - 1);
    return {first_row / keys + 1 < tiles ? first_row / keys + 1 : tiles, last_row / keys + 1 < tiles ? last_row / keys + 1 : tiles};
  }

  /// Tiles [begin, end) for query tiles from `First` on.
  template <int First, class Weigh>
  PHITUNE_DEVICE static void walk(Rows& rows, const char* query_tile, int begin, int end, const Ring& ring, const Weigh& weigh) {
    const auto read = [&](typename Tiles::Queries& q, int m) { load_fragments(q, query_tile, m); };
    Tiles::template walk_in_turn<First>(rows.acc, rows.begun || begin > 0, read, begin, end, ring, weigh);
  }
  /// Tiles [begin, own.last): those from own.first on, past the diagonal of the first query tile, for the last alone.
  template <class Weigh>
  PHITUNE_DEVICE static void walk_to_end(Rows& rows, const char* query_tile, int begin, const Own& own, const Ring& ring, const Weigh& weigh) {
    walk<0>(rows, query_tile, begin, own.first, ring, weigh);
    if constexpr (C.m_tiles > 1) walk<C.m_tiles - 1>(rows, query_tile, own.first, own.last, ring, weigh);
  }

  /// The keys up to the diagonal.
  PHITUNE_DEVICE void attend(Rows& rows, const char* query_tile, const Own& own, const Ring& ring) const {
    const auto from = [&](int tile, int m) { return tile * keys - first - row_of(m, 0); };
    const auto before = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int) {
      Tiles::template weigh_split<false>(w, s, ring.stage(tile), 0);
    };
    const auto diagonal = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int m) {
      Tiles::template weigh_split<true>(w, s, ring.stage(tile), from(tile, m));
    };
    if (split) {
      if constexpr (C.overlap) {
        typename Tiles::Queries q;
        load_fragments(q, query_tile, 0);
        Tiles::walk_overlapped(rows.acc[0], rows.begun, q, 0, own.last, ring, before, diagonal);
      } else {
        const int unmasked = own.first - 1;
        walk<0>(rows, query_tile, 0, unmasked, ring, before);
        walk_to_end(rows, query_tile, unmasked, own, ring, diagonal);
      }
      if constexpr (C.gated && !C.normalised) {
        PHITUNE_UNROLL
        for (int m = 0; m < C.m_tiles; ++m) scale(rows.acc[m], {gate_weight(row_gate(m, 0), reference), gate_weight(row_gate(m, 1), reference)});
      }
      return;
    }
    F2 gates[C.m_tiles][2];
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) gates[m][0] = row_gate(m, 0), gates[m][1] = row_gate(m, 1);
    walk<0>(rows, query_tile, 0, whole, ring, before);
    if (rows.begun || whole > 0) {
      PHITUNE_UNROLL
      for (int m = 0; m < C.m_tiles; ++m) scale(rows.acc[m], {gate_weight(gates[m][0], reference), gate_weight(gates[m][1], reference)});
    }
    const auto exactly = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int m) {
      Tiles::weigh_exactly(w, s, ring.stage(tile), from(tile, m), gates[m]);
    };
    walk_to_end(rows, query_tile, whole, own, ring, exactly);
  }

  PHITUNE_DEVICE void multiply(Rows& rows, int& turn, int query_turn) {
    barrier_wait(queries_full(query_turn), query_turn / C.query_tiles & 1);
    take_reference(query_turn);
    const char* const query_tile = queries(query_turn);
    rows.begun = multiplies;
    if (multiplies) {
      const char* const own_row = query_tile + (State::warp_row() + lane() / 4) * State::L.q_stride;
      // Formed before: the gate comes from memory.
      float factor[1] = {gate_weight(reference) / Tiles::power(args.scale)};
      settle(factor);
      State::multiply(rows.acc, own_row, table(), Ring{turn});
      turn += State::L.stage_count;
      PHITUNE_UNROLL
      for (int m = 0; m < C.m_tiles; ++m) scale(rows.acc[m], {factor[0], factor[0]});
    }
    const Own own = own_tiles();
    const Ring ring{turn};
    attend(rows, query_tile, own, ring);
    if (lane() == 0) barrier_arrive(queries_empty(query_turn));
    // Tiles past a warpgroup's own rows have nothing for it. (Released once they have come: earlier, the barrier would take it for the tile
    // before in the same slot.)
    for (int tile = own.last; tile < tiles; ++tile) {
      ring.wait(tile);
      ring.release(tile);
    }
    turn += tiles;
  }

  PHITUNE_DEVICE void write(Rows& rows) const {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) write(rows.acc[m], m);
  }
  PHITUNE_DEVICE void write(float (&acc)[accumulators], int m) const {
    float factor[2];
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      if constexpr (C.normalised) {
        // The denominator is spread over the columns that hold the terms of z.
        float sum = acc[accumulators - 4 + 2 * h] + acc[accumulators - 4 + 2 * h + 1];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        // The reciprocal of a very small sum would overflow: lift both sides first.
        const float lift = sum < 0x1p-100f ? 0x1p100f : 1.0f;
        PHITUNE_UNROLL
        for (int i = 0; i < C.e / 2; ++i) {
          if (i % 4 / 2 == h) acc[i] *= lift;
        }
        factor[h] = sum == 0.0f ? 0.0f : 1.0f / (sum * lift);
      } else {
        factor[h] = Tiles::power(args.scale);
      }
    }
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = first + row_of(m, h);
      u16* const to = static_cast<u16*>(args.y) + batch * args.y_strides.b + (start + row) * args.y_strides.t + head * args.y_strides.h;
      write_row(to, acc, h, factor[h], row < length);
    }
  }

  PHITUNE_DEVICE static void write_row(u16* to, const float (&acc)[accumulators], int h, float factor, bool valid) {
    const int t = lane() % 4;
    const auto pair = [&](int n) { return pack_bf16x2(acc[4 * n + 2 * h] * factor, acc[4 * n + 2 * h + 1] * factor); };
    if constexpr (C.e % 32 == 0) {
      // Four neighbouring lanes exchange pairs, so that each writes 16 bytes.
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; n += 4) {
        u32 x[4] = {pair(n), pair(n + 1), pair(n + 2), pair(n + 3)};
        transpose_quad(x);
        if (valid) *reinterpret_cast<U4*>(to + (n + t) * 8) = U4{x[0], x[1], x[2], x[3]};
      }
    } else {
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; ++n) {
        if (valid) *reinterpret_cast<u32*>(to + n * 8 + 2 * t) = pair(n);
      }
    }
  }
};

/// Launch: attend_query_layout(C) threads and shared bytes; x = any number of blocks, which share the works.
template <AttendQueryConfig C>
PHITUNE_DEVICE void attend_query(const Args& args) {
  using Kernel = AttendQuery<C>;
  Kernel kernel(args);
  Kernel::open();
  wait_for_earlier_kernels();
  const int works = kernel.works();
  int turn = 0, query_turn = 0;
  if (warp() >= Kernel::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    PHITUNE_NO_UNROLL
    for (int work = block_index_x(); work < works; work += grid_size_x()) {
      if (!kernel.set_work(work)) continue;
      kernel.find_reference();
      kernel.load_queries(query_turn++);
      if (kernel.multiplies) kernel.load_state(turn);
      kernel.load_tiles(turn);
    }
    // Copies must not land in the memory of the next block.
    cp_async_commit();
    cp_async_wait<0>();
  } else {
    registers_increase<C.consumer_registers>();
    PHITUNE_NO_UNROLL
    for (int work = block_index_x(); work < works; work += grid_size_x()) {
      if (!kernel.set_work(work)) continue;
      typename Kernel::Rows rows;
      kernel.multiply(rows, turn, query_turn++);
      kernel.write(rows);
    }
  }
}

}  // namespace phitune::sm90
