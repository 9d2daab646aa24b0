// The quadratic form on Hopper: tiles of 64 keys with their values and gates in shared memory, scores
// Q K^T, weights w_ij = (q_i.k_j)^p exp(G_i - G_j) for j <= i, and their product with V. In normal space: no running maximum, no logarithm.
// scale^p is left to the caller.
//
// Gates are split at G_ref, that of the last key before the rows of the block: a key's factor is exp(G_ref - G_j), and the row's
// exp(G_i - G_ref) is applied once, by the caller, where it does not cancel anyway. For keys among the rows the exponent is positive: rows
// within which gates fall by more than `widest_split` take the other way, G_j in shared memory and exp(G_i - G_j) per element.
#pragma once

#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/tile.cuh"
#include "kernel_templates/sm90/key_tiles_config.cuh"

namespace phitune::sm90 {

template <KeyTilesConfig C>
struct KeyTiles {
  static constexpr KeyTilesLayout L = key_tiles_layout(C);
  static constexpr int keys = tile_keys, d_steps = C.d / 16, key_steps = keys / 16;
  using Queries = u32[d_steps][4];  // A fragments of 16 rows of a warp
  using Scores = float[keys / 2];
  using Weights = u32[key_steps][4];
  using Output = float[L.columns / 2];

  static_assert(C.d % 16 == 0 && C.e % 16 == 0 && (C.e & (C.e - 1)) == 0 && C.p >= 1 && C.p <= 4);

  /// Whether the weights of rows whose gates run from G_ref to `last` may be split: e^40 times a score's power is far from fp32's end.
  PHITUNE_DEVICE static bool may_split(F2 reference, F2 last) {
    constexpr float widest_split = 40.0f;
    return !C.gated || (reference.x - last.x) + (reference.y - last.y) <= widest_split;
  }

  // ---- filling a stage ----

  PHITUNE_DEVICE static constexpr int panel_columns(int width) { return width < 64 ? width : 64; }
  PHITUNE_DEVICE static constexpr int panel_bytes(int width) { return keys * panel_columns(width) * 2; }

  /// By threads 0 to copiers - 1: starts copying a tile whose first `valid` keys exist; the others become zeros. `k` and `v` are its first
  /// key's and value's.
  static constexpr int copiers = 64;
  PHITUNE_DEVICE static void copy(char* stage, int thread, const u16* k, i64 k_stride, const u16* v, i64 v_stride, int valid) {
    copy_rows<C.d>(stage, thread, k, k_stride, valid);
    copy_rows<C.e>(stage + L.values_at, thread, v, v_stride, valid);
  }

  // A thread copies 16 bytes of every `step`-th row; where they lie repeats every 8 rows, but for constants. A warp that loads has few
  // others beside it to hide what an instruction waits for: in a whole tile a copy takes three. (The source is walked along, because
  // addresses computed side by side would take more registers than the loading threads have.)
  template <int Width>
  PHITUNE_DEVICE static void copy_rows(char* target, int thread, const u16* source, i64 stride, int valid) {
    constexpr int chunks = Width / 8, step = copiers / chunks, panel = panel_columns(Width), panel_chunks = panel / 8;
    constexpr int period = step < 8 ? 8 / step : 1;
    const int row = thread / chunks, chunk = thread % chunks;
    target += chunk / panel_chunks * panel_bytes(Width);
    source += chunk * 8;
    const u16* from = source + row * stride;
    if (valid >= keys) {
      char* targets[period];
      PHITUNE_UNROLL
      for (int i = 0; i < period; ++i) targets[i] = target + tile_offset<panel>(row + i * step, chunk % panel_chunks);
      PHITUNE_UNROLL
      for (int i = 0; i < keys / step; ++i) {
        cp_async_16(targets[i % period] + i / period * (period * step * panel * 2), from, true);
        from += step * stride;
      }
      return;
    }
    PHITUNE_NO_UNROLL
    for (int at = row; at < keys; at += step) {
      cp_async_16(target + tile_offset<panel>(at, chunk % panel_chunks), at < valid ? from : source, at < valid);
      from += step * stride;
    }
  }

  /// What belongs to key `key` beside its copies: its gate, as a factor or as it is.
  PHITUNE_DEVICE static void store_gate(char* stage, int key, bool split, F2 reference, F2 gate) {
    if (split)
      reinterpret_cast<float*>(stage + L.gates_at)[key] = gate_weight(reference, gate);
    else
      reinterpret_cast<F2*>(stage + L.gates_at)[key] = gate;
  }

  /// The one of key `key` in the panel at `ones`: where the stage has its own, stage + L.ones_at.
  PHITUNE_DEVICE static void store_one(char* ones, int key) {
    *reinterpret_cast<U4*>(ones + tile_offset<panel_columns(C.e)>(key, 0)) = U4{0x3f80u, 0, 0, 0};
  }

  // ---- products, by a warpgroup of 64 query rows ----

  PHITUNE_DEVICE static void multiply_keys(Scores& s, const Queries& q, const char* stage) {
    constexpr int row = panel_columns(C.d) * 2, panel_steps = panel_columns(C.d) / 16;
    const SharedMatrix k = swizzled_rows_of_k(stage, row);
    PHITUNE_UNROLL
    for (int step = 0; step < d_steps; ++step)
      wgmma_bf16<keys, false>(s, q[step], k.at(step / panel_steps * panel_bytes(C.d) + step % panel_steps * 32), step > 0);
  }
  PHITUNE_DEVICE static void multiply_values(Output& out, const Weights& w, const char* stage, const char* shared_ones) {
    constexpr int row = panel_columns(C.e) * 2;
    const char* const values = stage + L.values_at;
    const SharedMatrix v = swizzled_rows_of_n(values, row, L.shared_ones ? static_cast<int>(shared_ones - values) : panel_bytes(C.e));
    PHITUNE_UNROLL
    for (int step = 0; step < key_steps; ++step) wgmma_bf16<L.columns, true>(out, w[step], v.at(step * 16 * row), true);
  }

  PHITUNE_DEVICE static float power(float x) {
    if constexpr (C.p == 1) return x;
    const float square = x * x;
    if constexpr (C.p == 2) return square;
    return C.p == 3 ? square * x : square * square;
  }

  /// Weights of a tile whose gates are factors. Masked: `from` is the tile's first key less the thread's first row, and keys after a row
  /// have none. (Scores are read, not overwritten: whatever else writes registers that wgmma accumulates in makes the compiler serialise
  /// the products.)
  template <bool Masked>
  PHITUNE_DEVICE static void weigh_split(Weights& w, const Scores& s, const char* stage, int from) {
    const float* const factors = reinterpret_cast<const float*>(stage + L.gates_at) + lane() % 4 * 2;
    const int first = from + lane() % 4 * 2;
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      F2 factor{1.0f, 1.0f};
      if constexpr (C.gated) factor = *reinterpret_cast<const F2*>(factors + n * 8);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        F2 weight{power(s[4 * n + 2 * h]), power(s[4 * n + 2 * h + 1])};
        if constexpr (C.gated) weight.x *= factor.x, weight.y *= factor.y;
        if constexpr (Masked) weight = F2{first + n * 8 - 8 * h <= 0 ? weight.x : 0.0f, first + n * 8 - 8 * h < 0 ? weight.y : 0.0f};
        store(w, n, h, weight);
      }
    }
  }

  /// The same of a tile that has the gates themselves: exp(G_i - G_j) per element, masked.
  PHITUNE_DEVICE static void weigh_exactly(Weights& w, const Scores& s, const char* stage, int from, const F2 (&row_gates)[2]) {
    const F2* const gates = reinterpret_cast<const F2*>(stage + L.gates_at) + lane() % 4 * 2;
    const int first = from + lane() % 4 * 2;
    PHITUNE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      F4 gate{};
      if constexpr (C.gated) gate = *reinterpret_cast<const F4*>(gates + n * 8);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        F2 weight{power(s[4 * n + 2 * h]), power(s[4 * n + 2 * h + 1])};
        if constexpr (C.gated)
          weight.x *= gate_weight(row_gates[h], F2{gate.x, gate.y}), weight.y *= gate_weight(row_gates[h], F2{gate.z, gate.w});
        store(w, n, h, F2{first + n * 8 - 8 * h <= 0 ? weight.x : 0.0f, first + n * 8 - 8 * h < 0 ? weight.y : 0.0f});
      }
    }
  }

  // ---- walks over the tiles of a ring ----
  //
  // `ring` has const char* stage(tile), const char* ones() for the panel that all share, void wait(tile) for a tile to be there, and void release(tile) when all products with it are done.
  // Nothing is in flight before and after. weigh(weights, scores, tile, m) forms weights of query tile m. Products are added to `out`.

  /// Tiles [0, tiles) for one query tile. For two, tiles [0, tiles) for the first and one more, the last, for the second, which therefore goes
  /// first. While the weights of a step are formed, the product of the step before with V is in flight, and, with two sets of scores, the
  /// scores of the step after. weigh_last is for the last step of each query tile. read(queries, m) gives a tile's queries; Held: they stay
  /// in registers.
  template <int Sets, bool Held, int M, class Read, class Ring, class Weigh, class WeighLast>
  PHITUNE_DEVICE static void walk(Output (&out)[M], const Read& read, int tiles, const Ring& ring, const Weigh& weigh,
                                  const WeighLast& weigh_last) {
    static_assert(M <= 2);
    if (tiles <= 0) return;
    Flight<Sets> flight;
    Queries queries[M];
    PHITUNE_UNROLL
    for (int m = Held ? 0 : M - 1; m < M; ++m) read(queries[m], m);
    const auto again = [&](Queries& q, int m) {
      if constexpr (!Held) read(q, m);
    };
    wait_for(ring, 0);
    wgmma_fence();
    multiply_keys(flight.scores[0], queries[M - 1], ring.stage(0));
    wgmma_commit();
    wgmma_wait<0>();
    settle(flight.scores[0]);
    int tile = 0;
    if constexpr (M == 1) {
      PHITUNE_NO_UNROLL
      for (; tile + 2 < tiles; tile += 2) {
        step<0>(flight, out, queries, again, tile, ring, weigh);
        step<1>(flight, out, queries, again, tile + 1, ring, weigh);
      }
      if (tile + 1 < tiles) {
        step<0>(flight, out, queries, again, tile, ring, weigh);
        last_step<1>(flight, out, tile + 1, ring, weigh_last);
      } else {
        last_step<0>(flight, out, tile, ring, weigh_last);
      }
    } else {
      PHITUNE_NO_UNROLL
      for (; tile + 1 < tiles; ++tile) {
        step<0>(flight, out, queries, again, tile, ring, weigh);
        step<1>(flight, out, queries, again, tile, ring, weigh);
      }
      step<0>(flight, out, queries, again, tile, ring, weigh);
      step<1>(flight, out, queries, again, tile, ring, weigh_last);
      last_step<0>(flight, out, tile + 1, ring, weigh_last);
    }
  }

  /// Tiles [begin, end) for query tiles [First, M), with the fewest registers and the least in flight. read(queries, m) gives a tile's
  /// queries.
  template <int First, int M, class Ring, class Read, class Weigh>
  PHITUNE_DEVICE static void walk_in_turn(Output (&out)[M], const Read& read, int begin, int end, const Ring& ring, const Weigh& weigh) {
    if (begin >= end) return;
    Queries q[M];
    PHITUNE_UNROLL
    for (int m = First; m < M; ++m) read(q[m], m);
    PHITUNE_NO_UNROLL
    for (int tile = begin; tile < end; ++tile) {
      Scores scores[M];
      Weights w[M];
      wait_for(ring, tile);
      wgmma_fence();
      PHITUNE_UNROLL
      for (int m = First; m < M; ++m) {
        multiply_keys(scores[m], q[m], ring.stage(tile));
        wgmma_commit();
      }
      PHITUNE_UNROLL
      for (int m = First; m < M; ++m) {
        // Behind each query tile's scores are those of the tiles after it and the products of the tiles before it.
        wgmma_wait<M - 1 - First>();
        settle(scores[m]);
        weigh(w[m], scores[m], tile, m);
        settle_all(w[m]);
        wgmma_fence();
        multiply_values(out[m], w[m], ring.stage(tile), ring.ones());
        wgmma_commit();
      }
      wgmma_wait<0>();
      ring.release(tile);
    }
    PHITUNE_UNROLL
    for (int m = First; m < M; ++m) settle(out[m]);
  }

 private:
  // Of two steps that take turns.
  template <int Sets>
  struct Flight {
    Scores scores[Sets];
    Weights weights[2];
  };

  /// The step of `tile`, even or odd, with the scores of the step after it. Two query tiles: even steps are the second's.
  template <int Odd, int Sets, int M, class Read, class Ring, class Weigh>
  PHITUNE_DEVICE static void step(Flight<Sets>& flight, Output (&out)[M], Queries (&q)[M], const Read& again, int tile, const Ring& ring,
                                  const Weigh& weigh) {
    constexpr int m = M == 1 ? 0 : 1 - Odd, next = M == 1 ? 0 : Odd, set = Odd % Sets, next_set = (1 - Odd) % Sets;
    constexpr bool goes_on = M == 1 || Odd == 1;  // to the next tile
    const auto start_next = [&] {
      again(q[next], next);
      if constexpr (goes_on) wait_for(ring, tile + 1);
      wgmma_fence();
      multiply_keys(flight.scores[next_set], q[next], ring.stage(goes_on ? tile + 1 : tile));
      wgmma_commit();
    };
    if constexpr (Sets == 2) start_next();
    weigh(flight.weights[Odd], flight.scores[set], tile, m);
    settle_all(flight.weights[Odd]);
    if constexpr (Sets == 1) start_next();
    wgmma_fence();
    multiply_values(out[m], flight.weights[Odd], ring.stage(tile), ring.ones());
    wgmma_commit();
    // The next scores are there, and the product of the step before this one is done.
    wgmma_wait<1>();
    settle(flight.scores[next_set]);
    if ((M == 1 || Odd == 0) && tile > 0) ring.release(tile - 1);
  }
  template <int Odd, int Sets, int M, class Ring, class Weigh>
  PHITUNE_DEVICE static void last_step(Flight<Sets>& flight, Output (&out)[M], int tile, const Ring& ring, const Weigh& weigh) {
    weigh(flight.weights[Odd], flight.scores[Odd % Sets], tile, M - 1);
    settle_all(flight.weights[Odd]);
    wgmma_fence();
    multiply_values(out[M - 1], flight.weights[Odd], ring.stage(tile), ring.ones());
    wgmma_commit();
    wgmma_wait<0>();
    if (tile > 0) ring.release(tile - 1);
    ring.release(tile);
    PHITUNE_UNROLL
    for (int i = 0; i < M; ++i) settle(out[i]);
  }

  template <class Ring>
  PHITUNE_DEVICE static void wait_for(const Ring& ring, int tile) {
    ring.wait(tile);
    fence_async_shared();
  }
  PHITUNE_DEVICE static void settle_all(Weights& w) {
    PHITUNE_UNROLL
    for (int step = 0; step < key_steps; ++step) settle(w[step]);
  }
  PHITUNE_DEVICE static void store(Weights& w, int n, int h, F2 weight) { w[n / 2][n % 2 * 2 + h] = pack_bf16x2(weight.x, weight.y); }
};

}  // namespace phitune::sm90
