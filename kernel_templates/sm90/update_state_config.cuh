// Configuration and shared-memory layout of the Hopper update_state kernel; the host side counts with the same functions.
#pragma once

#include "kernel_templates/common/state_layout.cuh"

namespace phitune::sm90 {

struct UpdateStateConfig {
  int d, e, p, d_tile;
  bool final_state;  // the last chunk's update is wanted too
  bool gated, sum;   // sum: normalisation "sum", update_z is wanted and U's rows are eight columns longer, or Z's share is made
  int warpgroups;    // that multiply; one more loads and transposes
  int m_tiles;       // 64-row tiles of the state per warpgroup
  int token_tile;    // tokens of one stage of the ring
  int stages;        // depth of the ring
  int prefetch;      // tiles of keys on their way from memory, before they are transposed into the ring
  int consumer_registers, loader_registers;  // per thread, once the warpgroups have divided them
  // update_scan alone: a further warpgroup that scans.
  bool initial_state = false;
  int scan_registers = 0;  // 0: none does
  int scan_depth = 0;      // chunks whose updates are on their way to a thread of it
  bool sliced = false;     // all chunks of one block of rows come before those of the next; else all blocks of rows of one chunk

  /// How many features of the last tile lie side by side in the state: 1 but for wide rows.
  PHITUNE_DEVICE constexpr int abreast() const { return wide_rows(p, d_tile) ? d_tile : 1; }
  /// Denominators are products of phi with a column of ones; or those of keys with keys, the denominator matrix.
  PHITUNE_DEVICE constexpr bool ones() const { return sum && !denominator_matrix(d, p, sum); }
  PHITUNE_DEVICE constexpr bool matrix() const { return denominator_matrix(d, p, sum); }
};

/// The rows of the product that one warpgroup has, `m_tiles` tiles of 64, and how phi is formed for them.
struct UpdateUnit {
  int degree;                     // of the rows of A
  int group_octets, group_tiles;  // of a group, and its m tiles
  int groups;                     // that a warp's unit meets
  int slabs;                      // of 32 tokens, of the part of a tile that the loop's body multiplies: 64 tokens, or all of them for one m tile
  int steps;                      // of that part: a slab times one m tile
  bool possible;
};
PHITUNE_DEVICE constexpr UpdateUnit update_unit(const UpdateStateConfig& c, int m_tiles) {
  UpdateUnit u{};
  const bool wide = c.abreast() > 1;
  u.degree = wide ? c.p - 1 : c.p;
  u.group_octets = wide ? 2 : c.d_tile;
  u.group_tiles = u.group_octets / 2;
  u.groups = m_tiles > u.group_tiles ? m_tiles / u.group_tiles : 1;
  u.slabs = (m_tiles > 1 ? 64 : c.token_tile) / 32;
  u.steps = u.slabs * m_tiles;
  const bool whole = m_tiles > 0 && (m_tiles % u.group_tiles == 0 || u.group_tiles % m_tiles == 0);
  // (What a step multiplies is read two steps before, into two places that take turns through all parts.)
  u.possible = whole && u.steps > 2 && u.steps % 2 == 0 && u.slabs * u.groups % 2 == 0;
  return u;
}

/// How the rows of the product, and the denominator matrix, are dealt out to warpgroups.
struct UpdateRows {
  int units;       // of m_tiles tiles of rows each, without wide rows; the matrix is made by the last one
  int last_tiles;  // of rows in the unit of the matrix: none, or those that are left, where registers allow both
};
PHITUNE_DEVICE constexpr UpdateRows update_rows(const UpdateStateConfig& c) {
  const int tiles = ceil_div(static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile)), 64);
  if (!c.matrix()) return {ceil_div(tiles, c.m_tiles), 0};
  const int left = tiles % c.m_tiles;
  const bool both = update_unit(c, left).possible && left * c.e + ceil_div(c.d, 64) * c.d <= c.m_tiles * c.e;
  return {both ? ceil_div(tiles, c.m_tiles) : ceil_div(tiles, c.m_tiles) + 1, both ? left : 0};
}

/// Blocks of rows of the product that cover the state of one chunk and its denominator matrix. Wide rows: the tuples of each last tile by
/// themselves.
PHITUNE_DEVICE constexpr int update_row_blocks(const UpdateStateConfig& c) {
  if (!wide_rows(c.p, c.d_tile)) return ceil_div(update_rows(c).units, c.warpgroups);
  int blocks = 0;
  for (int last = 0; last < c.d / c.d_tile; ++last)
    blocks += ceil_div(static_cast<int>(tspow::rows(last + 1, c.p - 1, c.d_tile)), c.warpgroups * c.m_tiles * 64);
  return blocks;
}

// Transposed keys: 64 tokens of each feature in a row of 128 bytes, as swizzled_rows_of_k reads them. Neighbouring features lie four rows
// apart, so in different halves of a row, and are read without a conflict.
inline constexpr int key_panel_row = 128;
PHITUNE_DEVICE constexpr int key_row(int feature) { return feature / 8 * 8 + feature % 2 * 4 + feature / 2 % 4; }
PHITUNE_DEVICE constexpr int feature_of_key_row(int row) { return row / 8 * 8 + row % 4 * 2 + row / 4 % 2; }

/// The row of a tile of values where A has token `token` (update_state.cuh on the order of tokens): additive over disjoint bits.
PHITUNE_DEVICE constexpr int value_row(int token) {
  return token / 32 * 32 + token / 4 % 2 * 16 + token / 2 % 2 * 8 + token % 32 / 8 * 2 + token % 2;
}

/// Everything derived from a configuration; bytes and rows. The product of a chunk's tokens has a row for every row of the state, or, with
/// wide rows, for every tuple. An *octet* is eight rows of it that lie in one row of core matrices.
struct UpdateStateLayout {
  int consumers, loaders_end, threads;  // loading threads follow those that multiply, scanning ones follow them
  int state_rows;     // D
  int rows;           // of the product
  int value_columns;  // of the product: e for every feature that lies side by side
  int columns;        // of the product: those, and eight for the denominator
  int block_octets;   // octets of a block
  int matrix_octet;   // whose warpgroup makes the denominator matrix,
  int last_tiles;     // beside so many tiles of rows
  int row_blocks;     // blocks that cover the state of one chunk
  int slices;         // parts of a state whose chunks follow each other: the whole, or each block of rows
  int slice_blocks;   // blocks of rows in a slice
  int key_panel_bytes;  // transposed keys lie in panels of 64 tokens
  // V lies in panels of rows of at most 128 bytes, as swizzled_rows_of_n reads them; behind them one whose first column is ones.
  int panel_row, value_panels, panel_bytes;
  int keys_bytes, stage_bytes, raw_bytes;
  int raw_values_at;  // wide rows: V as it is, behind the keys and gates that are on their way
  int written_at, ring_at, raw_at, scan_at, shared;
};

PHITUNE_DEVICE constexpr UpdateStateLayout update_state_layout(const UpdateStateConfig& c) {
  UpdateStateLayout l{};
  l.consumers = c.warpgroups * 128;
  l.loaders_end = l.consumers + 128;
  l.threads = l.loaders_end + (c.scan_registers > 0 ? 128 : 0);
  l.state_rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  l.rows = l.state_rows / c.abreast();
  l.value_columns = c.abreast() * c.e;
  l.columns = l.value_columns + (c.ones() ? 8 : 0);
  l.block_octets = c.warpgroups * 8 * c.m_tiles;
  l.matrix_octet = (update_rows(c).units - 1) * c.m_tiles * 8;
  l.last_tiles = update_rows(c).last_tiles;
  l.row_blocks = update_row_blocks(c);
  l.slices = c.sliced ? l.row_blocks : 1;
  l.slice_blocks = l.row_blocks / l.slices;
  l.key_panel_bytes = c.d * key_panel_row;
  l.keys_bytes = c.token_tile * c.d * 2;
  l.panel_row = l.value_columns * 2 < 128 ? l.value_columns * 2 : 128;
  l.value_panels = l.value_columns * 2 / l.panel_row;
  l.panel_bytes = c.token_tile * l.panel_row;
  l.stage_bytes = l.keys_bytes + (l.value_panels + (c.ones() ? 1 : 0)) * l.panel_bytes;
  l.raw_values_at = l.keys_bytes + (c.gated ? round_up((c.token_tile + 4) * 8, 128) : 0);
  l.raw_bytes = l.raw_values_at + (c.abreast() > 1 ? c.token_tile * c.e * 2 : 0);
  l.written_at = 2 * c.stages * 8;
  l.ring_at = round_up(l.written_at + 16, 1024);
  l.raw_at = l.ring_at + c.stages * l.stage_bytes;
  l.scan_at = l.raw_at + c.prefetch * l.raw_bytes;
  l.shared = l.scan_at + c.scan_depth * 96 * 16;
  return l;
}

}  // namespace phitune::sm90
