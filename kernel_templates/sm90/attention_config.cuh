// What the Hopper attention kernel and its host side agree on.
#pragma once

#include "kernel_templates/common/numeric.cuh"

namespace phitune::sm90 {

struct AttentionConfig {
  int d, e, p;
  Storage output;  // of y, or of the partial outputs
  bool gated;
  bool sum;                                  // row sums are needed
  bool quadratic;                            // writes y; else unnormalised partial outputs and their row sums
  int warpgroups;                            // of 64 query rows each; one more loads
  int stages;                                // tiles of 64 keys in shared memory
  int consumer_registers, loader_registers;  // per thread, once the warpgroups have divided them
};

/// Keys of a tile.
inline constexpr int attention_keys = 64;

PHITUNE_DEVICE constexpr int attention_rows(const AttentionConfig& c) { return c.warpgroups * 64; }

struct AttentionLayout {
  int consumers, threads;
  int keys_bytes, gates_at, stage_bytes;  // a stage: K tile, V tile, gates, each tile in panels of up to 64 columns
  int ring_at, shared_bytes;
};

PHITUNE_DEVICE constexpr AttentionLayout attention_layout(const AttentionConfig& c) {
  AttentionLayout l{};
  l.consumers = c.warpgroups * 128;
  l.threads = l.consumers + 128;
  l.keys_bytes = attention_keys * c.d * 2;
  l.gates_at = l.keys_bytes + attention_keys * c.e * 2;
  // Swizzled rows repeat every 1024 bytes.
  l.stage_bytes = round_up(l.gates_at + (c.gated ? attention_keys * 8 : 0), 1024);
  l.ring_at = 1024;
  l.shared_bytes = l.ring_at + c.stages * l.stage_bytes;
  return l;
}

}  // namespace phitune::sm90
