// The warpgroup of the Hopper attention kernel (attention.cuh) that loads, for all works of its block: queries, then the stages of the
// state by bulk copies and the tiles of keys by cp.async, all through one ring; without keys, what `attention` left of the rows.
#pragma once

#include "kernel_templates/sm90/attention_block.cuh"

namespace phitune::sm90 {

template <AttentionConfig C>
struct AttentionLoader {
  using Block = AttentionBlock<C>;
  using State = typename Block::State;
  using Tiles = typename Block::Tiles;
  static constexpr AttentionLayout L = Block::L;
  static constexpr int keys = Block::keys;

  Block at;
  int turn = 0, query_turn = 0;  // of the ring, and of the works

  PHITUNE_DEVICE explicit AttentionLoader(const Args& args) : at(args) {}

  template <class Deal>
  PHITUNE_DEVICE void load_works() {
    if (copies()) {
      at.template each_work<Deal>([this] {
        load_queries();
        if constexpr (C.state.added) {
          if (at.multiplies) copy_state();
        }
        if constexpr (C.keys) copy_tiles();
        ++query_turn;
      });
    } else {
      at.template each_work<Deal>([this] {
        if constexpr (C.keys) {
          load_marks();
        } else {
          load_queries();
          load_partials();
        }
        ++query_turn;
      });
    }
    // Copies must not land in the memory of the next block.
    cp_async_commit();
    cp_async_wait<0>();
  }

 private:
  PHITUNE_DEVICE static int loader() { return thread_index() % 128; }
  PHITUNE_DEVICE static bool copies() { return warp() % 4 < Block::copiers / 32; }
  PHITUNE_DEVICE static int marker() { return loader() - Block::copiers; }

  // ---- the work's rows ----

  /// Starts copying the rows, 16 * Vectors bytes each, by `Threads` threads; `thread` is this one. Rows that do not exist become zeros.
  template <int Vectors, int Threads>
  PHITUNE_DEVICE void copy_rows(char* target, int target_stride, const char* source, i64 stride, int thread) const {
    constexpr int rows_at_once = Threads / Vectors;
    const int own_row = thread / Vectors, column = thread % Vectors;
    const char* from = source + own_row * stride + column * 16;
    target += own_row * target_stride + column * 16;
    // (Unrolled, the addresses would take more registers than the loading threads have.)
    PHITUNE_NO_UNROLL
    for (int row = at.first + own_row; row < at.first + L.block_rows; row += rows_at_once) {
      cp_async_16(target, row < at.length ? from : source, row < at.length);
      from += rows_at_once * stride;
      target += rows_at_once * target_stride;
    }
  }

  /// Starts copying the queries, and the gates at the rows' ends. By the whole warpgroup.
  PHITUNE_DEVICE void load_queries() const {
    const u32 thread = anew(loader());
    const Strides& s = at.args.q_strides;
    const char* const source = static_cast<const char*>(at.args.q) + (at.batch * s.b + at.head * s.h + (at.start + at.first) * s.t) * 2;
    barrier_wait(Block::queries_empty(query_turn), (query_turn / C.query_tiles & 1) ^ 1);
    copy_rows<C.d / 8, 128>(Block::queries(query_turn), L.query_stride, source, s.t * 2, thread);
    if constexpr (C.keys && C.gated) {
      if (thread < 2) copy_gate(Block::row_gates(query_turn) + thread, thread == 0 ? at.reference_gate() : at.chunk_gates() + at.last_row());
    }
    barrier_arrive_after_copies(Block::queries_full(query_turn));
  }

  PHITUNE_DEVICE static void copy_gate(F2* target, const F2* source) {
    cp_async_4(&target->x, &source->x, true);
    cp_async_4(&target->y, &source->y, true);
  }

  /// Starts copying what `attention` left of the rows, once that of the work before has been added: a product's time before it is needed.
  /// By the half that does not copy the state, so that it need not wait for the ring. (Terms of rows that do not exist are left as they
  /// are: what comes of them is not written.)
  PHITUNE_DEVICE void load_partials() const {
    constexpr int row_bytes = C.e * storage_bytes(C.partial);
    const i64 first_row = at.head_row() + at.first;
    barrier_wait(Block::parts_empty(), (query_turn & 1) ^ 1);
    copy_rows<row_bytes / 16, Block::markers>(Block::partials(0), L.partial_stride,
                                              static_cast<const char*>(at.args.partial) + first_row * row_bytes, row_bytes, marker());
    PHITUNE_NO_UNROLL
    for (int row = marker(); row < L.block_rows && at.first + row < at.length; row += Block::markers) {
      typename Block::RowTerms* const terms = Block::row_terms(row);
      if constexpr (C.gated) copy_gate(&terms->gate, at.chunk_gates() + at.first + row);
      if constexpr (C.sum) cp_async_4(&terms->sum, at.args.row_sum + first_row + row, true);
    }
    barrier_arrive_after_copies(Block::parts_full());
  }

  // ---- the ring: all threads wait for each slot and arrive at it, so that none falls a phase behind or runs one ahead ----

  PHITUNE_DEVICE void copy_state() {
    copy_stages<State::L.stage_count, State::L.stage_bytes>(static_cast<const char*>(at.args.state) + matrix() * (State::L.rows * C.state_columns() * 2));
    if constexpr (C.denominators()) {
      using Z = typename Block::Denominators;
      copy_stages<Z::stages, Z::L.stage_bytes>(static_cast<const char*>(at.args.state_z) + matrix() * (C.d * C.d * 4));
    }
  }
  /// Number of the state before the chunk.
  PHITUNE_DEVICE i64 matrix() const { return anew((at.batch * at.args.hk + at.kv_head) * at.args.chunks + at.chunk); }
  template <int Count, int Bytes>
  PHITUNE_DEVICE void copy_stages(const char* source) {
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < Count; ++stage, ++turn) {
      barrier_wait(Block::empty(turn), Block::phase_of(turn) ^ 1);
      if (loader() == 0) {
        barrier_arrive_expect(Block::full(turn), Bytes);
        bulk_copy(Block::slot(turn), source, Bytes, Block::full(turn));
      } else {
        barrier_arrive(Block::full(turn));
      }
      source += Bytes;
    }
  }
  PHITUNE_DEVICE void pass_state() {
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < Block::state_stages(); ++stage, ++turn) {
      barrier_wait(Block::empty(turn), Block::phase_of(turn) ^ 1);
      barrier_arrive(Block::full(turn));
    }
  }

  PHITUNE_DEVICE void copy_tiles() {
    const Args& args = at.args;
    const u16* k =
        static_cast<const u16*>(args.k) + at.batch * args.k_strides.b + at.kv_head * args.k_strides.h + at.start * args.k_strides.t;
    const u16* v =
        static_cast<const u16*>(args.v) + at.batch * args.v_strides.b + at.kv_head * args.v_strides.h + at.start * args.v_strides.t;
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < at.tiles; ++tile, ++turn) {
      barrier_wait(Block::empty(turn), Block::phase_of(turn) ^ 1);
      Tiles::copy(Block::slot(turn), loader(), k, args.k_strides.t, v, args.v_strides.t, at.length - tile * keys);
      barrier_arrive_after_copies(Block::full(turn));
      k += keys * args.k_strides.t;
      v += keys * args.v_strides.t;
    }
  }

  // Gates lie in a ring of their own until they are needed, each read by the thread that has copied it.
  PHITUNE_DEVICE static F2* own_gate(int tile) {
    return reinterpret_cast<F2*>(shared_memory() + L.gates_at) + tile % gates_ahead * keys + marker();
  }
  /// Starts copying the thread's gate of a tile: always a group of copies, so that groups can be counted.
  PHITUNE_DEVICE void load_gate(int tile) const {
    if (tile < at.tiles) {
      const int key = tile * keys + marker();
      copy_gate(own_gate(tile), at.chunk_gates() + (key < at.length ? key : at.length - 1));
    }
    cp_async_commit();
  }
  PHITUNE_DEVICE void load_first_gates() const {
    PHITUNE_UNROLL
    for (int tile = 0; tile < gates_ahead; ++tile) load_gate(tile);
  }

  /// What belongs to the keys beside their copies, and this half's share of the queries.
  PHITUNE_DEVICE void load_marks() {
    F2 reference_gate{}, last_gate{};
    if constexpr (C.gated) {
      reference_gate = *at.reference_gate(), last_gate = at.chunk_gates()[at.last_row()];
      load_first_gates();
    }
    load_queries();
    if constexpr (Block::marked) {
      if constexpr (C.state.added) {
        if (at.multiplies) pass_state();
      }
      // Not before: that waits for them.
      at.set_reference(reference_gate, last_gate);
      mark_tiles();
    }
  }
  PHITUNE_DEVICE void mark_tiles() {
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < at.tiles; ++tile, ++turn) {
      if constexpr (C.gated) cp_async_wait<gates_ahead - 1>();
      barrier_wait(Block::empty(turn), Block::phase_of(turn) ^ 1);
      if constexpr (C.gated) Tiles::store_gate(Block::slot(turn), marker(), at.split || tile < at.whole, at.reference, *own_gate(tile));
      if constexpr (C.sum && !Tiles::L.shared_ones) Tiles::store_one(Block::slot(turn) + Tiles::L.ones_at, marker());
      barrier_arrive(Block::full(turn));
      if constexpr (C.gated) load_gate(tile + gates_ahead);
    }
  }
};

}  // namespace phitune::sm90
