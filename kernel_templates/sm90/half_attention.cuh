// The quadratic form of an even degree on Hopper, in fp16: sum_j w_ij v_j / sum_j w_ij over j <= i, w_ij = (q_i.k_j)^p exp(G_i - G_j).
//
// What bounds `attention` where d is small is the arithmetic of weights: fp32 scores, their power, their gate, a conversion. Here scores come
// packed from the tensor cores, and a weight is p / 2 packed products for two keys; all else is in the values. For that keys and values are
// weighed first (key_weigher.cuh), once for all queries, by all blocks, which then wait for each other: the launch is cooperative.
//
// Queries are divided by powers of two, too, so that a score's power stays below 2^16; that cancels under normalisation, as does
// the reference 2^(p R), with R the largest exponent of all tiles up to the diagonal: for a tile of exponent X queries are multiplied by
// 2^(X - R).
//
// What fp16 loses: weights below 2^-24, digits of those below 2^-14. A key's weight is off by less than 2^-25 of what multiplies it, 2^14 at
// most, so a row whose sum is a quarter or more for each of its keys is right to 2^-9 at worst. Other rows, of which ordinary inputs have a few
// among the first, are done again key by key in fp32 by their warp.
#pragma once

#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/sm90/half_attention_loader.cuh"

namespace phitune::sm90 {

template <HalfAttentionConfig C>
struct HalfAttention {
  using Block = HalfBlock<C>;
  static constexpr HalfAttentionLayout L = Block::L;
  static constexpr HalfTileLayout T = Block::T;
  static constexpr int d_steps = C.d / 16, key_steps = half_keys / 16, m_tiles = 2, columns = T.columns;
  using Queries = u32[d_steps][4];  // A fragments of 16 rows of a warp
  using Scores = u32[half_keys / 4];
  using Weights = u32[key_steps][4];
  using Accumulators = float[m_tiles][columns / 2];

  Block at;
  int turn = 0;  // of the ring

  PHITUNE_DEVICE explicit HalfAttention(const Args& args) : at(args) {}

  template <class Deal>
  PHITUNE_DEVICE void multiply_works() {
    at.template each_work<Deal>([this](int work_turn) {
      Accumulators acc;
      Rows rows;
      PHITUNE_UNROLL
      for (int m = 0; m < m_tiles; ++m) set_zero(acc[m]);
      barrier_wait(Block::queries_full(work_turn), work_turn / C.query_tiles & 1);
      rows.read(Block::queries(work_turn), warp_row());
      const int* const found = Block::references(work_turn);
      rows.reference = largest(largest(found[0], found[1]), largest(found[2], found[3]));
      barrier_arrive_warp(Block::queries_empty(work_turn));
      multiply(acc, rows);
      write(acc, rows);
    });
  }

 private:
  PHITUNE_DEVICE static int largest(int a, int b) { return a > b ? a : b; }
  /// First row in the block of the warp's part of query tile 0, and the row of the thread's half `h` of tile m.
  PHITUNE_DEVICE static int warp_row() { return thread_index() / 128 * half_keys + thread_index() / 32 % 4 * 16; }
  PHITUNE_DEVICE static int row_of(int m, int h) { return warp_row() + m * 64 + lane() / 4 + 8 * h; }

  /// Queries in fp16, of a length below 2^(16 / p), so that powers of scores stay below 2^16. (Where they round to that, the sum is infinite, and
  /// the row done again.)
  struct Rows {
    Queries q[m_tiles];
    bool any[m_tiles][2];  // whether a row is not all zeros
    int reference;

    PHITUNE_DEVICE void read(const char* query_tile, int warp_row) {
      PHITUNE_UNROLL
      for (int m = 0; m < m_tiles; ++m) {
        PHITUNE_UNROLL
        for (int step = 0; step < d_steps; ++step)
          ldmatrix_x4(q[m][step], query_tile + (warp_row + m * 64 + (lane() & 15)) * L.query_stride + step * 32 + (lane() >> 4) * 16);
        PHITUNE_UNROLL
        for (int h = 0; h < 2; ++h) {
          u32 most = 0;
          PHITUNE_UNROLL
          for (int step = 0; step < d_steps; ++step) most = largest_magnitude(largest_magnitude(most, q[m][step][h]), q[m][step][2 + h]);
          PHITUNE_UNROLL
          for (int step = 1; step < 4; step *= 2) {
            const u32 other = shuffle_xor(most, step);
            most = most > other ? most : other;
          }
          any[m][h] = most != 0;
          RowScale scale(most);
          float squares = 0.0f;
          PHITUNE_UNROLL
          for (int step = 0; step < d_steps; ++step) squares += squares_of(q[m][step][h], scale.factor) + squares_of(q[m][step][2 + h], scale.factor);
          PHITUNE_UNROLL
          for (int step = 1; step < 4; step *= 2) squares += shuffle_xor(squares, step);
          if (most != 0) scale.shorten(squares);
          const float factor = most != 0 ? scale.factor * static_cast<float>(1 << 16 / C.p) : 0.0f;
          PHITUNE_UNROLL
          for (int step = 0; step < d_steps; ++step) {
            q[m][step][h] = scaled_pair(q[m][step][h], factor);
            q[m][step][2 + h] = scaled_pair(q[m][step][2 + h], factor);
          }
        }
      }
    }
  };

  // The weights of a step are formed while the product of the step before with V is in flight; then the next scores are started.
  struct Flight {
    Scores scores;
    Queries q;  // of the scores in flight
    Weights weights[2];
  };
  /// A tile of keys in the ring.
  struct Tile {
    SharedMatrix keys;
    u32 factor;  // 2^(X - R), in fp16 twice; too small for that, nothing
  };

  PHITUNE_DEVICE void multiply(Accumulators& acc, const Rows& rows) {
    const int own_first = at.first + thread_index() / 128 * half_keys, own = own_first < at.args.t ? own_first / half_keys + 1 : 0;
    const int end = turn + at.tiles;
    if (own > 0) {
      Flight flight;
      wait_for(turn);
      Tile tile = tile_of(turn, rows);
      start<0>(flight, rows, tile);
      wgmma_wait<0>();
      settle(flight.scores);
      const int last = turn + own - 1;
      bool first = true;  // tile, behind no other
      PHITUNE_UNROLL_TWICE
      for (; turn < last; ++turn) {
        tile.keys = tile.keys.in_all_lanes();
        first_step<false>(flight, acc, rows, tile, 0, first);
        const Tile next = tile_of(turn + 1, rows);
        second_step(flight, acc, rows, tile, next);
        tile = next, first = false;
      }
      const int from = (own - 1) * half_keys - at.first - row_of(0, 0);
      first_step<true>(flight, acc, rows, tile, from, first);
      weigh<true>(flight.weights[1], flight.scores, from - 64);
      start_values<1>(flight, acc, tile);
      wgmma_wait<0>();
      barrier_arrive_warp(Block::empty(turn++));
      PHITUNE_UNROLL
      for (int m = 0; m < m_tiles; ++m) settle(acc[m]);
    }
    PHITUNE_NO_UNROLL
    for (; turn < end; ++turn) {
      barrier_wait(Block::full(turn), Block::phase_of(turn));
      barrier_arrive_warp(Block::empty(turn));
    }
  }

  PHITUNE_DEVICE static void wait_for(int turn) { barrier_wait(Block::full(turn), Block::phase_of(turn)); }
  PHITUNE_DEVICE static Tile tile_of(int turn, const Rows& rows) {
    const char* const stage = Block::slot(turn);
    const SharedMatrix keys = core_matrices(stage, T.key_step_bytes / 2, 128);
    const int field = *reinterpret_cast<const int*>(stage + T.exponent_at) - rows.reference + 15;
    return {keys, field > 0 ? static_cast<u32>(field) * 0x04000400u : 0};
  }

  /// Starts the scores of query tile M and a tile of keys.
  template <int M>
  PHITUNE_DEVICE static void start(Flight& flight, const Rows& rows, const Tile& tile) {
    PHITUNE_UNROLL
    for (int step = 0; step < d_steps; ++step) {
      PHITUNE_UNROLL
      for (int i = 0; i < 4; ++i) flight.q[step][i] = mul_f16x2(rows.q[M][step][i], tile.factor);
      settle(flight.q[step]);
    }
    wgmma_fence();
    PHITUNE_UNROLL
    for (int step = 0; step < d_steps; ++step)
      wgmma_f16_packed<half_keys>(flight.scores, flight.q[step], tile.keys.at(step * T.key_step_bytes), step > 0);
    wgmma_commit();
  }
  template <int M>
  PHITUNE_DEVICE static void start_values(const Flight& flight, Accumulators& acc, const Tile& tile) {
    const SharedMatrix values = tile.keys.at(T.values_at).k_stride_plus((T.value_step_bytes - T.key_step_bytes) / 2);
    wgmma_fence();
    PHITUNE_UNROLL
    for (int i = 0; i < key_steps; ++i) wgmma_f16<columns>(acc[M], flight.weights[M][i], values.at(i * T.value_step_bytes), true);
    wgmma_commit();
  }
  /// Until the scores are there, and the product of the step before this one is done.
  PHITUNE_DEVICE static void wait_for_scores(Flight& flight) {
    wgmma_wait<1>();
    settle(flight.scores);
  }

  /// A tile and the first query tile; its scores are there.
  template <bool Diagonal>
  PHITUNE_DEVICE void first_step(Flight& flight, Accumulators& acc, const Rows& rows, const Tile& tile, int from, bool first) const {
    weigh<Diagonal>(flight.weights[0], flight.scores, from);
    start<1>(flight, rows, tile);
    // (While those scores are multiplied: this takes longer than its few instructions.)
    if constexpr (!Diagonal) wait_for(turn + 1);
    start_values<0>(flight, acc, tile);
    wait_for_scores(flight);
    warp_barrier();
    if (!first && lane() == 0) barrier_arrive(Block::empty(turn - 1));
  }
  /// The same tile and the second query tile, and the scores of the next tile.
  PHITUNE_DEVICE void second_step(Flight& flight, Accumulators& acc, const Rows& rows, const Tile& tile, const Tile& next) const {
    weigh<false>(flight.weights[1], flight.scores, 0);
    start<0>(flight, rows, next);
    start_values<1>(flight, acc, tile);
    wait_for_scores(flight);
  }

  /// (Scores are read, not overwritten: whatever else writes registers that wgmma accumulates in makes the compiler serialise the products.)
  template <bool Masked>
  PHITUNE_DEVICE static void weigh(Weights& w, const Scores& s, int from) {
    const int first = from + lane() % 4 * 2;
    PHITUNE_UNROLL
    for (int n = 0; n < half_keys / 8; ++n) {
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        u32 weight = mul_f16x2(s[2 * n + h], s[2 * n + h]);
        if constexpr (C.p == 4) weight = mul_f16x2(weight, weight);
        if constexpr (Masked)
          weight = (first + n * 8 - 8 * h <= 0 ? weight & 0xffffu : 0u) | (first + n * 8 - 8 * h < 0 ? weight & 0xffff0000u : 0u);
        w[n / 2][n % 2 * 2 + h] = weight;
      }
    }
    PHITUNE_UNROLL
    for (int i = 0; i < key_steps; ++i) settle(w[i]);
  }

  static constexpr float least_sum = 0.25f;  // of a row, for each of its keys

  PHITUNE_DEVICE void write(const Accumulators& acc, const Rows& rows) const {
    const int t = lane() % 4;
    u32 again = 0;  // bits: the thread's rows that are
    PHITUNE_UNROLL
    for (int i = 0; i < 2 * m_tiles; ++i) {
      const int m = i / 2, h = i % 2, row = at.first + row_of(m, h);
      const float sum = bits_float(shuffle(float_bits(acc[m][columns / 2 - 4 + 2 * h]), lane() & ~3));
      if (row >= at.args.t) continue;
      // (False where the sum is infinite or no number, too.)
      const bool enough = sum >= least_sum * static_cast<float>(row + 1) && sum < 0x1p100f;
      if (rows.any[m][h] && !enough) again |= 1u << i;
      const float factor = enough ? 1.0f / sum : 0.0f;
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; ++n)
        store_pair<Storage::bf16>(result(row) + n * 8 + 2 * t, acc[m][4 * n + 2 * h] * factor, acc[m][4 * n + 2 * h + 1] * factor);
    }
    u32 any = again;
    PHITUNE_UNROLL
    for (int step = 1; step < 32; step *= 2) any |= shuffle_xor(any, step);
    if (any != 0) attend_again(again);
  }
  PHITUNE_DEVICE u16* result(int row) const {
    return static_cast<u16*>(at.args.y) + at.batch * at.args.y_strides.b + row * at.args.y_strides.t + at.head * at.args.y_strides.h;
  }

  /// The rows of a warp whose bits their threads have, one after another.
  PHITUNE_DEVICE void attend_again(u32 rows) const {
    PHITUNE_NO_UNROLL
    for (int i = 0; i < 2 * m_tiles * 8; ++i) {
      if ((shuffle(rows, i % 8 * 4) >> i / 8 & 1) != 0) attend_exactly(at.first + warp_row() + i / 16 * 64 + i / 8 % 2 * 8 + i % 8);
    }
  }

  /// One row by one warp, a key for each lane, from the last on until gates forget.
  PHITUNE_DEVICE void attend_exactly(int row) const {
    const Args& args = at.args;
    const u16* const keys = static_cast<const u16*>(args.k) + at.batch * args.k_strides.b + at.kv_head * args.k_strides.h;
    const u16* const values = static_cast<const u16*>(args.v) + at.batch * args.v_strides.b + at.kv_head * args.v_strides.h;
    const u16* const query = static_cast<const u16*>(args.q) + at.batch * args.q_strides.b + row * args.q_strides.t + at.head * args.q_strides.h;
    const F2* const gates = reinterpret_cast<const F2*>(args.gates) + static_cast<i64>(at.key_head()) * args.t;
    float sums[C.e] = {}, total = 0.0f;
    PHITUNE_NO_UNROLL
    for (int last = row; last >= 0; last -= 32) {
      const int key = last - lane();
      float weight = 0.0f;
      if (key >= 0) {
        float score = 0.0f;
        PHITUNE_NO_UNROLL
        for (int n = 0; n < C.d; n += 2) {
          const u32 q = *reinterpret_cast<const u32*>(query + n), k = *reinterpret_cast<const u32*>(keys + key * args.k_strides.t + n);
          score += low_bf16(q) * low_bf16(k) + high_bf16(q) * high_bf16(k);
        }
        weight = score * score;
        if constexpr (C.p == 4) weight *= weight;
        if constexpr (C.gated) weight *= gate_weight(gates[row], gates[key]);
        total += weight;
        PHITUNE_UNROLL
        for (int n = 0; n < C.e; n += 2) {
          const u32 v = *reinterpret_cast<const u32*>(values + key * args.v_strides.t + n);
          sums[n] += weight * low_bf16(v), sums[n + 1] += weight * high_bf16(v);
        }
      }
      // (Gates never rise again.)
      if (C.gated && last >= 32 && gate_weight(gates[row], gates[last - 32]) == 0.0f) break;
    }
    PHITUNE_UNROLL
    for (int step = 1; step < 32; step *= 2) total += shuffle_xor(total, step);
    // The reciprocal of a very small sum would overflow: lift both sides first.
    const float lift = total < 0x1p-100f ? 0x1p100f : 1.0f, factor = total == 0.0f ? 0.0f : 1.0f / (total * lift);
    float own[2] = {};
    PHITUNE_UNROLL
    for (int n = 0; n < C.e; ++n) {
      PHITUNE_UNROLL
      for (int step = 1; step < 32; step *= 2) sums[n] += shuffle_xor(sums[n], step);
      if (lane() == n / 2) own[n % 2] = sums[n] * lift * factor;
    }
    if (lane() < C.e / 2) store_pair<Storage::bf16>(result(row) + 2 * lane(), own[0], own[1]);
  }
};

/// Launch: half_attention_layout(C) threads and shared bytes, cooperative; x = as many blocks as run at once, which share the works as Deal says.
/// args.progress is zero.
template <HalfAttentionConfig C, class Deal = InTurn>
PHITUNE_DEVICE void half_attention(const Args& args) {
  using Block = HalfBlock<C>;
  Block::open();
  Block::weigh_keys(args);
  if (warp() >= Block::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    HalfLoader<C>(args).template load_works<Deal>();
  } else {
    registers_increase<C.consumer_registers>();
    HalfAttention<C> attention(args);
    attention.template multiply_works<Deal>();
  }
}

}  // namespace phitune::sm90
