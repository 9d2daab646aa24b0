// What the product of queries with the denominator matrix and its host side agree on.
#pragma once

#include "kernel_templates/common/state_layout.cuh"

namespace phitune::sm90 {

struct DenominatorProductConfig {
  int d;
  int m_tiles;     // 64-row query tiles per warpgroup
  int slot_bytes;  // of the ring, for the state's stages
};

/// Z in k16 steps, two for every 16 features, as many in a stage as fit.
struct DenominatorProductLayout {
  int step_bytes, stage_steps, stage_bytes, stage_count;
};

PHITUNE_DEVICE constexpr DenominatorProductLayout denominator_product_layout(const DenominatorProductConfig& c) {
  DenominatorProductLayout l{};
  const int steps = c.d / 8;
  l.step_bytes = 16 * c.d * 2;
  l.stage_steps = steps;
  while (l.stage_steps > 1 && l.stage_steps * l.step_bytes > c.slot_bytes) l.stage_steps /= 2;
  l.stage_bytes = l.stage_steps * l.step_bytes;
  l.stage_count = steps / l.stage_steps;
  return l;
}

}  // namespace phitune::sm90
