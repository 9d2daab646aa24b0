// What the kernels that multiply queries with states on Hopper and their host sides agree on.
#pragma once

#include "kernel_templates/common/state_layout.cuh"

namespace phitune::sm90 {

struct StateProductConfig {
  int d, p, d_tile;
  int columns;  // of a state row, R
  int accumulated;  // columns of the accumulators: R, and the denominator's where that is a matrix
  int m_tiles;  // 64-row query tiles per warpgroup
  int steps;    // k16 steps of the state in one stage of the ring
  int batch;    // k16 steps of phi(q) that are formed at once, while the batch before is multiplied
  /// How many features of the last tile lie side by side in the state: 1 but for wide rows.
  PHITUNE_DEVICE constexpr int abreast() const { return wide_rows(p, d_tile) ? d_tile : 1; }
};

/// Bytes between rows of a query tile: padding by 16 puts eight rows of 4- or 16-byte reads in different banks.
PHITUNE_DEVICE constexpr int query_stride(int d) { return d * 2 + 16; }

/// Everything derived from a configuration; bytes and rows. Without wide rows a *group* is 8 consecutive tuples (rows of degree p-1) times the d_tile
/// features of a tile: the unit in which phi(q) is formed.
struct StateProductLayout {
  int rows;  // of the state, D
  int product_columns;  // of a k16 step
  int group_steps, groups;
  int step_bytes, stage_bytes, stage_count;
  int q_stride;                  // bytes between rows of the query tile
  int table_lanes, table_bytes;  // entries per group
};

PHITUNE_DEVICE constexpr StateProductLayout state_product_layout(const StateProductConfig& c) {
  StateProductLayout l{};
  l.rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  l.group_steps = c.d_tile / 2;
  l.groups = l.rows / (8 * c.d_tile);
  l.product_columns = c.abreast() * c.columns;
  l.step_bytes = 16 * l.product_columns * 2;
  l.stage_bytes = c.steps * l.step_bytes;
  l.stage_count = l.rows / c.abreast() / (c.steps * 16);
  l.q_stride = query_stride(c.d);
  // Narrow tiles put several degree p-2 rows in a group, so every pair of tuples has an entry; two groups more for reading ahead.
  l.table_lanes = c.d_tile >= 8 ? 1 : 4;
  l.table_bytes = c.abreast() > 1 ? 0 : (l.groups + 2) * l.table_lanes * 4;
  return l;
}

}  // namespace phitune::sm90
