// Configuration and shared-memory layout of the Hopper update_state kernel; the host side counts with the same functions.
#pragma once

#include "kernel_templates/common/tspow.cuh"

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
};

/// Everything derived from a configuration; bytes and rows. An *octet* is eight rows of the state that lie in one row of core matrices.
struct UpdateStateLayout {
  int consumers, loaders_end, threads;  // loading threads follow those that multiply, scanning ones follow them
  int rows;           // of the state, D
  int row_length;     // R
  int columns;        // of the product: e, and eight for the denominator
  int block_octets;   // octets of a block
  int row_blocks;     // blocks that cover the state of one chunk
  int slices;         // parts of a state whose chunks follow each other: the whole, or each block of rows
  int slice_blocks;   // blocks of rows in a slice
  int key_row_bytes;  // of one transposed feature
  // V lies in panels of rows of at most 128 bytes, as swizzled_rows_of_n reads them; behind them one whose first column is ones.
  int panel_row, value_panels, panel_bytes;
  int keys_bytes, stage_bytes, raw_bytes;
  int written_at, ring_at, raw_at, scan_at, shared;
};

PHITUNE_DEVICE constexpr UpdateStateLayout update_state_layout(const UpdateStateConfig& c) {
  UpdateStateLayout l{};
  l.consumers = c.warpgroups * 128;
  l.loaders_end = l.consumers + 128;
  l.threads = l.loaders_end + (c.scan_registers > 0 ? 128 : 0);
  l.rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  l.row_length = c.e + (c.sum ? 8 : 0);
  l.columns = l.row_length;
  l.block_octets = c.warpgroups * 8 * c.m_tiles;
  l.row_blocks = ceil_div(l.rows / 8, l.block_octets);
  l.slices = c.sliced ? l.row_blocks : 1;
  l.slice_blocks = l.row_blocks / l.slices;
  l.key_row_bytes = c.token_tile * 2;
  l.keys_bytes = c.d * l.key_row_bytes;
  l.panel_row = c.e * 2 < 128 ? c.e * 2 : 128;
  l.value_panels = c.e * 2 / l.panel_row;
  l.panel_bytes = c.token_tile * l.panel_row;
  l.stage_bytes = l.keys_bytes + (l.value_panels + (c.sum ? 1 : 0)) * l.panel_bytes;
  l.raw_bytes = l.keys_bytes + (c.gated ? round_up((c.token_tile + 4) * 8, 128) : 0);
  l.written_at = 2 * c.stages * 8;
  l.ring_at = round_up(l.written_at + 16, 1024);
  l.raw_at = l.ring_at + c.stages * l.stage_bytes;
  l.scan_at = l.raw_at + c.prefetch * l.raw_bytes;
  l.shared = l.scan_at + c.scan_depth * 96 * 16;
  return l;
}

}  // namespace phitune::sm90
