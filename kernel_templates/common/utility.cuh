// Kernels the harness itself needs: fill a tensor, make gates, look a whole output over, read a buffer. One entry point, chosen at run
// time, because none of them is timed against another.
#pragma once

#include "kernel_templates/common/instructions.cuh"
#include "kernel_templates/common/utility_args.cuh"

namespace phitune {

namespace utility {

PHITUNE_DEVICE void store(void* data, i64 index, Storage storage, float value) {
  if (storage == Storage::bf16) static_cast<u16*>(data)[index] = float_to_bf16(value);
  if (storage == Storage::fp16) static_cast<u16*>(data)[index] = float_to_fp16(value);
  if (storage == Storage::fp32) static_cast<float*>(data)[index] = value;
}

PHITUNE_DEVICE void fill(const UtilityArgs& args) {
  const i64 width = args.width, step = static_cast<i64>(grid_size_x()) * block_threads();
  for (i64 i = static_cast<i64>(block_index_x()) * block_threads() + thread_index(); i < args.count; i += step) {
    const i64 row = i / width, token_row = row / args.heads;
    const i64 address =
        (token_row / args.t) * args.strides.b + (token_row % args.t) * args.strides.t + (row % args.heads) * args.strides.h + i % width;
    store(args.data, address, static_cast<Storage>(args.storage), inputs::element(args.spec, static_cast<u64>(i)));
  }
}

// Each thread sums a run of tokens in double, thread 0 turns the sums into starts, and each thread walks its run again.
PHITUNE_DEVICE void gates(const UtilityArgs& args) {
  const int tokens = static_cast<int>(args.t), chunks = ceil_div(tokens, args.chunk), chunk = block_index_x() % chunks,
            head = block_index_x() / chunks % args.heads;
  const int b = block_index_x() / chunks / args.heads;
  const int begin = chunk * args.chunk, end = begin + args.chunk < tokens ? begin + args.chunk : tokens;
  const int run = ceil_div(end - begin, block_threads());
  const int first = begin + thread_index() * run, last = first + run < end ? first + run : end;
  const float* log_g = static_cast<const float*>(args.data) + b * args.strides.b + head * args.strides.h;
  float* out = static_cast<float*>(args.out) + (static_cast<i64>(b) * args.heads + head) * args.t * 2;
  double* starts = reinterpret_cast<double*>(shared_memory());
  double sum = 0;
  for (int i = first; i < last; ++i) sum += log_g[i * args.strides.t];
  starts[thread_index()] = sum;
  block_barrier();
  if (thread_index() == 0) {
    double total = 0;
    for (int i = 0; i < block_threads(); ++i) {
      const double part = starts[i];
      starts[i] = total;
      total += part;
    }
  }
  block_barrier();
  double running = starts[thread_index()];
  for (int i = first; i < last; ++i) {
    running += log_g[i * args.strides.t];
    const float high = static_cast<float>(running);
    out[2 * static_cast<i64>(i)] = high;
    out[2 * static_cast<i64>(i) + 1] = static_cast<float>(running - high);
  }
}

PHITUNE_DEVICE bool looked_at(const UtilityArgs& args, i64 index) {
  return index % args.row < args.columns && (index / args.group) % args.groups < args.checked_groups;
}

PHITUNE_DEVICE void inspect_element(const UtilityArgs& args, i64 index, Inspection& seen) {
  const Storage storage = static_cast<Storage>(args.storage);
  const bool wide = storage == Storage::fp32;
  const u32 bits = wide ? static_cast<const u32*>(args.data)[index] : static_cast<const u16*>(args.data)[index];
  seen.checksum += inputs::mix(bits + static_cast<u64>(index) * 0x9e3779b97f4a7c15ull);
  const u32 exponent = wide ? 0x7f800000u : storage == Storage::bf16 ? 0x7f80u : 0x7c00u;
  if ((bits & exponent) != exponent || !looked_at(args, index)) return;
  if (bits == (wide ? 0xffffffffu : 0xffffu))
    ++seen.unwritten;
  else
    ++seen.nonfinite;
  if (seen.first_bad < 0) seen.first_bad = index;
}

PHITUNE_DEVICE void inspect(const UtilityArgs& args) {
  Inspection seen;
  const i64 step = static_cast<i64>(grid_size_x()) * block_threads();
  for (i64 i = static_cast<i64>(block_index_x()) * block_threads() + thread_index(); i < args.count; i += step)
    inspect_element(args, i, seen);
  Inspection* shared = reinterpret_cast<Inspection*>(shared_memory());
  shared[thread_index()] = seen;
  block_barrier();
  if (thread_index() != 0) return;
  for (int i = 1; i < block_threads(); ++i) merge(seen, shared[i]);
  static_cast<Inspection*>(args.out)[block_index_x()] = seen;
}

PHITUNE_DEVICE void read(const UtilityArgs& args) {
  const U4* words = static_cast<const U4*>(args.data);
  u32 sum = 0;
  const i64 step = static_cast<i64>(grid_size_x()) * block_threads();
  for (i64 i = static_cast<i64>(block_index_x()) * block_threads() + thread_index(); i < args.count; i += step) {
    const U4 word = words[i];
    sum += word.x ^ word.y ^ word.z ^ word.w;
  }
  // A store that may happen keeps the loads from being optimised away; `out` is never looked at.
  if (sum == 0xdeadbeefu) static_cast<u32*>(args.out)[block_index_x()] = sum;
}

}  // namespace utility

PHITUNE_DEVICE void run_utility(const UtilityArgs& args) {
  switch (static_cast<Utility>(args.operation)) {
    case Utility::fill:
      utility::fill(args);
      break;
    case Utility::gates:
      utility::gates(args);
      break;
    case Utility::inspect:
      utility::inspect(args);
      break;
    case Utility::read:
      utility::read(args);
      break;
  }
}

}  // namespace phitune
