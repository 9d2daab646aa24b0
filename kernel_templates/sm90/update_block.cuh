// What all warps of a block of the Hopper update_state kernel (update_state.cuh) know: the pieces of work, what lies where in shared memory, and
// the barriers.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/tile.cuh"
#include "kernel_templates/sm90/update_state_config.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C>
struct UpdateBlock {
  static constexpr UpdateStateLayout L = update_state_layout(C);
  static constexpr bool wide = C.abreast() > 1;
  static_assert(C.p >= 2 && C.d % 32 == 0 && C.e % 16 == 0 && C.token_tile % 64 == 0);

  const Args& args;

  PHITUNE_DEVICE explicit UpdateBlock(const Args& a) : args(a) {}

  /// What a block works on: some rows of the product of one chunk, octets from `first_octet` on. Those up to `end_octet` have, with wide
  /// rows, the same last tile, whose octets begin at `tile_octet`.
  struct Work {
    int row_block, slice, chunk, head, first_token, tokens;
    int last_tile, tile_octet, first_octet, end_octet;
    PHITUNE_DEVICE int tiles() const { return ceil_div(tokens, C.token_tile); }
  };
  /// Updates that anything needs: the last chunk's only for the final state.
  PHITUNE_DEVICE int chunks_needed() const { return C.final_state ? args.chunks : args.chunks - 1; }
  PHITUNE_DEVICE int works() const { return L.row_blocks * chunks_needed() * args.b * args.hk; }
  PHITUNE_DEVICE Work work_at(int index) const {
    Work out;
    // (Unsigned: divisions by a number that the compiler does not know, at the beginning of every work.)
    u32 rest = static_cast<u32>(index);
    const u32 slice_blocks = L.slice_blocks, slices = L.slices, chunks = static_cast<u32>(chunks_needed());
    out.row_block = static_cast<int>(rest % slice_blocks);
    rest /= slice_blocks;
    out.chunk = static_cast<int>(rest % chunks);
    rest /= chunks;
    out.slice = static_cast<int>(rest % slices);
    out.head = static_cast<int>(rest / slices);
    out.row_block += out.slice * L.slice_blocks;
    out.first_token = out.chunk * args.chunk;
    out.tokens = args.t - out.first_token < args.chunk ? args.t - out.first_token : args.chunk;
    out.last_tile = 0, out.tile_octet = 0, out.end_octet = L.rows / 8;
    int block = out.row_block;
    if constexpr (wide) {
      // Last tile k has (k + 1) (k + 2) / 2 pairs of tiles before it, of two octets each.
      out.end_octet = 2;
      PHITUNE_NO_UNROLL
      for (int blocks = 1; block >= blocks;) {
        block -= blocks;
        ++out.last_tile;
        out.tile_octet = out.end_octet;
        const int octets = (out.last_tile + 1) * (out.last_tile + 2);
        out.end_octet += octets;
        blocks = ceil_div(octets, L.block_octets);
      }
    }
    out.first_octet = out.tile_octet + block * L.block_octets;
    return out;
  }

  PHITUNE_DEVICE static Barrier* full(int slot) { return reinterpret_cast<Barrier*>(shared_memory()) + slot; }
  PHITUNE_DEVICE static Barrier* empty(int slot) { return full(C.stages + slot); }
  PHITUNE_DEVICE static char* keys(int slot) { return shared_memory() + L.ring_at + slot * L.stage_bytes; }
  PHITUNE_DEVICE static char* values(int slot) { return keys(slot) + L.keys_bytes; }
  PHITUNE_DEVICE static char* raw_keys(int place) { return shared_memory() + L.raw_at + place * L.raw_bytes; }
  /// Gates of a tile's tokens, then four times that of the chunk's last token: for each warp its own.
  PHITUNE_DEVICE static float* raw_gates(int place) { return reinterpret_cast<float*>(raw_keys(place) + C.token_tile * C.d * 2); }

  /// Barriers, and the ones beside V.
  PHITUNE_DEVICE static void open() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int slot = 0; slot < C.stages; ++slot) {
        barrier_init(full(slot), wide ? 128 : 2 * 128);  // the loading threads, and their copies into it
        barrier_init(empty(slot), L.consumers / 32);
      }
      barrier_init_fence();
    }
    if constexpr (C.ones()) {
      constexpr int pieces = L.panel_bytes / 16;
      PHITUNE_NO_UNROLL
      for (int i = thread_index(); i < C.stages * pieces; i += L.threads)
        *reinterpret_cast<U4*>(values(i / pieces) + L.value_panels * L.panel_bytes + i % pieces * 16) = U4{bf16_one, 0, 0, 0};
    }
    block_barrier();
  }
  static constexpr u32 bf16_one = 0x3f80;
  /// Offset of a feature's 16-byte piece `chunk` of a panel's tokens.
  PHITUNE_DEVICE static constexpr int key_piece(int feature, int chunk) { return tile_offset<key_panel_row / 2>(key_row(feature), chunk); }

  /// By a warp of those that multiply, once for each tile.
  PHITUNE_DEVICE static void release(int turn) { barrier_arrive_warp(empty(turn % C.stages)); }
};

}  // namespace phitune::sm90
