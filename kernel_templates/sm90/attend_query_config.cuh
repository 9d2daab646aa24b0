// Configuration and shared-memory layout of the Hopper attend_query kernel; the host side counts with the same functions.
#pragma once

#include "kernel_templates/sm90/key_tiles_config.cuh"
#include "kernel_templates/sm90/state_product_config.cuh"

namespace phitune::sm90 {

struct AttendQueryConfig {
  int d, e, p, d_tile;
  bool gated;
  bool normalised;
  int warpgroups;                            // that multiply; one more loads
  int m_tiles;                               // 64-row query tiles per warpgroup
  int steps;                                 // k16 steps of the state in one stage of the ring
  int batch;                                 // k16 steps of phi(q) that are formed at once, while the batch before is multiplied
  int stages;                                // depth of the ring
  bool overlap;                              // the product of a tile's weights with V and the next tile's scores are in flight together
  int query_tiles;                           // in shared memory: with two, the next work's queries come while this one's are used
  int consumer_registers, loader_registers;  // per thread, once the warpgroups have divided them
};

PHITUNE_DEVICE constexpr StateProductConfig state_product(const AttendQueryConfig& c) {
  return {
      .d = c.d, .p = c.p, .d_tile = c.d_tile, .columns = c.e + (c.normalised ? 8 : 0), .m_tiles = c.m_tiles, .steps = c.steps, .batch = c.batch};
}
PHITUNE_DEVICE constexpr KeyTilesConfig key_tiles(const AttendQueryConfig& c) {
  return {.d = c.d, .e = c.e, .p = c.p, .gated = c.gated, .ones = c.normalised};
}

struct AttendQueryLayout {
  int consumers, threads, block_rows;
  int slot_bytes;  // of the ring: a stage of the state, or a tile of keys
  int query_bytes;
  int barriers_at, gates_at, table_at, queries_at, ring_at, shared_bytes;
};

PHITUNE_DEVICE constexpr AttendQueryLayout attend_query_layout(const AttendQueryConfig& c) {
  AttendQueryLayout l{};
  const StateProductLayout state = state_product_layout(state_product(c));
  const int tile_bytes = key_tiles_layout(key_tiles(c)).stage_bytes;
  l.consumers = c.warpgroups * 128;
  l.threads = l.consumers + 128;
  l.block_rows = c.warpgroups * c.m_tiles * 64;
  l.slot_bytes = round_up(state.stage_bytes > tile_bytes ? state.stage_bytes : tile_bytes, 1024);
  l.query_bytes = l.block_rows * state.q_stride;
  l.barriers_at = 0;
  l.gates_at = round_up((2 * c.stages + 2 * c.query_tiles) * 8, 16);
  l.table_at = round_up(l.gates_at + c.query_tiles * 16, 128);
  l.queries_at = round_up(l.table_at + state.table_bytes, 128);
  l.ring_at = round_up(l.queries_at + c.query_tiles * l.query_bytes, 1024);
  l.shared_bytes = l.ring_at + c.stages * l.slot_bytes;
  return l;
}

}  // namespace phitune::sm90
