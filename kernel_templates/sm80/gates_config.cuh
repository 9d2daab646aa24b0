// What the gates kernel (gates.cuh) and its host side agree on.
#pragma once

#include "kernel_templates/common/numeric.cuh"

namespace phitune {

struct GatesConfig {
  int threads = 256;
  int items = 4;     // consecutive tokens of a thread per tile
  int heads = 1;     // of a block; a power of two, and each has whole warps
  int segments = 1;  // of a chunk, a block each
};

struct GatesLayout {
  int head_threads, tile;  // threads of a head, tokens of a tile
  int stride;              // floats of a head's row of a tile
  int sums_at, totals_at, before_at, shared_bytes;
};

PHITUNE_DEVICE constexpr GatesLayout gates_layout(const GatesConfig& c) {
  GatesLayout l{};
  l.head_threads = c.threads / c.heads;
  l.tile = l.head_threads * c.items;
  // (Threads of a warp write all heads of neighbouring tokens: rows a little apart put them in different banks.)
  l.stride = l.tile + 32 / c.heads;
  l.sums_at = round_up(c.heads * l.stride * 4, 16);
  l.totals_at = c.heads == 1 ? 0 : l.sums_at + c.threads * c.items * 8;
  // Two sets of warps' totals, used by turns, need one barrier per tile.
  l.before_at = l.totals_at + 2 * (c.threads / 32) * 8;
  l.shared_bytes = l.before_at + (c.segments > 1 ? c.threads / 32 * c.heads * 8 : 0);
  return l;
}

}  // namespace phitune
