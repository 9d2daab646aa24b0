// What the kernels that attend to keys (attention, attend_query) and their host sides agree on.
#pragma once

#include "kernel_templates/common/numeric.cuh"

namespace phitune {

struct AttentionConfig {
  int d = 64;
  int e = 64;
  int p = 2;
  Storage input = Storage::bf16;
  Storage output = Storage::bf16;  // of y, or of the partial outputs
  bool gated = true;
  bool sum = true;           // row sums are needed
  bool complete = false;     // writes y; else unnormalised partial outputs and their row sums
  bool after_state = false;  // rows begin with phi(q) S, and queries lie as its product wants them (attend_query)
  int warps = 4;
  int m_tiles = 1;    // 16-row tiles of a warp
  int key_tile = 64;  // keys of a pipeline stage
  int stages = 2;
  bool q_registers = true;  // keep Q's fragments in registers rather than read them again for every 16 keys
};

PHITUNE_DEVICE constexpr int attention_rows(const AttentionConfig& c) { return c.warps * c.m_tiles * 16; }

struct AttentionShared {
  int ring, stage, gates, output_pitch, bytes;
};

/// Bytes between rows of Q: an unpadded tile (tile.cuh), or padded rows (state_product_config.cuh).
PHITUNE_DEVICE constexpr int attention_q_pitch(const AttentionConfig& c) { return c.d * 2 + (c.after_state ? 16 : 0); }

/// Byte offsets: Q tile, ring of K and V tiles, gates of two key tiles. 16-bit outputs pass through the same memory at the end.
PHITUNE_DEVICE constexpr AttentionShared attention_shared(const AttentionConfig& c) {
  AttentionShared s{};
  s.ring = attention_rows(c) * attention_q_pitch(c);
  s.stage = c.key_tile * (c.d + c.e) * 2;
  s.gates = s.ring + c.stages * s.stage;
  s.output_pitch = c.e * 2 + 16;
  const int inputs = s.gates + (c.gated ? 2 * c.key_tile * 8 : 0);
  const int outputs = c.output == Storage::fp32 ? 0 : attention_rows(c) * s.output_pitch;
  s.bytes = inputs > outputs ? inputs : outputs;
  return s;
}

}  // namespace phitune
