// The warpgroup that loads, of the Hopper attention kernel in fp16 (half_attention.cuh): queries and their tiles' largest exponent, and weighed
// tiles of keys, a bulk copy each.
#pragma once

#include "kernel_templates/sm90/half_attention_block.cuh"

namespace phitune::sm90 {

template <HalfAttentionConfig C>
struct HalfLoader {
  using Block = HalfBlock<C>;
  static constexpr HalfAttentionLayout L = Block::L;
  Block at;
  int turn = 0;  // of the ring

  PHITUNE_DEVICE explicit HalfLoader(const Args& args) : at(args) {}

  template <class Deal>
  PHITUNE_DEVICE void load_works() {
    at.template each_work<Deal>([this](int query_turn) {
      load_queries(query_turn);
      if (warp() % 4 == 0) load_tiles();
    });
    cp_async_commit();
    cp_async_wait<0>();
  }

 private:
  PHITUNE_DEVICE void load_queries(int query_turn) const {
    constexpr int pieces = C.d / 8, rows_at_once = 128 / pieces;
    const int thread = thread_index() % 128, own_row = thread / pieces, piece = thread % pieces;
    const Strides& s = at.args.q_strides;
    const u16* const source = static_cast<const u16*>(at.args.q) + at.batch * s.b + at.head * s.h + piece * 8;
    barrier_wait(Block::queries_empty(query_turn), (query_turn / C.query_tiles & 1) ^ 1);
    char* const target = Block::queries(query_turn) + piece * 16;
    PHITUNE_NO_UNROLL
    for (int row = own_row; row < L.block_rows; row += rows_at_once) {
      const bool exists = at.first + row < at.args.t;
      cp_async_16(target + row * L.query_stride, source + (exists ? at.first + row : 0) * s.t, exists);
    }
    barrier_arrive_after_copies(Block::queries_full(query_turn));
    if (query_turn == 0) {
      // All tiles are weighed, from here on.
      wait_for_counts(at.args.progress, 1, grid_size_x());
      fence_async();
    }
    const int* const exponents = Block::Weigher::exponents(at.args, at.key_head());
    int most = no_exponent;
    PHITUNE_NO_UNROLL
    for (int tile = thread; tile < at.tiles; tile += 128) {
      const int exponent = exponents[tile];
      most = most > exponent ? most : exponent;
    }
    PHITUNE_UNROLL
    for (int step = 1; step < 32; step *= 2) {
      const int other = static_cast<int>(shuffle_xor(static_cast<u32>(most), step));
      most = most > other ? most : other;
    }
    if (lane() == 0) {
      Block::references(query_turn)[thread / 32] = most;
      barrier_arrive(Block::queries_full(query_turn));
    }
  }

  PHITUNE_DEVICE void load_tiles() {
    const char* source = Block::Weigher::tile_at(at.args, at.key_head(), 0);
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < at.tiles; ++tile, ++turn) {
      if (lane() == 0) {
        barrier_wait(Block::empty(turn), Block::phase_of(turn) ^ 1);
        barrier_arrive_expect(Block::full(turn), Block::T.bytes);
        bulk_copy(Block::slot(turn), source, Block::T.bytes, Block::full(turn));
      }
      source += Block::T.bytes;
    }
    warp_barrier();
  }
};

}  // namespace phitune::sm90
