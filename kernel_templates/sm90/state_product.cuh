// phi(q) S on Hopper, shared by the kernels that multiply queries with states. A = phi(q) is formed in registers, a batch of k16 steps
// ahead of the tensor cores; B = S lies in core matrices (Path::sm90) in a ring of stages that somebody else fills.
//
// Rows of the state come in groups of 8 tuples (rows of phi of degree p-1) times the d_tile features of the last tile. Thread t of a quad
// takes tuples 2t and 2t+1, one for each k half, so a group costs it one product for its two scalars and one packed multiply per pair slot.
#pragma once

#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/tspow.cuh"
#include "kernel_templates/sm90/state_product_config.cuh"

namespace phitune::sm90 {

/// The first N of more registers.
template <int N, int M>
PHITUNE_DEVICE float (&first(float (&r)[M]))[N] {
  static_assert(N <= M);
  return *reinterpret_cast<float(*)[N]>(&r);
}

/// Which rows of its block's queries a thread has.
template <int MTiles>
struct QueryRows {
  static constexpr int thread_rows = 2 * MTiles;  // rows of A a thread holds slots of
  /// First row of the warp in the query tile of its block.
  PHITUNE_DEVICE static int warp_row() { return warp() / 4 * (64 * MTiles) + warp() % 4 * 16; }
  /// How far slot `r` of a thread lies from its first row.
  PHITUNE_DEVICE static constexpr int row_offset(int r) { return r / 2 * 64 + r % 2 * 8; }
};

template <StateProductConfig C>
struct GroupedStateProduct : QueryRows<C.m_tiles> {
  using QueryRows<C.m_tiles>::thread_rows, QueryRows<C.m_tiles>::row_offset;
  static constexpr StateProductLayout L = state_product_layout(C);
  static constexpr int feature_pairs = C.d_tile / 2;
  static constexpr int lower_degree = C.p - 2;  // scalars of a tuple besides its last feature
  static constexpr int batches = C.steps / C.batch;
  using Accumulators = float[C.m_tiles][C.accumulated / 2];

  static_assert(C.p >= 2 && C.d % C.d_tile == 0 && C.d % 16 == 0 && C.d <= 128, "table entries are byte offsets in one byte");
  static_assert(L.rows % (8 * C.d_tile) == 0 && C.steps % L.group_steps == 0 && L.rows % (C.steps * 16) == 0);
  static_assert(batches % 2 == 0 && C.steps % C.batch == 0, "the two sets of fragments take turns");

  // What a thread reads of its query rows for one group, before any arithmetic: issued one group ahead.
  struct Tuples {
    u32 last[thread_rows];  // the last features of tuples 2t and 2t+1
    u16 lower[thread_rows][lower_degree > 0 ? lower_degree : 1];
  };
  using Scalars = u32[thread_rows][2];
  using Base = u32[thread_rows][feature_pairs];

  /// By all of `threads` threads. An entry holds byte offsets in a query row: of the last feature of a tuple, of its lower features, and of
  /// the last tile (high byte).
  PHITUNE_DEVICE static void build_table(u32* table, int threads) {
    constexpr int entries = (L.groups + 2) * L.table_lanes;
    PHITUNE_NO_UNROLL
    for (int at = thread_index(); at < entries; at += threads) {
      u32 entry = 0;
      if (at < L.groups * L.table_lanes) {
        const tspow::Indices x = tspow::decode(at * (8 * C.d_tile / L.table_lanes), C.p, C.d_tile);
        entry = static_cast<u32>(x.i[C.p - 1]) << 25 | static_cast<u32>(x.i[C.p - 2]) << 1;
        PHITUNE_UNROLL
        for (int k = 0; k < lower_degree; ++k) entry |= static_cast<u32>(x.i[k]) << (8 * k + 9);
      }
      table[at] = entry;
    }
  }

  PHITUNE_DEVICE static u32 entry_of(const u32* table, int group) {
    if constexpr (L.table_lanes == 1)
      return table[group];
    else
      return table[group * 4 + lane() % 4];
  }

  PHITUNE_DEVICE static void read_tuples(Tuples& out, const char* queries, u32 entry) {
    const char* const last = queries + (entry & 0xffu) + (L.table_lanes == 1 ? lane() % 4 * 4 : 0);
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      out.last[r] = *reinterpret_cast<const u32*>(last + row_offset(r) * L.q_stride);
      PHITUNE_UNROLL
      for (int k = 0; k < lower_degree; ++k)
        out.lower[r][k] = *reinterpret_cast<const u16*>(queries + (entry >> (8 * k + 8) & 0xffu) + row_offset(r) * L.q_stride);
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
      const char* const at = queries + (entry >> 24) + row_offset(r) * L.q_stride;
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

  // Features of this group's last tile and the next's, which take turns where a stage has whole pairs of groups.
  static constexpr bool alternate = C.steps / L.group_steps % 2 == 0;
  PHITUNE_DEVICE static void copy(Base& to, const Base& from) {
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      PHITUNE_UNROLL
      for (int i = 0; i < feature_pairs; ++i) to[r][i] = from[r][i];
    }
  }

  /// acc += phi(q) S. `queries` is the thread's first row in the query tile. `ring` has const char* stage(int), void wait(int) for a stage
  /// to be full, and void release(int) when all products with it are done; stages are numbered from 0. `start_others(first)` may start other
  /// products behind these, with `Others` stages from number `first` on, and releases the stage before each. Nothing is in flight afterwards.
  template <int Others, class Ring, class Start>
  PHITUNE_DEVICE static void multiply(Accumulators& acc, const char* queries, const u32* table, const Ring& ring, const Start& start_others) {
    // What the next group needs is read before the products of this one are waited for, and its entry of the table a group earlier still.
    Tuples tuples;
    Base bases[2];
    u32 next = entry_of(table, 1);
    read_tuples(tuples, queries, entry_of(table, 0));
    read_base(bases[alternate ? 0 : 1], queries, entry_of(table, 0));
    Scalars scalars;
    u32 fragments[2][C.batch][C.m_tiles][4];

    int group = 0;
    PHITUNE_NO_UNROLL
    for (int stage = 0; stage < L.stage_count; ++stage) {
      const SharedMatrix state = core_matrices(ring.stage(stage), L.step_bytes / 2, 128);
      PHITUNE_UNROLL
      for (int batch = 0; batch < batches; ++batch) {
        auto& a = fragments[batch % 2];
        PHITUNE_UNROLL
        for (int k = 0; k < C.batch; ++k) {
          const int pair = (batch * C.batch + k) % L.group_steps, in_stage = (batch * C.batch + k) / L.group_steps;
          if (pair == 0) {
            finish_tuples(scalars, tuples);
            if constexpr (!alternate) copy(bases[0], bases[1]);
            read_tuples(tuples, queries, next);
            read_base(bases[alternate ? (in_stage + 1) % 2 : 1], queries, next);
            next = entry_of(table, ++group + 1);
          }
          PHITUNE_UNROLL
          for (int r = 0; r < thread_rows; ++r) {
            PHITUNE_UNROLL
            for (int s = 0; s < 2; ++s)
              a[k][r / 2][r % 2 + 2 * s] = mul_bf16x2(scalars[r][s], bases[alternate ? in_stage % 2 : 0][r][pair]);
          }
        }
        if (batch == 0) ring.wait(stage);
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
            wgmma_bf16<C.columns, true>(first<C.columns / 2>(acc[m]), a[k][m], state.at((batch * C.batch + k) * L.step_bytes), true);
        }
        wgmma_commit();
        // The batch before is done: its fragments may be overwritten, and if it was a stage's last, the stage.
        wgmma_wait<1>();
        if (batch == 0 && stage > 0) ring.release(stage - 1);
      }
    }
    if constexpr (Others > 0) start_others(L.stage_count);
    wgmma_wait<0>();
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) settle(acc[m]);
    ring.release(L.stage_count + Others - 1);
  }
};

/// The same with states of wide rows: a step is 16 tuples, each feature of one tile times each of another, times all features of the last
/// tile, whose products stand side by side. When the tuples of a last tile are through, its features multiply those sums on their way to acc.
template <StateProductConfig C>
struct WideStateProduct : QueryRows<C.m_tiles> {
  using QueryRows<C.m_tiles>::thread_rows, QueryRows<C.m_tiles>::row_offset;
  static constexpr StateProductLayout L = state_product_layout(C);
  static_assert(C.accumulated == C.columns);
  static constexpr int accumulators = C.columns / 2, tiles = C.d / C.d_tile, tile_bytes = C.d_tile * 2;
  using Accumulators = float[C.m_tiles][accumulators];
  using Products = float[C.m_tiles][L.product_columns / 2];
  using Fragments = u32[C.m_tiles][4];

  static_assert(C.p == 3 && C.d_tile == 4 && C.d % 16 == 0 && L.product_columns <= 256);
  static_assert(L.rows % (C.d_tile * C.steps * 16) == 0 && C.steps > 1);

  PHITUNE_DEVICE static void build_table(u32*, int) {}  // It is not needed.

  /// Where the products are: the tuples of tiles `low` <= `high`, and the stage of the ring that has the step.
  struct Walk {
    const char* queries;
    int low, high, stage, in_stage;
    u32 pair[thread_rows];  // the thread's two features of tile `high`
    SharedMatrix state;
  };

  PHITUNE_DEVICE static const char* row(const Walk& at, int r) { return at.queries + row_offset(r) * L.q_stride; }
  PHITUNE_DEVICE static void read_pair(Walk& at) {
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) at.pair[r] = *reinterpret_cast<const u32*>(row(at, r) + at.high * tile_bytes + lane() % 2 * 4);
  }

  /// Of the 16 tuples thread t of a quad has features t / 2 and t / 2 + 2 of the lower tile times 2 (t % 2) and the one after it of the other.
  PHITUNE_DEVICE static void form(Fragments& a, const Walk& at) {
    const u32 twice = lane() % 4 < 2 ? 0x1010u : 0x3232u;
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      const U2 low = *reinterpret_cast<const U2*>(row(at, r) + at.low * tile_bytes);
      a[r / 2][r % 2] = mul_bf16x2(permute_bytes(low.x, low.x, twice), at.pair[r]);
      a[r / 2][r % 2 + 2] = mul_bf16x2(permute_bytes(low.y, low.y, twice), at.pair[r]);
    }
  }

  /// Multiplies the step whose fragments are in `a` and forms those of the next while that goes on.
  template <bool First, class Ring>
  PHITUNE_DEVICE static void step(Products& products, Fragments& a, Fragments& next, Walk& at, const Ring& ring) {
    if (at.in_stage == 0) {
      ring.wait(at.stage);
      at.state = core_matrices(ring.stage(at.stage), L.step_bytes / 2, 128);
    }
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) settle(a[m]);
    wgmma_fence();
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) wgmma_bf16<L.product_columns, true>(products[m], a[m], at.state, !First);
    wgmma_commit();
    at.state = at.state.at(L.step_bytes);
    // The step before is done: `next` was its, and so was, at a stage's beginning, the stage before.
    wgmma_wait<1>();
    if (at.in_stage == 0 && at.stage > 0) ring.release(at.stage - 1);
    if (++at.in_stage == C.steps) at.in_stage = 0, ++at.stage;
    if (at.low++ == at.high) {
      at.low = 0, ++at.high;
      read_pair(at);
    }
    form(next, at);
  }

  /// As above, with nothing behind it.
  template <int Others, class Ring, class Start>
  PHITUNE_DEVICE static void multiply(Accumulators& acc, const char* queries, const u32*, const Ring& ring, const Start&) {
    static_assert(Others == 0);
    Walk at{.queries = queries, .low = 0, .high = 0, .stage = 0, .in_stage = 0, .pair = {}, .state = {}};
    PHITUNE_NO_UNROLL
    for (int last = 0; last < tiles; ++last) {
      Products products;
      Fragments a[2];
      at.low = 0, at.high = 0;
      read_pair(at);
      form(a[0], at);
      const int steps = (last + 1) * (last + 2) / 2;
      // (What is formed after the last step is of no use; its features, of tile last + 1, may lie past the row. That the first product does
      // not accumulate must be known to the compiler, or the sums are kept through all else that the kernel does.)
      step<true>(products, a[0], a[1], at, ring);
      int done = 1;
      PHITUNE_NO_UNROLL
      for (; done + 1 < steps; done += 2) {
        step<false>(products, a[1], a[0], at, ring);
        step<false>(products, a[0], a[1], at, ring);
      }
      if (done < steps) step<false>(products, a[1], a[0], at, ring);
      wgmma_wait<0>();
      PHITUNE_UNROLL
      for (int m = 0; m < C.m_tiles; ++m) settle(products[m]);
      contract(acc, products, queries + last * tile_bytes);
    }
    ring.release(L.stage_count - 1);
  }

  /// acc += products times the features of the last tile, which begin at `features` in the thread's first row.
  PHITUNE_DEVICE static void contract(Accumulators& acc, const Products& products, const char* features) {
    PHITUNE_UNROLL
    for (int r = 0; r < thread_rows; ++r) {
      const U2 packed = *reinterpret_cast<const U2*>(features + row_offset(r) * L.q_stride);
      const float x[4] = {low_bf16(packed.x), high_bf16(packed.x), low_bf16(packed.y), high_bf16(packed.y)};
      PHITUNE_UNROLL
      for (int k = 0; k < C.d_tile; ++k) {
        PHITUNE_UNROLL
        for (int i = 0; i < accumulators; ++i) {
          if (i % 4 / 2 == r % 2) acc[r / 2][i] += x[k] * products[r / 2][k * accumulators + i];
        }
      }
    }
  }
};

namespace detail {
template <StateProductConfig C, bool Wide>
struct ChosenStateProduct {
  using Type = GroupedStateProduct<C>;
};
template <StateProductConfig C>
struct ChosenStateProduct<C, true> {
  using Type = WideStateProduct<C>;
};
}  // namespace detail

/// As the rows of the state are.
template <StateProductConfig C>
using StateProduct = typename detail::ChosenStateProduct<C, (C.abreast() > 1)>::Type;

}  // namespace phitune::sm90
