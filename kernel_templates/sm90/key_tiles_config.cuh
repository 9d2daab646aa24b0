// What the kernels with a quadratic form on Hopper and their host sides agree on.
#pragma once

#include "kernel_templates/common/numeric.cuh"

namespace phitune::sm90 {

/// Keys of a tile.
inline constexpr int tile_keys = 64;

struct KeyTilesConfig {
  int d, e, p;
  bool gated;
  bool ones;  // eight columns more of V, a one and zeros: row sums come with the products, of the weights as they are multiplied
};

/// A stage: K tile, V tile, gates; bytes. K and V lie in panels of up to 64 columns: rows of up to 128 bytes, swizzled, so that neither copies
/// nor products meet a bank twice. The ones are the first columns of a panel more: behind those of V where V has two, because panels are
/// equally far apart; else there is one such panel for all stages.
struct KeyTilesLayout {
  int columns;  // of V's product
  int values_at, ones_at, gates_at, stage_bytes;
  bool shared_ones;  // outside of the stages
  int ones_bytes;    // of the panel
};

PHITUNE_DEVICE constexpr KeyTilesLayout key_tiles_layout(const KeyTilesConfig& c) {
  KeyTilesLayout l{};
  l.columns = c.e + (c.ones ? 8 : 0);
  l.shared_ones = c.ones && c.e <= 64;
  l.ones_bytes = c.ones ? tile_keys * (c.e < 64 ? c.e : 64) * 2 : 0;
  l.values_at = tile_keys * c.d * 2;
  l.ones_at = l.values_at + tile_keys * c.e * 2;
  l.gates_at = l.ones_at + (l.shared_ones ? 0 : l.ones_bytes);
  // Swizzled rows repeat every 1024 bytes.
  l.stage_bytes = round_up(l.gates_at + (c.gated ? tile_keys * 8 : 0), 1024);
  return l;
}

}  // namespace phitune::sm90
