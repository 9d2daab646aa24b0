// Configuration and shared-memory layout of the Hopper query_state kernel; the host side counts with the same functions.
#pragma once

#include "kernel_templates/sm90/state_product_config.cuh"

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

PHITUNE_DEVICE constexpr StateProductConfig state_product(const QueryStateConfig& c) {
  return {.d = c.d,
          .p = c.p,
          .d_tile = c.d_tile,
          .columns = c.e + (c.normalised ? 8 : 0),
          .m_tiles = c.m_tiles,
          .steps = c.steps,
          .batch = c.batch};
}

/// Everything derived from a configuration beside the product's own layout; bytes and rows.
struct QueryStateLayout {
  int consumers, threads, block_rows;
  int epilogue_stride;  // floats
  int barriers_at, q_at, table_at, ring_at, shared_bytes;
};

PHITUNE_DEVICE constexpr QueryStateLayout query_state_layout(const QueryStateConfig& c) {
  QueryStateLayout l{};
  const StateProductLayout state = state_product_layout(state_product(c));
  l.consumers = c.warpgroups * 128;
  l.threads = l.consumers + 32;
  l.block_rows = c.warpgroups * c.m_tiles * 64;
  l.epilogue_stride = c.e + 8;
  l.barriers_at = 0;
  l.q_at = round_up(2 * c.stages * 8, 128);
  l.table_at = l.q_at + l.block_rows * state.q_stride;
  l.ring_at = round_up(l.table_at + state.table_bytes, 128);
  const int ring_bytes = c.stages * state.stage_bytes;
  const int epilogue_bytes = c.warpgroups * 4 * 16 * l.epilogue_stride * 4;
  l.shared_bytes = l.ring_at + (ring_bytes > epilogue_bytes ? ring_bytes : epilogue_bytes);
  return l;
}

}  // namespace phitune::sm90
