// What the harness's own kernels receive and return; shared by the host side and the kernels (utility.cuh).
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/inputs.cuh"

namespace phitune {

enum class Utility : int { fill, gates, inspect, read };

/// fill: writes `count` elements of `spec` to `data` as `storage`; logical index (b, t, head, column < width) is laid out by `strides`.
///
/// gates: cumulative gates [b][heads][t][2] of the log gates at `data` (by `strides`, chunks of `chunk` tokens) to `out`. One block for
/// each of b * heads * chunks.
///
/// inspect: per block an Inspection of `count` elements of `storage` at `data` to `out`. Elements whose column (index % row) is at least
/// `columns`, or whose group ((index / group) % groups) is at least `checked_groups`, count in the checksum alone.
///
/// read: loads all of `data` (count = 16-byte words); `out` is scratch of one word per block.
struct UtilityArgs {
  int operation = 0;
  int storage = 0;
  void* data = nullptr;
  void* out = nullptr;
  i64 count = 0;
  inputs::Spec spec;
  Strides strides;
  i64 t = 1;
  int b = 1, heads = 1, chunk = 1, width = 1;
  int row = 1, columns = 1;
  i64 group = 1;
  int groups = 1, checked_groups = 1;
};

/// What one block saw. `unwritten` counts elements that still hold the poison (all bits set), `nonfinite` the other NaNs and infinities.
struct Inspection {
  u64 checksum = 0;
  u64 unwritten = 0;
  u64 nonfinite = 0;
  i64 first_bad = -1;  // smallest index of either
};

inline constexpr int kUtilityThreads = 256;
inline constexpr int kUtilitySharedBytes = kUtilityThreads * static_cast<int>(sizeof(Inspection));

/// Of two parts of one buffer.
PHITUNE_DEVICE void merge(Inspection& into, const Inspection& other) {
  into.checksum += other.checksum;
  into.unwritten += other.unwritten;
  into.nonfinite += other.nonfinite;
  if (into.first_bad < 0 || (other.first_bad >= 0 && other.first_bad < into.first_bad)) into.first_bad = other.first_bad;
}

}  // namespace phitune
