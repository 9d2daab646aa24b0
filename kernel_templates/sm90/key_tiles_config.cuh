// What the kernels with a quadratic form on Hopper and their host sides agree on.
#pragma once

#include "kernel_templates/common/numeric.cuh"

namespace phitune::sm90 {

/// Keys of a tile.
inline constexpr int tile_keys = 64;

struct KeyTilesConfig {
  int d, e, p;
  bool gated, sum;  // sum: row sums are needed
};

/// A stage: K tile, V tile, gates; bytes. Each tile lies in panels of up to 64 columns.
struct KeyTilesLayout {
  int values_at, gates_at, stage_bytes;
};

PHITUNE_DEVICE constexpr KeyTilesLayout key_tiles_layout(const KeyTilesConfig& c) {
  KeyTilesLayout l{};
  l.values_at = tile_keys * c.d * 2;
  l.gates_at = l.values_at + tile_keys * c.e * 2;
  // Swizzled rows repeat every 1024 bytes.
  l.stage_bytes = round_up(l.gates_at + (c.gated ? tile_keys * 8 : 0), 1024);
  return l;
}

}  // namespace phitune::sm90
