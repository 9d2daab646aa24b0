// y = (partial + exp(G_i) phi(q_i) S) / (row_sum + exp(G_i) phi(q_i) z): what the state before a chunk adds to its tokens. The product is
// state_product.cuh's; here is what follows it.
#pragma once

#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/sm80/query_state_config.cuh"
#include "kernel_templates/sm80/state_product.cuh"

namespace phitune {

/// A block's product with an epilogue, one 16-row tile of a warp at a time.
template <QueryStateConfig C>
struct QueryState : StateProduct<state_product_config(C)> {
  static constexpr QueryStateLayout L = query_state_layout(C);
  using Product = StateProduct<state_product_config(C)>;
  using Product::acc, Product::args, Product::place, Product::ring;

  PHITUNE_DEVICE explicit QueryState(const Args& a) : Product(a, block_index_x()) {}

  PHITUNE_DEVICE float gate_factor(int token) const {
    if constexpr (!C.gated)
      return 1.0f;
    else
      return gate_weight(
          reinterpret_cast<const F2*>(args.gates)[(static_cast<i64>(place.batch) * args.hk + place.kv_head) * args.t + token]);
  }

  PHITUNE_DEVICE i64 output_row(int token) const { return (static_cast<i64>(place.batch) * args.hq + place.head) * args.t + token; }

  // exp(G) phi(q) S of 16 rows to `out`, and behind each row the inverse of its denominator.
  PHITUNE_DEVICE void stage_tile(float* out, int m, int first_row) const {
    const int g = lane() / 4, t = lane() % 4;
    PHITUNE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + g + 8 * h;
      const int token = place.first_token + (row < place.valid_rows ? row : 0);
      float* const to = out + (g + 8 * h) * L.epilogue_stride;
      const float factor = gate_factor(token);
      PHITUNE_UNROLL
      for (int n = 0; n < C.e / 8; ++n)
        *reinterpret_cast<F2*>(to + n * 8 + 2 * t) = F2{factor * acc[m][n][2 * h], factor * acc[m][n][2 * h + 1]};
      if constexpr (C.normalised) {
        float sum = this->denominator_share(m, h);
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const float denominator = args.row_sum[output_row(token)] + factor * sum;
        if (t == 0) to[C.e] = denominator != 0.0f ? 1.0f / denominator : 0.0f;
      }
    }
  }

  PHITUNE_DEVICE void read_partial(float (&out)[8], i64 row, int column) const {
    const char* const at = static_cast<const char*>(args.partial) + (row * C.e + column) * storage_bytes(C.partial);
    if constexpr (C.partial == Storage::fp32) {
      const F4 a = reinterpret_cast<const F4*>(at)[0], b = reinterpret_cast<const F4*>(at)[1];
      out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w, out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
    } else {
      const U4 v = *reinterpret_cast<const U4*>(at);
      const u32 words[4] = {v.x, v.y, v.z, v.w};
      PHITUNE_UNROLL
      for (int i = 0; i < 4; ++i) out[2 * i] = unpack_low<C.partial>(words[i]), out[2 * i + 1] = unpack_high<C.partial>(words[i]);
    }
  }

  PHITUNE_DEVICE void write_vector(const float* staged, int row, int column) const {
    const int token = place.first_token + row;
    float out[8];
    read_partial(out, output_row(token), column);
    PHITUNE_UNROLL
    for (int i = 0; i < 8; ++i) out[i] += staged[column + i];
    if constexpr (C.normalised) {
      PHITUNE_UNROLL
      for (int i = 0; i < 8; ++i) out[i] *= staged[C.e];
    }
    u16* const y = static_cast<u16*>(args.y) + place.batch * args.y_strides.b + token * args.y_strides.t + place.head * args.y_strides.h;
    store_vector_8<C.input>(y + column, out);
  }

  PHITUNE_DEVICE void write_outputs() {
    this->set_place_again(block_index_x());
    constexpr int vectors = C.e / 8;
    float* const staging = reinterpret_cast<float*>(ring()) + warp() * (16 * L.epilogue_stride);
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      const int first_row = (warp() * C.m_tiles + m) * 16;
      stage_tile(staging, m, first_row);
      warp_barrier();
      PHITUNE_UNROLL
      for (int i = 0; i < vectors / 2; ++i) {
        const int at = lane() + 32 * i;
        const int row = at / vectors;
        if (first_row + row < place.valid_rows) write_vector(staging + row * L.epilogue_stride, first_row + row, at % vectors * 8);
      }
      warp_barrier();
    }
  }
};

/// Launch: query_state_layout(C) threads and shared bytes; x = b * hk * chunks * (hq / hk) * ceil(chunk / block_rows) blocks.
template <QueryStateConfig C>
PHITUNE_DEVICE void query_state(const Args& args) {
  wait_for_earlier_kernels();
  QueryState<C> kernel(args);
  if (kernel.place.valid_rows <= 0) return;
  // Tokens with no state before them are only normalised.
  if (kernel.has_state()) {
    kernel.load_queries();
    kernel.multiply();
  }
  kernel.write_outputs();
}

}  // namespace phitune
