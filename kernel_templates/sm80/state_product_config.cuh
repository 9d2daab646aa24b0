// Configuration of the product of queries and states, and the layout of its shared memory: one definition for kernels and host sides.
#pragma once

#include "kernel_templates/common/numeric.cuh"
#include "kernel_templates/common/tspow.cuh"

namespace phitune {

struct StateProductConfig {
  int d, e, p, d_tile;
  Storage input;  // q
  Storage state;  // bf16: products in bf16 (input must be bf16); fp32: products in tf32
  bool normalised;
  int warps;    // per block
  int m_tiles;  // 16-row tiles per warp
  int steps;    // k16 steps of the state in one stage of the ring
  int stages;   // depth of the ring
};

/// Everything derived from a configuration; bytes and rows. A *group* is 8 consecutive tuples (rows of degree p-1) times the d_tile
/// features of a tile: the unit in which phi(q) is formed. Shared memory: query rows from 0 on, a table of groups, the ring.
struct StateProductLayout {
  int threads, block_rows;
  int columns;  // of a state row, R
  int rows;     // of the state, D
  int group_rows, group_steps, groups, stage_groups;
  int stage_rows, stage_count;
  int q_stride;     // bytes between rows of the query tile
  int row_stride;   // bytes between rows of the state in shared memory
  int table_lanes;  // table entries per group
  int table_at, ring_at, shared_bytes;
};

PHITUNE_DEVICE constexpr StateProductLayout state_product_layout(const StateProductConfig& c) {
  StateProductLayout l{};
  l.threads = c.warps * 32;
  l.block_rows = c.warps * c.m_tiles * 16;
  l.columns = c.e + (c.normalised ? 8 : 0);
  l.rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  l.group_rows = c.p == 1 ? 16 : 8 * c.d_tile;
  l.group_steps = l.group_rows / 16;
  l.groups = l.rows / l.group_rows;
  l.stage_groups = c.steps / l.group_steps;
  l.stage_rows = c.steps * 16;
  l.stage_count = ceil_div(l.rows, l.stage_rows);
  // Padding by 16 bytes puts eight rows of 4-byte reads in different banks.
  l.q_stride = c.d * 2 + 16;
  // 16-bit rows are an odd multiple of 16 bytes for ldmatrix; fp32 rows are 4 floats (mod 8) so that rows 2t and columns g do not collide.
  const int row_bytes = l.columns * storage_bytes(c.state);
  l.row_stride = c.state == Storage::fp32 || row_bytes / 16 % 2 == 0 ? row_bytes + 16 : row_bytes;
  // Narrow tiles put several degree p-2 rows in a group, so every pair of tuples has an entry; two groups more for reading ahead.
  l.table_lanes = c.d_tile >= 8 ? 1 : 4;
  const int table_bytes = c.p == 1 ? 0 : round_up((l.groups + 2) * l.table_lanes * 4, 16);
  l.table_at = l.block_rows * l.q_stride;
  l.ring_at = l.table_at + table_bytes;
  l.shared_bytes = l.ring_at + c.stages * l.stage_rows * l.row_stride;
  return l;
}

/// Where row `row` of a group lies in shared memory, so that in step i of the group thread t's pair slots s are the feature pair i of tuple
/// 2t + s: its two scalars then serve all steps of the group.
PHITUNE_DEVICE constexpr int state_product_position(int row, int p, int d_tile) {
  if (p == 1) return row;
  const int tuple = row / d_tile;
  const int feature = row % d_tile;
  return (feature / 2) * 16 + (tuple % 2) * 8 + (tuple / 2) * 2 + feature % 2;
}

}  // namespace phitune
