// What the Hopper attention kernel in fp16 (half_attention.cuh) and its host side agree on.
#pragma once

#include "kernel_templates/common/numeric.cuh"
#include "kernel_templates/sm90/attention_config.cuh"

namespace phitune::sm90 {

struct HalfAttentionConfig {
  int d = 0, e = 0, p = 2;
  bool gated = false;
  int warpgroups = 1;   // that multiply, each 128 query rows
  int stages = 2;       // of the ring in shared memory
  int query_tiles = 1;  // in shared memory: with two, the next work's queries come while this one's are used
  int consumer_registers = 0, loader_registers = 0;  // per thread, once the warpgroups have divided them
};

/// Keys of a tile, which is also what the query rows of a warpgroup are.
inline constexpr int half_keys = 128;

/// A tile of weighed keys, as it lies in memory and in shared memory; bytes. Both operands are core matrices with k contiguous (SharedMatrix):
/// for every 16 features [half][8 keys][8 features], for every 16 keys [half][8 columns][8 keys] of e columns of V and eight more, the first
/// of which are the ones' weights. Behind them the tile's exponent.
struct HalfTileLayout {
  int key_step_bytes, columns, value_step_bytes;
  int values_at, exponent_at, bytes;
};
PHITUNE_DEVICE constexpr HalfTileLayout half_tile_layout(const HalfAttentionConfig& c) {
  HalfTileLayout l{};
  l.key_step_bytes = half_keys * 16 * 2;
  l.columns = c.e + 8;
  l.value_step_bytes = l.columns * 16 * 2;
  l.values_at = c.d / 16 * l.key_step_bytes;
  l.exponent_at = l.values_at + half_keys / 16 * l.value_step_bytes;
  l.bytes = l.exponent_at + 16;
  return l;
}
PHITUNE_DEVICE constexpr int half_tiles(int t) { return ceil_div(t, half_keys); }

struct HalfAttentionLayout {
  int consumers, threads, block_rows;
  int query_stride, query_bytes, stage_bytes;
  int barriers_at, references_at, queries_at, ring_at, shared_bytes;
};

PHITUNE_DEVICE constexpr HalfAttentionLayout half_attention_layout(const HalfAttentionConfig& c) {
  HalfAttentionLayout l{};
  l.consumers = c.warpgroups * 128;
  l.threads = l.consumers + 128;
  l.block_rows = c.warpgroups * half_keys;
  l.query_stride = query_stride(c.d);
  l.query_bytes = l.block_rows * l.query_stride;
  l.stage_bytes = round_up(half_tile_layout(c).bytes, 128);
  l.barriers_at = 0;
  l.references_at = round_up((2 * c.stages + 2 * c.query_tiles) * 8, 16);
  l.queries_at = round_up(l.references_at + c.query_tiles * 16, 128);
  l.ring_at = round_up(l.queries_at + c.query_tiles * l.query_bytes, 1024);
  l.shared_bytes = l.ring_at + c.stages * l.stage_bytes;
  return l;
}

}  // namespace phitune::sm90
