// What the kernels with a quadratic form on Hopper and their host sides agree on.
#pragma once

#include "kernel_templates/common/numeric.cuh"

namespace phitune::sm90 {

/// Keys of a tile.
inline constexpr int tile_keys = 64;

/// Bytes between core matrices of V.
inline constexpr int core_stride = 128 + 16;

struct KeyTilesConfig {
  int d, e, p;
  bool gated;
  bool ones;  // eight columns more of V, a one and zeros: row sums come with the products, of the weights as they are multiplied
};

/// A stage: K tile, V tile, gates; bytes. K lies in panels of up to 64 columns, V in core matrices, `step_bytes` for 16 keys.
/// Neighbouring core matrices are 16 bytes more than their 128 apart, so that a row of V is written to different banks.
struct KeyTilesLayout {
  int columns;  // of V's product
  int values_at, step_bytes, gates_at, stage_bytes;
};

PHITUNE_DEVICE constexpr KeyTilesLayout key_tiles_layout(const KeyTilesConfig& c) {
  KeyTilesLayout l{};
  l.columns = c.e + (c.ones ? 8 : 0);
  l.values_at = tile_keys * c.d * 2;
  l.step_bytes = 2 * (l.columns / 8) * core_stride;
  l.gates_at = l.values_at + tile_keys / 16 * l.step_bytes;
  // Swizzled rows repeat every 1024 bytes.
  l.stage_bytes = round_up(l.gates_at + (c.gated ? tile_keys * 8 : 0), 1024);
  return l;
}

}  // namespace phitune::sm90
