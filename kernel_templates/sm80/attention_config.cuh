// What the attention kernel and its host side agree on.
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
  bool sum = true;         // row sums are needed
  bool quadratic = false;  // writes y; else unnormalised partial outputs and their row sums
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

/// Byte offsets: Q tile, ring of K and V tiles, gates of two key tiles. 16-bit outputs pass through the same memory at the end.
PHITUNE_DEVICE constexpr AttentionShared attention_shared(const AttentionConfig& c) {
  AttentionShared s{};
  s.ring = attention_rows(c) * c.d * 2;
  s.stage = c.key_tile * (c.d + c.e) * 2;
  s.gates = s.ring + c.stages * s.stage;
  s.output_pitch = c.e * 2 + 16;
  const int inputs = s.gates + (c.gated ? 2 * c.key_tile * 8 : 0);
  const int outputs = c.output == Storage::fp32 ? 0 : attention_rows(c) * s.output_pitch;
  s.bytes = inputs > outputs ? inputs : outputs;
  return s;
}

}  // namespace phitune
