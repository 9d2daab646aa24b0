// Configuration and shared-memory layout of the Hopper query_state kernel; the host side counts with the same functions.
#pragma once

#include "kernel_templates/common/tspow.cuh"

namespace phitune::sm90 {

struct QueryStateConfig {
  int d, e, p, d_tile;
  Storage partial;  // attention's partial outputs
  bool gated;
  bool normalised;
  int warpgroups;  // that multiply; one warp more feeds them
  int m_tiles;     // 64-row tiles per warpgroup
  int steps;       // k16 steps of the state in one stage of the ring
  int batch;       // k16 steps of phi(q) that are formed at once, while the batch before is multiplied
  int stages;      // depth of the ring
};

/// Everything derived from a configuration; bytes and rows. A *group* is 8 consecutive tuples (rows of degree p-1) times the d_tile
/// features of a tile: the unit in which phi(q) is formed.
struct QueryStateLayout {
  int consumers, threads, block_rows;
  int columns;  // of a state row, R
  int rows;     // of the state, D
  int group_steps, groups;
  int step_bytes, stage_bytes, stage_count;
  int q_stride;         // bytes between rows of the query tile
  int table_lanes;      // table entries per group
  int epilogue_stride;  // floats
  int barriers_at, q_at, table_at, ring_at, shared_bytes;
};

PHITUNE_DEVICE constexpr QueryStateLayout query_state_layout(const QueryStateConfig& c) {
  QueryStateLayout l{};
  l.consumers = c.warpgroups * 128;
  l.threads = l.consumers + 32;
  l.block_rows = c.warpgroups * c.m_tiles * 64;
  l.columns = c.e + (c.normalised ? 8 : 0);
  l.rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  l.group_steps = c.d_tile / 2;
  l.groups = l.rows / (8 * c.d_tile);
  l.step_bytes = 16 * l.columns * 2;
  l.stage_bytes = c.steps * l.step_bytes;
  l.stage_count = l.rows / (c.steps * 16);
  // Padding by 16 bytes puts eight rows of 4- or 16-byte reads in different banks.
  l.q_stride = c.d * 2 + 16;
  // Narrow tiles put several degree p-2 rows in a group, so every pair of tuples has an entry; two groups more for reading ahead.
  l.table_lanes = c.d_tile >= 8 ? 1 : 4;
  l.epilogue_stride = c.e + 8;
  l.barriers_at = 0;
  l.q_at = round_up(2 * c.stages * 8, 128);
  l.table_at = l.q_at + l.block_rows * l.q_stride;
  l.ring_at = round_up(l.table_at + (l.groups + 2) * l.table_lanes * 4, 128);
  const int ring_bytes = c.stages * l.stage_bytes;
  const int epilogue_bytes = c.warpgroups * 4 * 16 * l.epilogue_stride * 4;
  l.shared_bytes = l.ring_at + (ring_bytes > epilogue_bytes ? ring_bytes : epilogue_bytes);
  return l;
}

}  // namespace phitune::sm90
