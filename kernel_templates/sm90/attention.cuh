// The quadratic form on Hopper and the state before the chunk:
//   sum_j w_ij v_j + exp(G_i) phi(q_i) S    over the keys j <= i of the chunk, w_ij = (q_i.k_j)^p exp(G_i - G_j),
// divided by the same sum of weights and of phi(q_i) z, in normal space: no running maximum, no logarithm. It is the kernel of three
// stages:
//   attention      the keys alone, inside chunks or over all of t; inside chunks it leaves partial outputs and row sums;
//   query_state    the state, and what `attention` left;
//   attend_query   both at once, where nothing but y leaves the block.
//
// A work is 64 query rows per m tile of each warpgroup, of one head and chunk. The accumulators take, in this order:
//   phi(q) S, with the denominator as eight columns more, or q^T Z q in their place;
//   times exp(G_ref), G_ref the gate of the last key before the block's rows (all gates count from the chunk's start);
//   the tiles of keys up to the diagonal, each key weighted with exp(G_ref - G_j), ones beside V adding to the denominator;
//   times exp(G_i - G_ref), row by row, which cancels under normalisation.
// Where gates fall too steeply among the rows, their factors come before those keys, whose weights then have exp(G_i - G_j) each. S
// carries scale^p and the other weights do not, so phi(q) S is divided by it; it cancels under normalisation.
// Without keys there is no G_ref: phi(q) S times exp(G_i), plus the partial outputs, and the row sums in the denominator's columns.
//
// One warpgroup loads: queries, then the stages of S by bulk copies and the tiles of keys by cp.async, all through one ring; partial
// outputs while S is multiplied. Blocks are persistent: loading goes on through the ends of works. Where there are few works, several
// groups of warpgroups share out the keys of the same rows; sums of weights are all there is to bring together.
#pragma once

#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/sm90/attention_loader.cuh"

namespace phitune::sm90 {

template <AttentionConfig C>
struct Attention {
  using Block = AttentionBlock<C>;
  using State = typename Block::State;
  using Tiles = typename Block::Tiles;
  static constexpr AttentionLayout L = Block::L;
  static constexpr int keys = Block::keys, warpgroup_rows = Block::warpgroup_rows;
  static constexpr int accumulators = L.accumulators;

  Block at;
  int turn = 0, query_turn = 0;  // of the ring, and of the works

  PHITUNE_DEVICE explicit Attention(const Args& args) : at(args) {}

  template <class Deal>
  PHITUNE_DEVICE void multiply_works() {
    at.template each_work<Deal>([this] {
      Accumulators acc;
      if (multiply(acc)) write(acc);
      ++query_turn;
    });
  }

 private:
  PHITUNE_DEVICE static int row_group() { return warp() / 4 % L.row_groups; }
  PHITUNE_DEVICE static int key_group() { return warp() / 4 / L.row_groups; }

  /// The stages of the state, from turn `base` of the ring on. (Only products read them, so a warp's lanes have nothing to tell each other
  /// when it releases one; with a barrier among them ptxas may serialise the products.)
  struct Stages {
    int base;
    PHITUNE_DEVICE const char* stage(int i) const { return Block::slot(base + i); }
    PHITUNE_DEVICE void wait(int i) const { barrier_wait(Block::full(base + i), Block::phase_of(base + i)); }
    PHITUNE_DEVICE void release(int i) const {
      if (lane() == 0) barrier_arrive(Block::empty(base + i));
    }
  };

  /// The tiles of keys, from turn `base` on, as one key group sees them: every key_groups-th slot is its own.
  struct KeyRing {
    int base, group;
    PHITUNE_DEVICE int turn(int i) const { return base + tile_of(i); }
    PHITUNE_DEVICE int tile_of(int i) const { return i * C.key_groups + group; }
    /// How many of the first `tiles` tiles are its own.
    PHITUNE_DEVICE int count(int tiles) const { return (tiles - group + C.key_groups - 1) / C.key_groups; }
    PHITUNE_DEVICE const char* stage(int i) const { return Block::slot(turn(i)); }
    PHITUNE_DEVICE static const char* ones() { return Block::ones(); }
    // (A phase has only its parity. A group that waits for a slot that others had in between knows all the same that they had it: the
    // loading threads fill slots in order, and this group has seen a later one full, or the queries of a later work.)
    PHITUNE_DEVICE void wait(int i) const { barrier_wait(Block::full(turn(i)), Block::phase_of(turn(i))); }
    PHITUNE_DEVICE void release(int i) const { barrier_arrive_warp(Block::empty(turn(i))); }
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
    const int row = at.first + row_of(m, h);
    return at.chunk_gates()[row < at.length ? row : at.length - 1];
  }

  static_assert(C.m_tiles <= 2, "query tiles between the first and the last would see keys after them");
  /// How many tiles of keys concern the first query tile of this warpgroup; the last has m_tiles - 1 more. None when its rows are none.
  PHITUNE_DEVICE int own_tiles() const {
    const int own_first = at.first + row_group() * warpgroup_rows;
    return own_first < at.length ? own_first / keys + 1 : 1 - C.m_tiles;
  }

  /// Tiles [begin, end) of the first query tile, and up to end + m_tiles - 1 of the last.
  template <class Weigh>
  PHITUNE_DEVICE static void walk_in_turn(Accumulators& acc, const char* query_tile, int begin, int end, const KeyRing& ring,
                                          const Weigh& weigh) {
    const auto read = [&](typename Tiles::Queries& q, int m) { load_fragments(q, query_tile, m); };
    Tiles::template walk_in_turn<0>(acc, read, begin, end, ring, weigh);
    if constexpr (C.m_tiles > 1) Tiles::template walk_in_turn<C.m_tiles - 1>(acc, read, end, end + C.m_tiles - 1, ring, weigh);
  }

  /// The keys up to the diagonal.
  PHITUNE_DEVICE void attend(Accumulators& acc, const char* query_tile, int own, const KeyRing& ring) const {
    const auto read = [&](typename Tiles::Queries& q, int m) { load_fragments(q, query_tile, m); };
    const int row = static_cast<int>(anew(at.first + row_of(0, 0)));  // (one register instead of two for each query tile)
    const auto from = [&](int tile, int m) { return ring.tile_of(tile) * keys - row - m * 64; };
    const auto before = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int) {
      Tiles::template weigh_split<false>(w, s, ring.stage(tile), 0);
    };
    const auto diagonal = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int m) {
      Tiles::template weigh_split<true>(w, s, ring.stage(tile), from(tile, m));
    };
    if (at.split) {
      Tiles::template walk<C.score_sets, C.held_queries>(acc, read, ring.count(own), ring, before, diagonal);
      if constexpr (C.gated && !C.normalised()) {
        PHITUNE_UNROLL
        for (int m = 0; m < C.m_tiles; ++m)
          scale(acc[m], {gate_weight(row_gate(m, 0), at.reference), gate_weight(row_gate(m, 1), at.reference)});
      }
      return;
    }
    F2 gates[C.m_tiles][2];
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) gates[m][0] = row_gate(m, 0), gates[m][1] = row_gate(m, 1);
    Tiles::template walk_in_turn<0>(acc, read, 0, ring.count(at.whole), ring, before);
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) scale(acc[m], {gate_weight(gates[m][0], at.reference), gate_weight(gates[m][1], at.reference)});
    const auto exactly = [&](typename Tiles::Weights& w, const typename Tiles::Scores& s, int tile, int m) {
      Tiles::weigh_exactly(w, s, ring.stage(tile), from(tile, m), gates[m]);
    };
    walk_in_turn(acc, query_tile, ring.count(at.whole), ring.count(own), ring, exactly);
  }

  /// All sums, unless this is a key group that has left its own for the first. False in that case.
  PHITUNE_DEVICE bool multiply(Accumulators& acc) {
    barrier_wait(Block::queries_full(query_turn), query_turn / C.query_tiles & 1);
    const char* const query_tile = Block::queries(query_turn);
    if constexpr (C.keys)
      at.set_reference(C.gated ? Block::row_gates(query_turn)[0] : F2{}, C.gated ? Block::row_gates(query_turn)[1] : F2{});
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) set_zero(acc[m]);
    if constexpr (C.state.added) add_state(acc, query_tile);
    if constexpr (C.keys) add_keys(acc, query_tile);
    barrier_arrive_warp(Block::queries_empty(query_turn));
    if constexpr (!C.keys) add_partials(acc);
    if constexpr (C.key_groups > 1)
      return gather_parts(acc[0]);
    else
      return true;
  }

  PHITUNE_DEVICE void add_state(Accumulators& acc, const char* query_tile) {
    if (!at.multiplies) return;
    const char* const own_row = query_tile + (State::warp_row() + lane() / 4) * L.query_stride;
    // Formed before: the gate comes from memory.
    float factor[1] = {C.keys ? gate_weight(at.reference) / Tiles::power(at.args.scale) : 1.0f};
    settle(factor);
    multiply_state(acc, query_tile, own_row);
    turn += Block::state_stages();
    if constexpr (C.keys) {
      PHITUNE_UNROLL
      for (int m = 0; m < C.m_tiles; ++m) scale(acc[m], {factor[0], factor[0]});
    }
  }

  /// phi(q) S, and q^T Z q in the first of the denominator's columns that each thread has.
  PHITUNE_DEVICE void multiply_state(Accumulators& acc, const char* query_tile, const char* own_row) const {
    const Stages stages{turn};
    if constexpr (C.denominators()) {
      typename Block::Denominators z;
      const auto read = [&](typename Tiles::Queries& q, int m) { load_fragments(q, query_tile, m); };
      State::template multiply<Block::denominator_stages()>(acc, own_row, Block::table(), stages, [&](int first) { z.start(read, stages, first); });
      typename Block::Denominators::Sums sums;
      z.finish(sums);
      PHITUNE_UNROLL
      for (int m = 0; m < C.m_tiles; ++m) acc[m][accumulators - 4] = sums[m][0], acc[m][accumulators - 2] = sums[m][1];
    } else {
      State::template multiply<0>(acc, own_row, Block::table(), stages, [](int) {});
    }
  }

  PHITUNE_DEVICE void add_keys(Accumulators& acc, const char* query_tile) {
    const int own = own_tiles();
    const KeyRing ring{turn, key_group()};
    if (own > 0) attend(acc, query_tile, own, ring);
    // Tiles past a warpgroup's own rows have nothing for it. (Released once they have come: earlier, the barrier would take it for the tile
    // before in the same slot.)
    for (int tile = ring.count(own + C.m_tiles - 1); tile < ring.count(at.tiles); ++tile) {
      ring.wait(tile);
      ring.release(tile);
    }
    turn += at.tiles;
  }

  /// Instead of keys: acc = exp(G_i) acc, and what `attention` left of the rows.
  PHITUNE_DEVICE void add_partials(Accumulators& acc) const {
    const int t = lane() % 4;
    barrier_wait(Block::parts_full(), query_turn & 1);
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * C.m_tiles; ++i) {
      const int m = i / 2, h = i % 2, row = row_of(m, h);
      const typename Block::RowTerms terms = *Block::row_terms(row);
      const float factor = C.gated ? gate_weight(terms.gate) : 1.0f;
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; ++n) {
        const F2 partial = load_pair<C.partial>(Block::partials(row) + (n * 8 + 2 * t) * storage_bytes(C.partial));
        float* const pair = acc[m] + 4 * n + 2 * h;
        pair[0] = factor * pair[0] + partial.x, pair[1] = factor * pair[1] + partial.y;
      }
      if constexpr (C.sum) {
        // (The denominator is spread over the quad's columns: one of them takes the row's sum.)
        float* const pair = acc[m] + accumulators - 4 + 2 * h;
        pair[0] = factor * pair[0] + (t == 0 ? terms.sum : 0.0f), pair[1] *= factor;
      }
    }
    barrier_arrive_warp(Block::parts_empty());
  }

  /// The first key group adds what the others leave in shared memory.
  PHITUNE_DEVICE bool gather_parts(float (&acc)[accumulators]) const {
    float* const own = reinterpret_cast<float*>(shared_memory() + L.parts_at) + row_group() * 128 * accumulators + thread_index() % 128;
    constexpr int part = L.part_bytes / 4;
    if (key_group() > 0) {
      barrier_wait(Block::parts_empty(), (query_turn & 1) ^ 1);
      PHITUNE_UNROLL
      for (int i = 0; i < accumulators; ++i) own[(key_group() - 1) * part + i * 128] = acc[i];
      barrier_arrive(Block::parts_full());
      return false;
    }
    barrier_wait(Block::parts_full(), query_turn & 1);
    PHITUNE_UNROLL
    for (int group = 0; group < C.key_groups - 1; ++group) {
      PHITUNE_UNROLL
      for (int i = 0; i < accumulators; ++i) acc[i] += own[group * part + i * 128];
    }
    barrier_arrive(Block::parts_empty());
    return true;
  }

  // ---- results ----

  PHITUNE_DEVICE void write(Accumulators& acc) const {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) write(acc[m], m);
  }

  /// Applies scale^p or the normalisation, and writes.
  PHITUNE_DEVICE void write(float (&acc)[accumulators], int m) const {
    // (States and partial outputs carry scale^p already.)
    const float unit = C.keys ? Tiles::power(at.args.scale) : 1.0f;
    float factor[2] = {unit, unit}, sum[2] = {};
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
    const Args& args = at.args;
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = at.first + row_of(m, h);
      const bool valid = row < at.length;
      char* to;
      if constexpr (C.complete)
        to = static_cast<char*>(args.y) +
             (at.batch * args.y_strides.b + (at.start + row) * args.y_strides.t + at.head * args.y_strides.h) * 2;
      else
        to = static_cast<char*>(args.partial) + (at.head_row() + row) * (C.e * storage_bytes(C.partial));
      write_row(to, acc, h, factor[h], valid);
      if constexpr (C.sum && !C.complete) {
        if (lane() % 4 == 0 && valid) args.row_sum[at.head_row() + row] = sum[h] * factor[h];
      }
    }
  }

  PHITUNE_DEVICE static void write_row(char* to, const float (&acc)[accumulators], int h, float factor, bool valid) {
    const int t = lane() % 4;
    if constexpr (C.output() == Storage::bf16 && C.e % 32 == 0) {
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
          store_pair<C.output()>(to + (n * 8 + 2 * t) * storage_bytes(C.output()), acc[4 * n + 2 * h] * factor,
                                 acc[4 * n + 2 * h + 1] * factor);
      }
    }
  }
};

/// Launch: attention_layout(C) threads and shared bytes; x = any number of blocks, which share the works as Deal says.
template <AttentionConfig C, class Deal = InTurn>
PHITUNE_DEVICE void attention(const Args& args) {
  AttentionBlock<C>::open();
  wait_for_earlier_kernels();
  if (warp() >= AttentionBlock<C>::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    AttentionLoader<C>(args).template load_works<Deal>();
  } else {
    registers_increase<C.consumer_registers>();
    Attention<C>(args).template multiply_works<Deal>();
  }
}

}  // namespace phitune::sm90
