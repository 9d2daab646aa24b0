// combine (materialized): y = (partial + exp(G_i) inter[:e]) / (row_sum + exp(G_i) (inter[e] + inter[e+1] + inter[e+2])), or the numerator
// alone without normalisation. Grid: x = rows of tokens, y = query head, z = batch; a thread owns 8 columns of some tokens.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/gate.cuh"

namespace phitune {

struct CombineConfig {
  int e = 64;
  Storage output = Storage::bf16;
  Storage partial = Storage::bf16;
  bool gated = true;
  bool sum = true;
  int threads = 256;
  int unroll = 1;  // tokens of a thread
};

/// Tokens of a block.
PHITUNE_DEVICE constexpr int combine_tokens(const CombineConfig& c) { return c.threads / (c.e / 8) * c.unroll; }

namespace combine_detail {

template <Storage S>
PHITUNE_DEVICE void load_8(float (&x)[8], const void* base, i64 index) {
  const char* p = static_cast<const char*>(base) + index * storage_bytes(S);
  const U4 a = load_global_16_streaming(p);
  const u32 words[4] = {a.x, a.y, a.z, a.w};
  if constexpr (S == Storage::fp32) {
    const U4 b = load_global_16_streaming(p + 16);
    const u32 more[4] = {b.x, b.y, b.z, b.w};
    PHITUNE_UNROLL
    for (int i = 0; i < 4; ++i) x[i] = bits_float(words[i]), x[4 + i] = bits_float(more[i]);
  } else {
    PHITUNE_UNROLL
    for (int i = 0; i < 4; ++i) x[2 * i] = unpack_low<S>(words[i]), x[2 * i + 1] = unpack_high<S>(words[i]);
  }
}

template <Storage S>
PHITUNE_DEVICE U4 pack_8(const float (&x)[8]) {
  static_assert(S != Storage::fp32);
  if constexpr (S == Storage::bf16)
    return {pack_bf16x2(x[0], x[1]), pack_bf16x2(x[2], x[3]), pack_bf16x2(x[4], x[5]), pack_bf16x2(x[6], x[7])};
  else
    return {pack_f16x2(x[0], x[1]), pack_f16x2(x[2], x[3]), pack_f16x2(x[4], x[5]), pack_f16x2(x[6], x[7])};
}

}  // namespace combine_detail

template <CombineConfig C>
PHITUNE_DEVICE void combine(const Args& args) {
  wait_for_earlier_kernels();
  using namespace combine_detail;
  constexpr int columns = C.e + (C.sum ? 8 : 0), groups = C.e / 8, step = C.threads / groups;
  const int head = block_index_y(), batch = block_index_z(), column = thread_index() % groups * 8;
  const int first = block_index_x() * combine_tokens(C) + thread_index() / groups;
  const i64 head_row = static_cast<i64>(batch) * args.hq + head;
  const i64 gate_row = (static_cast<i64>(batch) * args.hk + head / (args.hq / args.hk)) * args.t;
  char* y = static_cast<char*>(args.y) + (batch * args.y_strides.b + head * args.y_strides.h + column) * 2;

  PHITUNE_UNROLL
  for (int u = 0; u < C.unroll; ++u) {
    const int token = first + u * step;
    if (token >= args.t) return;
    const i64 inter_row = (head_row * args.chunks * args.chunk + token) * columns, row = head_row * args.t + token;
    float near[8], far[8];
    load_8<C.partial>(near, args.partial, row * C.e + column);
    load_8<Storage::fp32>(far, args.inter, inter_row + column);
    float weight = 1.0f, denominator = 1.0f;
    if constexpr (C.gated) weight = gate_weight(reinterpret_cast<const F2*>(args.gates)[gate_row + token]);
    if constexpr (C.sum) {
      const float* z = args.inter + inter_row + C.e;
      denominator = args.row_sum[row] + weight * (z[0] + z[1] + z[2]);
    }
    PHITUNE_UNROLL
    for (int i = 0; i < 8; ++i) near[i] = denominator == 0.0f ? 0.0f : (near[i] + weight * far[i]) / denominator;
    store_global_16(y + token * args.y_strides.t * 2, pack_8<C.output>(near));
  }
}

}  // namespace phitune
