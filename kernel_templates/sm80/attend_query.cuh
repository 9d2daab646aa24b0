// y = (sum_j w_ij v_j + exp(G_i) phi(q_i) S) / (sum_j w_ij + exp(G_i) phi(q_i) z): attention inside each chunk and what the state before it
// adds, in one kernel. Nothing but y leaves the block.
//
// A warp's rows take phi(q) S first (state_product.cuh), then the keys up to the diagonal (attention_walk.cuh) into the same registers:
// both products leave the same elements of a row in the same lane. In between they are multiplied once, by exp(G_ref) / scale^p: keys
// before the diagonal are weighed relative to G_ref, without scale^p, which states carry and weights are given at the end, or never when
// they are normalised. Every exponent is <= 0: G_ref is a gate of the chunk or, where no key tile lies before the diagonal, the chunk's
// start. Grid: x = b * hk * chunks * (hq / hk) * ceil(chunk / block_rows), the last of a chunk first (the most work); heads and blocks of
// rows that read the same state, keys and values are neighbours.
#pragma once

#include "kernel_templates/sm80/attend_query_config.cuh"
#include "kernel_templates/sm80/attention_output.cuh"
#include "kernel_templates/sm80/attention_walk.cuh"
#include "kernel_templates/sm80/state_product.cuh"

namespace phitune {

namespace attend_query_detail {

/// Rows begin with what the product left, times `factor`.
template <AttentionConfig C, class Product>
PHITUNE_DEVICE void take_state(attention_detail::Rows<C>& rows, const Product& product, float factor) {
  PHITUNE_UNROLL
  for (int m = 0; m < C.m_tiles; ++m) {
    PHITUNE_UNROLL
    for (int n = 0; n < C.e / 8; ++n) {
      PHITUNE_UNROLL
      for (int i = 0; i < 4; ++i) rows.acc[m][n][i] = factor * product.acc[m][n][i];
    }
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      rows.sum[m][h] = 0.0f;
      if constexpr (C.sum) rows.sum[m][h] = factor * product.denominator_share(m, h);
    }
  }
}

}  // namespace attend_query_detail

/// Launch: warps * 32 threads, attend_query_shared(C) bytes.
template <AttendQueryConfig C>
PHITUNE_DEVICE void attend_query(const Args& args) {
  wait_for_earlier_kernels();
  using namespace attention_detail;
  constexpr AttentionConfig keys = key_part(C);
  using Product = StateProduct<state_part(C)>;
  static_assert(Product::L.q_stride == attention_q_pitch(keys) && Product::L.block_rows == attention_rows(keys), "queries are loaded once");

  const auto block = [] { return grid_size_x() - 1 - block_index_x(); };
  Product product(args, block());
  if (product.place.valid_rows <= 0) return;
  product.load_queries();
  if (product.has_state()) product.multiply();

  // Made anew for each part, so that no part keeps registers for the next.
  const auto place = [&] {
    product.set_place_again(block());
    return make_place(args, product.place.batch, product.place.head, product.place.chunk, product.first_row());
  };
  Walk<keys> walk(args, place());
  walk.start();
  walk.load_gates();
  Rows<keys> rows(Product::q_tile(), walk.row0);
  attend_query_detail::take_state<keys>(rows, product, (C.gated ? gate_weight(walk.gates.reference) : 1.0f) / power<C.p>(args.scale));
  walk.add_keys(rows);
  if (walk.warp_first < walk.at.length) finish<keys>(rows, args, place());
}

}  // namespace phitune
