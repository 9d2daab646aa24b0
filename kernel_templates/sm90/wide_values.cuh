// Values for states of wide rows (state_layout.cuh), by the loading warpgroup of update_state: for each token, v times each of the key's
// features of the last tile, side by side, times the gate's weight. (The weighted features are rounded to bf16, for their products to cost a
// loading warp, which has few beside it, a quarter.)
//
// Each warp has a quarter of a tile's tokens. It copies what it makes values of, so it waits for no other. Its lanes have the tokens in the
// order of the rows that their values go to (value_row), for their stores to meet in no bank.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/tile.cuh"
#include "kernel_templates/sm90/update_state_config.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C>
struct WideValues {
  static constexpr UpdateStateLayout L = update_state_layout(C);
  static constexpr int features = C.abreast(), chunks = C.e / 8;  // 16-byte pieces of a row of V
  static constexpr int warp_tokens = C.token_tile / 4, octets = warp_tokens / 8;
  static constexpr int lane_chunks = chunks * warp_tokens / 32;  // that a lane makes values of
  static constexpr int copy_rows = 32 / chunks;                  // that a warp copies at once
  static_assert(features == 4 && warp_tokens <= 32 && lane_chunks > 0 && warp_tokens % copy_rows == 0);

  /// The token that row `row` has, both counted in the warp: token 8t + 4s + 2h + b at row 16s + 8h + 2t + b, with fewer t where octets are
  /// fewer. Additive over disjoint bits.
  PHITUNE_DEVICE static constexpr int token_in_warp(int row) {
    return row / 2 % octets * 8 + row / (4 * octets) * 4 + row / (2 * octets) % 2 * 2 + row % 2;
  }
  /// The same in a tile.
  PHITUNE_DEVICE static int token_of(int row) { return loader_warp() * warp_tokens + token_in_warp(row); }
  PHITUNE_DEVICE static int own_row() { return lane() % warp_tokens; }

  /// Where a lane copies from, in a tile whose first token is at `v`: elements.
  PHITUNE_DEVICE static i64 first_element(const Args& args) { return token_of(lane() / chunks) * args.v_strides.t + lane() % chunks * 8; }

  /// Starts to copy the warp's values; `left` tokens of the chunk begin with the tile, and the others are zeros.
  PHITUNE_DEVICE static void copy(char* raw, const u16* source, i64 stride, int left) {
    const int first = token_of(lane() / chunks);
    PHITUNE_UNROLL
    for (int row = 0; row < warp_tokens; row += copy_rows) {
      const int more = token_in_warp(row);
      cp_async_16(raw + offset(row + lane() / chunks, lane() % chunks), source + more * stride, first + more < left);
    }
  }

  /// What a lane makes values of.
  struct Parts {
    U4 v[lane_chunks];
    u32 x[features];  // weighted, twice each
  };
  PHITUNE_DEVICE static int first_chunk() { return lane() / warp_tokens * lane_chunks; }

  /// `key` is where the features of the lane's token lie.
  PHITUNE_DEVICE static void read(Parts& out, const char* raw, const char* key, float weight) {
    PHITUNE_UNROLL
    for (int i = 0; i < lane_chunks; ++i) out.v[i] = *reinterpret_cast<const U4*>(raw + offset(own_row(), first_chunk() + i));
    const U2 packed = *reinterpret_cast<const U2*>(key);
    out.x[0] = twice(low_bf16(packed.x) * weight), out.x[1] = twice(high_bf16(packed.x) * weight);
    out.x[2] = twice(low_bf16(packed.y) * weight), out.x[3] = twice(high_bf16(packed.y) * weight);
  }

  /// Makes the warp's part of a tile at `values`, in rows of swizzled panels.
  PHITUNE_DEVICE static void store(char* values, const Parts& parts) {
    constexpr int panel_chunks = L.panel_row / 16;
    const int row = value_row(token_of(own_row()));
    PHITUNE_UNROLL
    for (int i = 0; i < lane_chunks; ++i) {
      const U4 v = parts.v[i];
      PHITUNE_UNROLL
      for (int k = 0; k < features; ++k) {
        const int chunk = k * chunks + first_chunk() + i;
        const u32 x = parts.x[k];
        *reinterpret_cast<U4*>(values + chunk / panel_chunks * L.panel_bytes + tile_offset<L.panel_row / 2>(row, chunk % panel_chunks)) =
            U4{mul_bf16x2(v.x, x), mul_bf16x2(v.y, x), mul_bf16x2(v.z, x), mul_bf16x2(v.w, x)};
      }
    }
  }

 private:
  PHITUNE_DEVICE static int loader_warp() { return thread_index() % 128 / 32; }
  PHITUNE_DEVICE static u32 twice(float x) { return pack_bf16x2(x, x); }
  PHITUNE_DEVICE static int offset(int row, int chunk) { return tile_offset<C.e>(loader_warp() * warp_tokens + row, chunk); }
};

}  // namespace phitune::sm90
