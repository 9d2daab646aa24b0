// attention: the quadratic form inside each chunk (or over all of t), w_ij = (s q_i.k_j)^p exp(G_i - G_j) for j <= i, in normal space: no
// running maximum, no logarithm. scale^p is left to the end, and cancels under normalisation. How rows meet keys: attention_walk.cuh.
// Grid: x = query tiles x chunks, latest tile of a chunk first (the most work); y = 1; z = batch x query head.
#pragma once

#include "kernel_templates/sm80/attention_output.cuh"
#include "kernel_templates/sm80/attention_walk.cuh"

namespace phitune {

namespace attention_detail {

template <AttentionConfig C>
PHITUNE_DEVICE Place place_of(const Args& args) {
  const int tiles = ceil_div(args.chunk, attention_rows(C));
  const int chunk = block_index_x() / tiles, tile = tiles - 1 - block_index_x() % tiles;
  return make_place(args, block_index_z() / args.hq, block_index_z() % args.hq, chunk, tile * attention_rows(C));
}

}  // namespace attention_detail

template <AttentionConfig C>
PHITUNE_DEVICE void attention(const Args& args) {
  wait_for_earlier_kernels();
  using namespace attention_detail;
  static_assert(!C.complete || C.output == C.input, "y has the problem's dtype");
  const Place at = place_of<C>(args);
  if (at.first >= at.length) return;
  copy_tile_async<attention_rows(C), C.d, C.warps * 32>(
      shared_memory(), tensor_row(args.q, args.q_strides, at.batch, at.start + at.first, at.head), args.q_strides.t, at.length - at.first);
  Walk<C> walk(args, at);
  walk.start();
  Rows<C> rows(shared_memory(), walk.row0);
  rows.clear();
  walk.load_gates();
  walk.add_keys(rows);
  if (walk.warp_first < at.length) finish<C>(rows, args, at);
}

}  // namespace phitune
