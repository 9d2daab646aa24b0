// Configuration of the expand kernels and how they share out their work: one definition for the kernels and for the host side.
#pragma once

#include "kernel_templates/common/numeric.cuh"
#include "kernel_templates/common/tspow.cuh"

namespace phitune {

struct ExpandConfig {
  int d, e, p, d_tile;
  Storage input;  // q, k, v
  Storage state;  // what is written
  bool key;       // k with gates, and v; else q
  bool gated;
  bool normalised;
  int threads;
  int tokens;  // per block
};

struct ExpandLayout {
  int rows;            // of the state, D: elements per token
  int columns;         // of a row of v_aug, R
  int vectors;         // of 8 elements per token
  int row_threads;     // threads side by side along D; the others take other tokens
  int row_blocks;      // blocks along D
  int feature_stride;  // floats between tokens in shared memory
  int weights_at, shared_bytes;
};

PHITUNE_DEVICE constexpr ExpandLayout expand_layout(const ExpandConfig& c) {
  ExpandLayout l{};
  l.rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  l.columns = c.e + (c.normalised ? 8 : 0);
  l.vectors = l.rows / 8;
  l.row_threads = c.threads;
  while (l.row_threads / 2 >= l.vectors) l.row_threads /= 2;
  l.row_blocks = ceil_div(l.vectors, l.row_threads);
  l.feature_stride = c.d + 4;
  l.weights_at = c.tokens * l.feature_stride * 4;
  l.shared_bytes = l.weights_at + c.tokens * 4;
  return l;
}

}  // namespace phitune
