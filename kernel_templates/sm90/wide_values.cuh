// Values for states of wide rows (state_layout.cuh), by the loading warpgroup of update_state: for each token, v times each of the key's
// features of the last tile, side by side, times the gate's weight. Multiplied in fp32 and rounded once.
//
// A thread makes some pieces of one row of a tile, and copies for itself what it makes them of, so it waits for no other.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/tile.cuh"
#include "kernel_templates/sm90/update_state_config.cuh"

namespace phitune::sm90 {

/// Where a loading thread reads, from its token of a tile on.
struct WideSource {
  const u16 *value, *features;
  const float *gate, *end;
};

template <UpdateStateConfig C>
struct WideValues {
  static constexpr UpdateStateLayout L = update_state_layout(C);
  static constexpr int features = C.abreast(), chunks = C.e / 8;  // 16-byte pieces of a row of V
  static constexpr int pieces = raw_value_pieces(C), row_groups = C.token_tile / 32;
  static_assert(pieces > 0 && 4 % row_groups == 0 && features == 4);

  PHITUNE_DEVICE static int row(int loader) { return loader / 32 % row_groups * 32 + loader % 32; }
  PHITUNE_DEVICE static int token(int loader) { return token_of_value_row(row(loader)); }
  PHITUNE_DEVICE static int first_chunk(int loader) { return loader / 32 / row_groups * pieces; }

  /// What `loader` reads of a chunk's tokens, which begin at `first_token` of head `head` of b * hk; `tile` is the last tile.
  PHITUNE_DEVICE static WideSource source(const Args& args, int loader, int head, int first_token, int tokens, int tile) {
    const i64 batch = head / args.hk, kv_head = head % args.hk, at = first_token + token(loader);
    const float* const gates = args.gates + (static_cast<i64>(head) * args.t + first_token) * 2;
    return {.value = static_cast<const u16*>(args.v) + batch * args.v_strides.b + kv_head * args.v_strides.h + at * args.v_strides.t +
                     first_chunk(loader) * 8,
            .features = static_cast<const u16*>(args.k) + batch * args.k_strides.b + kv_head * args.k_strides.h + at * args.k_strides.t +
                        tile * features,
            .gate = gates + 2 * token(loader),
            .end = gates + 2 * (tokens - 1)};
  }
  PHITUNE_DEVICE static void next_tile(WideSource& s, const Args& args) {
    s.value += C.token_tile * args.v_strides.t;
    s.features += C.token_tile * args.k_strides.t;
    s.gate += 2 * C.token_tile;
  }

  /// Starts to copy; `left` tokens of the chunk begin with the tile, and the others are zeros.
  PHITUNE_DEVICE static void copy(char* raw, int loader, const WideSource& s, int left) {
    const bool there = token(loader) < left;
    PHITUNE_UNROLL
    for (int i = 0; i < pieces; ++i) cp_async_16(piece(raw, loader, i), s.value + i * 8, there);
    float* const own = own_words(raw, loader);
    cp_async_4(own, reinterpret_cast<const float*>(s.features), there);
    cp_async_4(own + 1, reinterpret_cast<const float*>(s.features) + 1, there);
    if constexpr (C.gated) {
      float* const gates = own_gates(raw, loader);
      PHITUNE_UNROLL
      for (int i = 0; i < 2; ++i) {
        cp_async_4(gates + i, s.gate + i, there);
        cp_async_4(gates + 2 + i, s.end + i, there);
      }
    }
  }

  /// Makes the thread's part of a tile at `values`, in rows of swizzled panels.
  PHITUNE_DEVICE static void make(char* values, char* raw, int loader) {
    constexpr int panel_chunks = L.panel_row / 16;
    const U2 packed = *reinterpret_cast<const U2*>(own_words(raw, loader));
    float x[features] = {low_bf16(packed.x), high_bf16(packed.x), low_bf16(packed.y), high_bf16(packed.y)};
    if constexpr (C.gated) {
      // (Of a token that is not there both gates are zeros, and so are its values.)
      const F4 gates = *reinterpret_cast<const F4*>(own_gates(raw, loader));
      const float weight = gate_weight(F2{gates.z, gates.w}, F2{gates.x, gates.y});
      PHITUNE_UNROLL
      for (int k = 0; k < features; ++k) x[k] *= weight;
    }
    PHITUNE_UNROLL
    for (int i = 0; i < pieces; ++i) {
      const U4 v = *reinterpret_cast<const U4*>(piece(raw, loader, i));
      PHITUNE_UNROLL
      for (int k = 0; k < features; ++k) {
        const int chunk = k * chunks + first_chunk(loader) + i;
        *reinterpret_cast<U4*>(values + chunk / panel_chunks * L.panel_bytes + tile_offset<L.panel_row / 2>(row(loader), chunk % panel_chunks)) =
            U4{weigh(v.x, x[k]), weigh(v.y, x[k]), weigh(v.z, x[k]), weigh(v.w, x[k])};
      }
    }
  }

 private:
  PHITUNE_DEVICE static u32 weigh(u32 pair, float weight) { return pack_bf16x2(low_bf16(pair) * weight, high_bf16(pair) * weight); }
  // Of each kind, thread by thread.
  PHITUNE_DEVICE static char* piece(char* raw, int loader, int i) { return raw + (i * 128 + loader) * 16; }
  PHITUNE_DEVICE static float* own_gates(char* raw, int loader) { return reinterpret_cast<float*>(raw + (pieces * 128 + loader) * 16); }
  PHITUNE_DEVICE static float* own_words(char* raw, int loader) {
    return reinterpret_cast<float*>(raw + (pieces + (C.gated ? 1 : 0)) * 2048 + loader * 8);
  }
};

}  // namespace phitune::sm90
