// Configuration and shared-memory layout of the Hopper update_state kernel; the host side counts with the same functions.
#pragma once

#include "kernel_templates/common/state_layout.cuh"

namespace phitune::sm90 {

struct UpdateStateConfig {
  int d, e, p, d_tile;
  bool final_state;  // the last chunk's update is wanted too
  bool gated, sum;   // sum: normalisation "sum", update_z is wanted and U's rows are eight columns longer
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
};

/// Blocks of `block_rows` rows of the product that cover the state of one chunk. Wide rows: the tuples of each last tile by themselves.
PHITUNE_DEVICE constexpr int update_row_blocks(int d, int p, int d_tile, int block_rows) {
  const int tiles = d / d_tile;
  if (!wide_rows(p, d_tile)) return static_cast<int>((tspow::rows(tiles, p, d_tile) + block_rows - 1) / block_rows);
  int blocks = 0;
  for (int last = 0; last < tiles; ++last) blocks += ceil_div(static_cast<int>(tspow::rows(last + 1, p - 1, d_tile)), block_rows);
  return blocks;
}

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
  int row_blocks;     // blocks that cover the state of one chunk
  int slices;         // parts of a state whose chunks follow each other: the whole, or each block of rows
  int slice_blocks;   // blocks of rows in a slice
  int key_row_bytes;  // of one transposed feature
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
  l.columns = l.value_columns + (c.sum ? 8 : 0);
  l.block_octets = c.warpgroups * 8 * c.m_tiles;
  l.row_blocks = update_row_blocks(c.d, c.p, c.d_tile, l.block_octets * 8);
  l.slices = c.sliced ? l.row_blocks : 1;
  l.slice_blocks = l.row_blocks / l.slices;
  l.key_row_bytes = c.token_tile * 2;
  l.keys_bytes = c.d * l.key_row_bytes;
  l.panel_row = l.value_columns * 2 < 128 ? l.value_columns * 2 : 128;
  l.value_panels = l.value_columns * 2 / l.panel_row;
  l.panel_bytes = c.token_tile * l.panel_row;
  l.stage_bytes = l.keys_bytes + (l.value_panels + (c.sum ? 1 : 0)) * l.panel_bytes;
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
