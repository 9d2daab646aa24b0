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
  int ahead;         // m tiles of phi(K) in registers, being formed or multiplied
  bool prefetch;     // the loading threads hold two tiles in registers: one on its way from memory, one to be stored
  int consumer_registers, loader_registers;  // per thread, once the warpgroups have divided them
};

/// Everything derived from a configuration; bytes and rows. An *octet* is eight rows of the state that lie in one row of core matrices.
struct UpdateStateLayout {
  int consumers, threads;
  int rows;           // of the state, D
  int row_length;     // R
  int columns;        // of the product: e, and eight for the denominator
  int block_octets;   // octets of a block
  int row_blocks;     // blocks that cover the state of one chunk
  int key_row_bytes;  // of one transposed feature
  int keys_bytes, step_bytes, stage_bytes;
  int ring_at, weights_at;
};

PHITUNE_DEVICE constexpr UpdateStateLayout update_state_layout(const UpdateStateConfig& c) {
  UpdateStateLayout l{};
  l.consumers = c.warpgroups * 128;
  l.threads = l.consumers + 128;
  l.rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  l.row_length = c.e + (c.sum ? 8 : 0);
  l.columns = l.row_length;
  l.block_octets = c.warpgroups * 8 * c.m_tiles;
  l.row_blocks = ceil_div(l.rows / 8, l.block_octets);
  l.key_row_bytes = c.token_tile * 2;
  l.keys_bytes = c.d * l.key_row_bytes;
  l.step_bytes = 16 * l.columns * 2;
  l.stage_bytes = l.keys_bytes + c.token_tile / 16 * l.step_bytes;
  l.ring_at = round_up(2 * c.stages * 8, 128);
  l.weights_at = l.ring_at + c.stages * l.stage_bytes;
  return l;
}

/// Dynamic shared memory: the ring, and behind it one weight per token of a chunk, in whole tiles.
PHITUNE_DEVICE constexpr int update_state_shared(const UpdateStateConfig& c, int chunk) {
  return update_state_layout(c).weights_at + (c.gated || c.sum ? round_up(chunk, c.token_tile) * 4 : 0);
}

}  // namespace phitune::sm90
