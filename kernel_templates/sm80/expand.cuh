// phi(k) and phi(q) written to memory, for the `materialized` fusion strategy: what forming them on the fly saves.
//
// A block holds the features of a few tokens in shared memory as fp32; a thread keeps one vector of 8 rows of the state, decoded once, and
// writes it for one token after the other. Products are rounded once, to the state's type. Tokens past t are zero.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/sm80/expand_config.cuh"

namespace phitune {

template <ExpandConfig C>
struct Expand {
  static constexpr ExpandLayout L = expand_layout(C);
  static constexpr int span = C.p > 1 && C.d_tile < 8 ? C.d_tile : 8;  // rows of a vector that share a tuple
  static constexpr int tuples = 8 / span;
  static constexpr int element_bytes = storage_bytes(C.state);

  static_assert(C.input != Storage::fp32 && C.state != Storage::fp16);
  static_assert(C.d % 8 == 0 && C.e % 8 == 0 && L.rows % 8 == 0 && C.threads % L.row_threads == 0);

  const Args& args;
  int batch, head, first_token, row_block;

  PHITUNE_DEVICE explicit Expand(const Args& a) : args(a) {
    const int heads = C.key ? args.hk : args.hq;
    const int tiles = ceil_div(args.chunks * args.chunk, C.tokens);
    int index = block_index_x();
    row_block = index % L.row_blocks;
    index /= L.row_blocks;
    first_token = index % tiles * C.tokens;
    index /= tiles;
    head = index % heads;
    batch = index / heads;
  }

  PHITUNE_DEVICE static float* features() { return reinterpret_cast<float*>(shared_memory()); }
  PHITUNE_DEVICE static float* weights() { return reinterpret_cast<float*>(shared_memory() + L.weights_at); }

  PHITUNE_DEVICE i64 padded_tokens() const { return static_cast<i64>(args.chunks) * args.chunk; }
  // Tokens of this block that have room in the output.
  PHITUNE_DEVICE int room() const {
    const i64 left = padded_tokens() - first_token;
    return left < C.tokens ? static_cast<int>(left) : C.tokens;
  }
  PHITUNE_DEVICE i64 output_token(int token) const {
    return (static_cast<i64>(batch) * (C.key ? args.hk : args.hq) + head) * padded_tokens() + token;
  }

  PHITUNE_DEVICE void load_features() const {
    constexpr int vectors = C.d / 8;
    const Strides& strides = C.key ? args.k_strides : args.q_strides;
    const u16* const source = static_cast<const u16*>(C.key ? args.k : args.q) + batch * strides.b + head * strides.h;
    for (int at = thread_index(); at < C.tokens * vectors; at += C.threads) {
      const int token = first_token + at / vectors, column = at % vectors * 8;
      float x[8] = {};
      if (token < args.t) load_vector_8<C.input>(x, source + token * strides.t + column);
      float* const to = features() + at / vectors * L.feature_stride + column;
      *reinterpret_cast<F4*>(to) = F4{x[0], x[1], x[2], x[3]};
      *reinterpret_cast<F4*>(to + 4) = F4{x[4], x[5], x[6], x[7]};
    }
  }

  // exp(G_end - G) of each token, the share that it still has at its chunk's end.
  PHITUNE_DEVICE void compute_weights() const {
    if constexpr (C.key && C.gated) {
      const F2* const gates = reinterpret_cast<const F2*>(args.gates) + (static_cast<i64>(batch) * args.hk + head) * args.t;
      for (int i = thread_index(); i < C.tokens; i += C.threads) {
        const int token = first_token + i;
        float weight = 0.0f;
        if (token < args.t) {
          const i64 chunk_end = (static_cast<i64>(token / args.chunk) + 1) * args.chunk;
          weight = gate_weight(gates[(chunk_end < args.t ? chunk_end : args.t) - 1], gates[token]);
        }
        weights()[i] = weight;
      }
    }
  }

  PHITUNE_DEVICE static void product(float (&out)[8], const float* x, const tspow::Indices (&rows)[tuples], float weight) {
    PHITUNE_UNROLL
    for (int i = 0; i < tuples; ++i) {
      float scalar = weight;
      PHITUNE_UNROLL
      for (int k = 0; k < C.p - 1; ++k) scalar *= x[rows[i].i[k]];
      PHITUNE_UNROLL
      for (int j = 0; j < span; j += 2) {
        const F2 last = *reinterpret_cast<const F2*>(x + rows[i].i[C.p - 1] + j);
        out[i * span + j] = scalar * last.x, out[i * span + j + 1] = scalar * last.y;
      }
    }
  }

  PHITUNE_DEVICE void write_features() const {
    const int vector = row_block * L.row_threads + thread_index() % L.row_threads;
    if (vector >= L.vectors) return;
    tspow::Indices rows[tuples];
    PHITUNE_UNROLL
    for (int i = 0; i < tuples; ++i) rows[i] = tspow::decode(vector * 8 + i * span, C.p, C.d_tile);
    char* const phi = static_cast<char*>(C.key ? args.phi_k : args.phi_q);
    const int tokens = room();
    for (int i = thread_index() / L.row_threads; i < tokens; i += C.threads / L.row_threads) {
      float out[8];
      product(out, features() + i * L.feature_stride, rows, C.key && C.gated ? weights()[i] : 1.0f);
      store_vector_8<C.state>(phi + (output_token(first_token + i) * L.rows + vector * 8) * element_bytes, out);
    }
  }

  // v with a column of ones at e, zeros after.
  PHITUNE_DEVICE void write_values() const {
    constexpr int vectors = L.columns / 8;
    const u16* const source = static_cast<const u16*>(args.v) + batch * args.v_strides.b + head * args.v_strides.h;
    const int count = room() * vectors;
    for (int at = thread_index(); at < count; at += C.threads) {
      const int token = first_token + at / vectors, column = at % vectors * 8;
      float x[8] = {};
      if (token < args.t) {
        if (column < C.e)
          load_vector_8<C.input>(x, source + token * args.v_strides.t + column);
        else
          x[0] = 1.0f;
      }
      store_vector_8<C.state>(static_cast<char*>(args.v_aug) + (output_token(token) * L.columns + column) * element_bytes, x);
    }
  }
};

/// Stages expand_key (C.key) and expand_query. Launch: C.threads threads, expand_layout(C) shared bytes,
/// x = b * heads * ceil(chunks * chunk / C.tokens) * row_blocks blocks.
template <ExpandConfig C>
PHITUNE_DEVICE void expand(const Args& args) {
  wait_for_earlier_kernels();
  const Expand<C> kernel(args);
  kernel.load_features();
  kernel.compute_weights();
  block_barrier();
  if constexpr (C.key) {
    if (kernel.row_block == 0) kernel.write_values();
  }
  kernel.write_features();
}

}  // namespace phitune
