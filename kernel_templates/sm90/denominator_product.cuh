// q^T Z q on Hopper: what the denominator matrix before a chunk (state_layout.cuh) adds to the denominators of its queries. One product of
// queries with Z, 2 d deep because each entry has two parts, then a sum along each row of products with the query's features: the
// accumulators of a thread lie in the rows and columns of its fragments of the queries.
#pragma once

#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/numeric.cuh"
#include "kernel_templates/sm90/denominator_product_config.cuh"

namespace phitune::sm90 {

template <DenominatorProductConfig C>
class DenominatorProduct {
 public:
  static constexpr DenominatorProductLayout L = denominator_product_layout(C);
  static constexpr int stages = L.stage_count, query_steps = C.d / 16;
  static_assert(stages * L.stage_steps == 2 * query_steps, "widths that are no power of two would lose steps");
  using Queries = u32[query_steps][4];
  using Sums = float[C.m_tiles][2];  // of a thread's two rows of each query tile, over its columns: the quad's sum is the row's

  /// Starts the product behind others that are in flight, the last of which is of stage `first` - 1, and releases that one. `read(fragments, m)`
  /// gives the fragments of query tile m. The ring is StateProduct's; Z is its stages from `first` on, the last of which is left in flight.
  template <class Read, class Ring>
  PHITUNE_DEVICE void start(const Read& read, const Ring& ring, int first) {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) read(q[m], m);
    PHITUNE_UNROLL
    for (int stage = 0; stage < stages; ++stage) {
      ring.wait(first + stage);
      const SharedMatrix z = core_matrices(ring.stage(first + stage), L.step_bytes / 2, 128);
      wgmma_fence();
      PHITUNE_UNROLL
      for (int k = 0; k < L.stage_steps; ++k) {
        const int step = stage * L.stage_steps + k;
        PHITUNE_UNROLL
        for (int m = 0; m < C.m_tiles; ++m) wgmma_bf16<C.d, true>(products[m], q[m][step / 2], z.at(k * L.step_bytes), step > 0);
      }
      wgmma_commit();
      wgmma_wait<1>();
      ring.release(first + stage - 1);
    }
  }

  /// Once all products have ended.
  PHITUNE_DEVICE void finish(Sums& sums) {
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      settle(products[m]);
      PHITUNE_UNROLL
      for (int h = 0; h < 2; ++h) {
        float sum = 0.0f;
        PHITUNE_UNROLL
        for (int n = 0; n < C.d / 8; ++n) {
          const u32 pair = q[m][n / 2][n % 2 * 2 + h];
          sum += products[m][4 * n + 2 * h] * low_bf16(pair) + products[m][4 * n + 2 * h + 1] * high_bf16(pair);
        }
        sums[m][h] = sum;
      }
    }
  }

 private:
  Queries q[C.m_tiles];
  float products[C.m_tiles][C.d / 2];
};

}  // namespace phitune::sm90
