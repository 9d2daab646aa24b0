// Configuration of attend_query and the layout of its shared memory: one definition for the kernel and for the host side.
#pragma once

#include "kernel_templates/sm80/attention_config.cuh"
#include "kernel_templates/sm80/state_product_config.cuh"

namespace phitune {

struct AttendQueryConfig {
  int d, e, p, d_tile;
  Storage input;  // q, k, v and y
  Storage state;
  bool gated;
  bool normalised;
  int warps;         // per block
  int m_tiles;       // 16-row tiles per warp
  int steps;         // k16 steps of the state in one stage of its ring
  int stages;        // of the state's ring
  int key_tile;      // keys in one stage of their ring
  int key_stages;    // of the keys' ring
  bool q_registers;  // keep Q's fragments in registers while keys are added
};

/// The part that adds the state.
PHITUNE_DEVICE constexpr StateProductConfig state_part(const AttendQueryConfig& c) {
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

/// The part that adds the chunk's own keys.
PHITUNE_DEVICE constexpr AttentionConfig key_part(const AttendQueryConfig& c) {
  return {.d = c.d,
          .e = c.e,
          .p = c.p,
          .input = c.input,
          .output = c.input,
          .gated = c.gated,
          .sum = c.normalised,
          .complete = true,
          .after_state = true,
          .warps = c.warps,
          .m_tiles = c.m_tiles,
          .key_tile = c.key_tile,
          .stages = c.key_stages,
          .q_registers = c.q_registers};
}

/// Bytes of shared memory: both parts have the queries in the same rows, and the rest by turns.
PHITUNE_DEVICE constexpr int attend_query_shared(const AttendQueryConfig& c) {
  const int state = state_product_layout(state_part(c)).shared_bytes, keys = attention_shared(key_part(c)).bytes;
  return state > keys ? state : keys;
}

}  // namespace phitune
