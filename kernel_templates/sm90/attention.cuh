// The quadratic form on Hopper, inside chunks or over all of t, alone (`attention`) or with the state before the chunk (`attend_query`):
//   sum_j w_ij v_j + exp(G_i) phi(q_i) S    over the keys j <= i of the chunk, w_ij = (q_i.k_j)^p exp(G_i - G_j),
// divided by the same sum of weights and of phi(q_i) z, in normal space: no running maximum, no logarithm. Alone inside chunks it leaves
// partial outputs and row sums; else nothing but y leaves the block.
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
// persistent: loading goes on through the ends of works. Where there are few works, several groups of warpgroups share out the keys of
// the same rows; sums of weights are all there is to bring together.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/sm90/attention_config.cuh"
#include "kernel_templates/sm90/key_tiles.cuh"
#include "kernel_templates/sm90/state_product.cuh"

namespace phitune::sm90 {

template <AttentionConfig C>
struct Attention {
  static constexpr AttentionLayout L = attention_layout(C);
  using State = StateProduct<state_product(C)>;  // where C.state.added
  using Tiles = KeyTiles<key_tiles(C)>;
  static constexpr int keys = tile_keys, warpgroup_rows = 64 * C.m_tiles;
  static constexpr int accumulators = L.accumulators;
  // Half of the loading warpgroup copies; where keys have something beside them that must be formed, the other half does that, a key each. So
  // neither waits for the other. Arrivals that fill a slot: each of these threads, when its copies have landed or what it writes is there.
  static constexpr int copiers = Tiles::copiers, markers = C.gated || (C.sum && !Tiles::L.shared_ones) ? keys : 0;
  static constexpr int slot_arrivals = copiers + markers;
  static_assert(copiers + keys == 128);

  const Args& args;
  int batch, head, kv_head, chunk, start, length, first;  // rows [first, ...) of a chunk of `length` tokens that begins at token `start`
  int tiles, whole;                                       // key tiles, and how many of them lie before all of the block's rows
  bool multiplies;                                        // there is a state before the chunk
  bool split;                                             // gates of the rows' own keys are factors too
  F2 reference;                                           // G_ref; at the chunk's start gates are 0

  static_assert(C.stages >= (C.m_tiles == 1 ? 2 * C.key_groups + 1 : 2), "a group holds two tiles when it waits for a third");
  static_assert(C.key_groups == 1 || (C.m_tiles == 1 && !C.state.added), "the last tile of a group is the last of all its rows");
  static_assert(C.warpgroups % C.key_groups == 0);

  PHITUNE_DEVICE explicit Attention(const Args& a) : args(a) {}

  PHITUNE_DEVICE int row_tiles() const { return ceil_div(args.chunk, L.block_rows); }
  PHITUNE_DEVICE int works() const { return args.b * args.hq * args.chunks * row_tiles(); }

  /// Works that run at the same time share chunks, so that S, or keys, come from L2. Later rows have more keys: a block that had the n-th
  /// longest of its neighbours' works has the n-th shortest of the next (or nearly, where the grid is no multiple of the works of a chunk),
  /// so that blocks end together. False when the work has no rows.
  PHITUNE_DEVICE bool set_work(int work) {
    // (Unsigned: several divisions by numbers that the compiler does not know.)
    const u32 row_count = row_tiles(), group = static_cast<u32>(args.hq) / args.hk, grid = grid_size_x();
    u32 rest = static_cast<u32>(work) / row_count;
    const u32 at = static_cast<u32>(work) % row_count;
    u32 tile;
    if (row_count <= grid) {
      // Rounds of whole heads or chunks; `column` is what `at` was for the block in round 0.
      const u32 round = rest / (grid / row_count), column = (at + row_count - round * grid % row_count) % row_count;
      tile = round % 2 == 0 ? row_count - 1 - column : column;
    } else {
      const u32 round = at / grid, begin = round * grid, end = begin + grid < row_count ? begin + grid : row_count;
      tile = round % 2 == 0 ? at : begin + end - 1 - at;
    }
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
    tiles = (first + round_up(reach - first, warpgroup_rows)) / keys;
    whole = first / keys;
    multiplies = C.state.added && (chunk > 0 || args.initial_state != nullptr);
    if (first >= length) return false;
    return true;
  }

  // G_ref and the gate of the last row, which decide whether gates may be split. The loading threads read them from memory and copy them beside
  // the queries, for the others, who would have to wait for memory.
  PHITUNE_DEVICE int last_row() const { return (first + L.block_rows < length ? first + L.block_rows : length) - 1; }
  PHITUNE_DEVICE const F2* reference_gate() const { return chunk_gates() + (whole > 0 ? whole * keys - 1 : 0); }
  PHITUNE_DEVICE static F2* row_gates(int query_turn) {
    return reinterpret_cast<F2*>(shared_memory() + L.row_gates_at) + query_turn % C.query_tiles * 2;
  }
  PHITUNE_DEVICE void set_reference(F2 reference_gate, F2 last_gate) {
    reference = whole > 0 ? reference_gate : F2{0.0f, 0.0f};
    split = Tiles::may_split(reference, last_gate);
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
  PHITUNE_DEVICE static Barrier* parts_full() { return barrier(2 * C.stages + 2 * C.query_tiles); }
  PHITUNE_DEVICE static Barrier* parts_empty() { return barrier(2 * C.stages + 2 * C.query_tiles + 1); }
  PHITUNE_DEVICE static char* ones() { return shared_memory() + L.ones_at; }
  PHITUNE_DEVICE static u32* table() { return reinterpret_cast<u32*>(shared_memory() + L.table_at); }

  PHITUNE_DEVICE static void open() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int i = 0; i < C.stages; ++i) {
        barrier_init(full(i), slot_arrivals);
        barrier_init(empty(i), L.row_groups * 4);
      }
      PHITUNE_UNROLL
      for (int i = 0; i < C.query_tiles; ++i) {
        barrier_init(queries_full(i), 128);
        barrier_init(queries_empty(i), L.consumers / 32);
      }
      if constexpr (C.key_groups > 1) {
        barrier_init(parts_full(), (C.key_groups - 1) * L.row_groups * 128);
        barrier_init(parts_empty(), L.row_groups * 128);
      }
      barrier_init_fence();
    }
    if constexpr (C.state.added) State::build_table(table(), L.threads);
    if constexpr (Tiles::L.shared_ones) {
      if (thread_index() < keys) Tiles::store_one(ones(), thread_index());
    }
    block_barrier();
  }

  PHITUNE_DEVICE const F2* chunk_gates() const {
    return reinterpret_cast<const F2*>(args.gates) + (static_cast<i64>(batch) * args.hk + kv_head) * args.t + start;
  }
  // ---- the warpgroup that loads ----

  /// Starts copying the queries, and the gates at the rows' ends.
  PHITUNE_DEVICE void load_queries(int query_turn) const {
    constexpr int vectors = C.d / 8, rows_at_once = 128 / vectors;
    // (Settled: what follows from it would else be kept in registers from work to work, and there are none left.)
    u32 thread[1] = {static_cast<u32>(loader())};
    settle(thread);
    const int own_row = thread[0] / vectors, column = thread[0] % vectors;
    const u16* from = static_cast<const u16*>(args.q) + batch * args.q_strides.b + head * args.q_strides.h +
                      (start + first + own_row) * args.q_strides.t + column * 8;
    barrier_wait(queries_empty(query_turn), (query_turn / C.query_tiles & 1) ^ 1);
    char* target = queries(query_turn) + own_row * L.query_stride + column * 16;
    // (Unrolled, the addresses would take more registers than the loading threads have.)
    PHITUNE_NO_UNROLL
    for (int row = first + own_row; row < first + L.block_rows; row += rows_at_once) {
      cp_async_16(target, row < length ? from : static_cast<const u16*>(args.q), row < length);
      from += rows_at_once * args.q_strides.t;
      target += rows_at_once * L.query_stride;
    }
    if constexpr (C.gated) {
      const u32 part = thread[0];
      if (part < 2) copy_gate(row_gates(query_turn) + part, part == 0 ? reference_gate() : chunk_gates() + last_row());
    }
    barrier_arrive_after_copies(queries_full(query_turn));
  }

  PHITUNE_DEVICE static void copy_gate(F2* target, const F2* source) {
    cp_async_4(&target->x, &source->x, true);
    cp_async_4(&target->y, &source->y, true);
  }
  PHITUNE_DEVICE static int loader() { return thread_index() % 128; }
  PHITUNE_DEVICE static bool copies() { return warp() % 4 < copiers / 32; }
  PHITUNE_DEVICE static int marked_key() { return loader() - copiers; }

  // Gates lie in a ring of their own until they are needed, each read by the thread that has copied it.
  PHITUNE_DEVICE static F2* own_gate(int tile) {
    return reinterpret_cast<F2*>(shared_memory() + L.gates_at) + tile % gates_ahead * keys + marked_key();
  }
  /// Starts copying the thread's gate of a tile: always a group of copies, so that groups can be counted.
  PHITUNE_DEVICE void load_gate(int tile) const {
    if (tile < tiles) {
      const int key = tile * keys + marked_key();
      copy_gate(own_gate(tile), chunk_gates() + (key < length ? key : length - 1));
    }
    cp_async_commit();
  }
  PHITUNE_DEVICE void load_first_gates() const {
    PHITUNE_UNROLL
    for (int tile = 0; tile < gates_ahead; ++tile) load_gate(tile);
  }

  // All threads wait for each slot and arrive at it, so that none falls a phase behind or runs one ahead.

  PHITUNE_DEVICE void copy_state(int& turn) const {
    const i64 matrix = (static_cast<i64>(batch) * args.hk + kv_head) * args.chunks + chunk;
    const char* source = static_cast<const char*>(args.state) + matrix * (State::L.rows * (accumulators * 2) * 2);
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < State::L.stage_count; ++stage, ++turn) {
      barrier_wait(empty(turn), phase_of(turn) ^ 1);
      if (loader() == 0) {
        barrier_arrive_expect(full(turn), State::L.stage_bytes);
        bulk_copy(slot(turn), source, State::L.stage_bytes, full(turn));
      } else {
        barrier_arrive(full(turn));
      }
      source += State::L.stage_bytes;
    }
  }
  PHITUNE_DEVICE static void pass_state(int& turn) {
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < State::L.stage_count; ++stage, ++turn) {
      barrier_wait(empty(turn), phase_of(turn) ^ 1);
      barrier_arrive(full(turn));
    }
  }

  PHITUNE_DEVICE void copy_tiles(int& turn) const {
    const u16* k = static_cast<const u16*>(args.k) + batch * args.k_strides.b + kv_head * args.k_strides.h + start * args.k_strides.t;
    const u16* v = static_cast<const u16*>(args.v) + batch * args.v_strides.b + kv_head * args.v_strides.h + start * args.v_strides.t;
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile, ++turn) {
      barrier_wait(empty(turn), phase_of(turn) ^ 1);
      Tiles::copy(slot(turn), loader(), k, args.k_strides.t, v, args.v_strides.t, length - tile * keys);
      barrier_arrive_after_copies(full(turn));
      k += keys * args.k_strides.t;
      v += keys * args.v_strides.t;
    }
  }
  /// What belongs to the keys beside their copies.
  PHITUNE_DEVICE void mark_tiles(int& turn) const {
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile, ++turn) {
      if constexpr (C.gated) cp_async_wait<gates_ahead - 1>();
      barrier_wait(empty(turn), phase_of(turn) ^ 1);
      if constexpr (C.gated) Tiles::store_gate(slot(turn), marked_key(), split || tile < whole, reference, *own_gate(tile));
      if constexpr (C.sum && !Tiles::L.shared_ones) Tiles::store_one(slot(turn) + Tiles::L.ones_at, marked_key());
      barrier_arrive(full(turn));
      if constexpr (C.gated) load_gate(tile + gates_ahead);
    }
  }

  // ---- the warpgroups that multiply ----

  PHITUNE_DEVICE static int row_group() { return warp() / 4 % L.row_groups; }
  PHITUNE_DEVICE static int key_group() { return warp() / 4 / L.row_groups; }

  /// The ring from turn `base` on, as one key group sees it: every key_groups-th slot is its own. Stages of the state belong to all.
  struct Ring {
    int base, group;
    PHITUNE_DEVICE int turn(int i) const { return base + tile_of(i); }
    PHITUNE_DEVICE int tile_of(int i) const { return i * C.key_groups + group; }
    /// How many of the first `tiles` tiles are its own.
    PHITUNE_DEVICE int count(int tiles) const { return (tiles - group + C.key_groups - 1) / C.key_groups; }
    PHITUNE_DEVICE const char* stage(int i) const { return slot(turn(i)); }
    PHITUNE_DEVICE static const char* ones() { return Attention::ones(); }
    // (A phase has only its parity. A group that waits for a slot that others had in between knows all the same that they had it: the
    // loading threads fill slots in order, and this group has seen a later one full, or the queries of a later work.)
    PHITUNE_DEVICE void wait(int i) const { barrier_wait(full(turn(i)), phase_of(turn(i))); }
    PHITUNE_DEVICE void release(int i) const {
      barrier_arrive_warp(empty(turn(i)));
    }
  };
  using Accumulators = float[C.m_tiles][accumulators];  // of the rows of a thread, two in each query tile and 8 apart

  PHITUNE_DEVICE static void scale(float (&acc)[accumulators], const float (&factor)[2]) {
    PHITUNE_UNROLL
    for (int i = 0; i < accumulators; ++i) acc[i] *= factor[i % 4 / 2];
    settle(acc);
  }

  /// First row in the block of the warp's part of query tile `m`, and the row of the thread's half `h`. Not by warp(), which is a
  /// collective.
  PHITUNE_DEVICE static int warp_row(int m) {
    return thread_index() / 128 % L.row_groups * warpgroup_rows + m * 64 + thread_index() / 32 % 4 * 16;
  }
  PHITUNE_DEVICE static int row_of(int m, int h) { return warp_row(m) + lane() / 4 + 8 * h; }

  PHITUNE_DEVICE static void load_fragments(typename Tiles::Queries& q, const char* query_tile, int m) {
    const char* const from = query_tile + (warp_row(m) + (lane() & 15)) * L.query_stride + (lane() >> 4) * 16;
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
  /// How many tiles of keys concern the first query tile of this warpgroup; the last has m_tiles - 1 more. None when its rows are none.
  PHITUNE_DEVICE int own_tiles() const {
    const int own_first = first + row_group() * warpgroup_rows;
    return own_first < length ? own_first / keys + 1 : 1 - C.m_tiles;
  }

  /// Tiles [begin, end) of the first query tile, and up to end + m_tiles - 1 of the last.
  template <class Weigh>
  PHITUNE_DEVICE static void walk_in_turn(Accumulators& acc, const char* query_tile, int begin, int end, const Ring& ring, const Weigh& weigh) {
    const auto read = [&](typename Tiles::Queries& q, int m) { load_fragments(q, query_tile, m); };
    Tiles::template walk_in_turn<0>(acc, read, begin, end, ring, weigh);
    if constexpr (C.m_tiles > 1) Tiles::template walk_in_turn<C.m_tiles - 1>(acc, read, end, end + C.m_tiles - 1, ring, weigh);
  }

  /// The keys up to the diagonal.
  PHITUNE_DEVICE void attend(Accumulators& acc, const char* query_tile, int own, const Ring& ring) const {
    const auto read = [&](typename Tiles::Queries& q, int m) { load_fragments(q, query_tile, m); };
    u32 row[1] = {static_cast<u32>(first + row_of(0, 0))};
    settle(row);  // (one register instead of two for each query tile)
    const auto from = [&](int tile, int m) { return ring.tile_of(tile) * keys - static_cast<int>(row[0]) - m * 64; };
    const auto before = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int) {
      Tiles::template weigh_split<false>(w, s, ring.stage(tile), 0);
    };
    const auto diagonal = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int m) {
      Tiles::template weigh_split<true>(w, s, ring.stage(tile), from(tile, m));
    };
    if (split) {
      Tiles::template walk<C.score_sets, C.held_queries>(acc, read, ring.count(own), ring, before, diagonal);
      if constexpr (C.gated && !C.normalised()) {
        PHITUNE_UNROLL
        for (int m = 0; m < C.m_tiles; ++m) scale(acc[m], {gate_weight(row_gate(m, 0), reference), gate_weight(row_gate(m, 1), reference)});
      }
      return;
    }
    F2 gates[C.m_tiles][2];
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) gates[m][0] = row_gate(m, 0), gates[m][1] = row_gate(m, 1);
    Tiles::template walk_in_turn<0>(acc, read, 0, ring.count(whole), ring, before);
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) scale(acc[m], {gate_weight(gates[m][0], reference), gate_weight(gates[m][1], reference)});
    const auto exactly = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int m) {
      Tiles::weigh_exactly(w, s, ring.stage(tile), from(tile, m), gates[m]);
    };
    walk_in_turn(acc, query_tile, ring.count(whole), ring.count(own), ring, exactly);
  }

  /// All sums, unless this is a key group that has left its own for the first. False in that case.
  PHITUNE_DEVICE bool multiply(Accumulators& acc, int& turn, int query_turn) {
    barrier_wait(queries_full(query_turn), query_turn / C.query_tiles & 1);
    set_reference(C.gated ? row_gates(query_turn)[0] : F2{}, C.gated ? row_gates(query_turn)[1] : F2{});
    const char* const query_tile = queries(query_turn);
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) set_zero(acc[m]);
    if constexpr (C.state.added) add_state(acc, query_tile, turn);
    const int own = own_tiles();
    const Ring ring{turn, key_group()};
    if (own > 0) attend(acc, query_tile, own, ring);
    barrier_arrive_warp(queries_empty(query_turn));
    // Tiles past a warpgroup's own rows have nothing for it. (Released once they have come: earlier, the barrier would take it for the tile
    // before in the same slot.)
    for (int tile = ring.count(own + C.m_tiles - 1); tile < ring.count(tiles); ++tile) {
      ring.wait(tile);
      ring.release(tile);
    }
    turn += tiles;
    if constexpr (C.key_groups > 1)
      return gather_parts(acc[0], query_turn);
    else
      return true;
  }

  PHITUNE_DEVICE void add_state(Accumulators& acc, const char* query_tile, int& turn) const {
    if (!multiplies) return;
    const char* const own_row = query_tile + (State::warp_row() + lane() / 4) * L.query_stride;
    // Formed before: the gate comes from memory.
    float factor[1] = {gate_weight(reference) / Tiles::power(args.scale)};
    settle(factor);
    State::multiply(acc, own_row, table(), Ring{turn, 0});
    turn += State::L.stage_count;
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) scale(acc[m], {factor[0], factor[0]});
  }

  /// The first key group adds what the others leave in shared memory.
  PHITUNE_DEVICE static bool gather_parts(float (&acc)[accumulators], int work) {
    float* const own = reinterpret_cast<float*>(shared_memory() + L.parts_at) + row_group() * 128 * accumulators + thread_index() % 128;
    constexpr int part = L.part_bytes / 4;
    if (key_group() > 0) {
      barrier_wait(parts_empty(), (work & 1) ^ 1);
      PHITUNE_UNROLL
      for (int i = 0; i < accumulators; ++i) own[(key_group() - 1) * part + i * 128] = acc[i];
      barrier_arrive(parts_full());
      return false;
    }
    barrier_wait(parts_full(), work & 1);
    PHITUNE_UNROLL
    for (int group = 0; group < C.key_groups - 1; ++group) {
      PHITUNE_UNROLL
      for (int i = 0; i < accumulators; ++i) acc[i] += own[group * part + i * 128];
    }
    barrier_arrive(parts_empty());
    return true;
  }

  // ---- results ----

  PHITUNE_DEVICE void write(Accumulators& acc) const {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) write(acc[m], m);
  }

  /// Applies scale^p or the normalisation, and writes.
  PHITUNE_DEVICE void write(float (&acc)[accumulators], int m) const {
    float factor[2] = {Tiles::power(args.scale), Tiles::power(args.scale)}, sum[2] = {};
    if constexpr (C.sum) {
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        // The sum is spread over the columns that hold the terms of z.
        sum[h] = acc[accumulators - 4 + 2 * h] + acc[accumulators - 4 + 2 * h + 1];
        sum[h] += shuffle_xor(sum[h], 1);
        sum[h] += shuffle_xor(sum[h], 2);
        if constexpr (C.normalised()) {
          // The reciprocal of a very small sum would overflow: lift both sides first.
          const float lift = sum[h] < 0x1p-100f ? 0x1p100f : 1.0f;
          PHITUNE_UNROLL
          for (int i = 0; i < C.e / 2; ++i) {
            if (i % 4 / 2 == h) acc[i] *= lift;
          }
          factor[h] = sum[h] == 0.0f ? 0.0f : 1.0f / (sum[h] * lift);
        }
      }
    }
    const i64 head_row = (static_cast<i64>(batch) * args.hq + head) * args.t + start;
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = first + row_of(m, h);
      const bool valid = row < length;
      char* to;
      if constexpr (C.complete)
        to = static_cast<char*>(args.y) + (batch * args.y_strides.b + (start + row) * args.y_strides.t + head * args.y_strides.h) * 2;
      else
        to = static_cast<char*>(args.partial) + (head_row + row) * (C.e * storage_bytes(C.output));
      write_row(to, acc, h, factor[h], valid);
      if constexpr (C.sum && !C.complete) {
        if (lane() % 4 == 0 && valid) args.row_sum[head_row + row] = sum[h] * factor[h];
      }
    }
  }

  PHITUNE_DEVICE static void write_row(char* to, const float (&acc)[accumulators], int h, float factor, bool valid) {
    const int t = lane() % 4;
    if constexpr (C.output == Storage::bf16 && C.e % 32 == 0) {
      // Four neighbouring lanes exchange pairs, so that each writes 16 bytes.
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; n += 4) {
        u32 x[4];
        PHITUNE_UNROLL
        for (int i = 0; i < 4; ++i) x[i] = pack_bf16x2(acc[4 * (n + i) + 2 * h] * factor, acc[4 * (n + i) + 2 * h + 1] * factor);
        transpose_quad(x);
        if (valid) *reinterpret_cast<U4*>(to + (n + t) * 16) = U4{x[0], x[1], x[2], x[3]};
      }
    } else {
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; ++n) {
        if (valid)
          store_pair<C.output>(to + (n * 8 + 2 * t) * storage_bytes(C.output), acc[4 * n + 2 * h] * factor, acc[4 * n + 2 * h + 1] * factor);
      }
    }
  }
};

/// Launch: attention_layout(C) threads and shared bytes; x = any number of blocks, which share the works.
template <AttentionConfig C>
PHITUNE_DEVICE void attention(const Args& args) {
  using Kernel = Attention<C>;
  Kernel kernel(args);
  Kernel::open();
  wait_for_earlier_kernels();
  const int works = kernel.works();
  int turn = 0, query_turn = 0;
  if (warp() >= Kernel::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    if (Kernel::copies()) {
      PHITUNE_NO_UNROLL
      for (int work = block_index_x(); work < works; work += grid_size_x()) {
        if (!kernel.set_work(work)) continue;
        kernel.load_queries(query_turn++);
        if constexpr (C.state.added) {
          if (kernel.multiplies) kernel.copy_state(turn);
        }
        kernel.copy_tiles(turn);
      }
    } else {
      PHITUNE_NO_UNROLL
      for (int work = block_index_x(); work < works; work += grid_size_x()) {
        if (!kernel.set_work(work)) continue;
        F2 reference_gate{}, last_gate{};
        if constexpr (C.gated) {
          reference_gate = *kernel.reference_gate(), last_gate = kernel.chunk_gates()[kernel.last_row()];
          kernel.load_first_gates();
        }
        kernel.load_queries(query_turn++);
        if constexpr (Kernel::markers > 0) {
          if constexpr (C.state.added) {
            if (kernel.multiplies) kernel.pass_state(turn);
          }
          // Not before: that waits for them.
          kernel.set_reference(reference_gate, last_gate);
          kernel.mark_tiles(turn);
        }
      }
    }
    // Copies must not land in the memory of the next block.
    cp_async_commit();
    cp_async_wait<0>();
  } else {
    registers_increase<C.consumer_registers>();
    PHITUNE_NO_UNROLL
    for (int work = block_index_x(); work < works; work += grid_size_x()) {
      if (!kernel.set_work(work)) continue;
      typename Kernel::Accumulators acc;
      if (kernel.multiply(acc, turn, query_turn++)) kernel.write(acc);
    }
  }
}

}  // namespace phitune::sm90
