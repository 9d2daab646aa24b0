// Configuration of query_state and the layout of its shared memory: one definition for the kernel and for the host side.
#pragma once

#include "kernel_templates/sm80/state_product_config.cuh"

namespace phitune {

struct QueryStateConfig {
  int d, e, p, d_tile;
  Storage input;    // q and y
  Storage state;    // as of the product
  Storage partial;  // attention's partial outputs
  bool gated;
  bool normalised;
  int warps;    // per block
  int m_tiles;  // 16-row tiles per warp
  int steps;    // k16 steps of the state in one stage of the ring
  int stages;   // depth of the ring
};

PHITUNE_DEVICE constexpr StateProductConfig state_product_config(const QueryStateConfig& c) {
  return {.d = c.d,
          .e = c.e,
          .p = c.p,
          .d_tile = c.d_tile,
          .input = c.input,
          .state = c.state,
          .normalised = c.normalised,
          .warps = c.warps,
          .m_tiles = c.m_tiles,
          .steps = c.steps,
          .stages = c.stages};
}

struct QueryStateLayout {
  StateProductLayout product;
  int shared_bytes;     // results pass through the ring's memory at the end
  int epilogue_stride;  // floats
};

PHITUNE_DEVICE constexpr QueryStateLayout query_state_layout(const QueryStateConfig& c) {
  QueryStateLayout l{};
  l.product = state_product_layout(state_product_config(c));
  l.epilogue_stride = c.e + 8;
  const int epilogue_end = l.product.ring_at + c.warps * 16 * l.epilogue_stride * 4;
  l.shared_bytes = l.product.shared_bytes > epilogue_end ? l.product.shared_bytes : epilogue_end;
  return l;
}

}  // namespace phitune
