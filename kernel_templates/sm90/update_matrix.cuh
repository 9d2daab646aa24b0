// What a chunk adds to the denominator matrix (state_layout.cuh), by one warpgroup of the Hopper update_state kernel (update_state.cuh): the sum
// of its keys' k k^T, weighted as phi is. Both operands are the transposed keys of a tile, in the order of tokens.
#pragma once

#include "kernel_templates/sm90/update_block.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C>
class UpdateMatrix : UpdateBlock<C> {
 public:
  using Block = UpdateBlock<C>;
  using Work = typename Block::Work;
  using Block::L, Block::args, Block::full, Block::keys, Block::release;

  PHITUNE_DEVICE explicit UpdateMatrix(const Args& a) : Block(a), thread(anew(thread_index() % 128)) {
    PHITUNE_UNROLL
    for (int m = 0; m < tiles; ++m) set_zero(acc[m]);
  }

  /// The products of 64 tokens of a tile; those of the last step are left in flight.
  PHITUNE_DEVICE void multiply_panel(int slot, int panel) {
    const char* const k = keys(slot) + panel * L.key_panel_bytes;
    const int first_row = static_cast<int>(thread / 32 * 16 + thread % 16);
    const SharedMatrix b = swizzled_rows_of_k(k, key_panel_row);
    PHITUNE_UNROLL
    for (int step = 0; step < 4; ++step) {
      auto& set = fragments[step % 2];
      PHITUNE_UNROLL
      for (int m = 0; m < tiles; ++m) {
        // (Where features are fewer than rows, they are repeated.)
        const int row = (m * 64 + first_row) % C.d;
        ldmatrix_x4(set[m], k + tile_offset<key_panel_row / 2>(row, step * 2 + static_cast<int>(thread % 32 / 16)));
        settle(set[m]);
      }
      wgmma_fence();
      PHITUNE_UNROLL
      for (int m = 0; m < tiles; ++m) wgmma_bf16<C.d, false>(acc[m], set[m], b.at(step * 32), true);
      wgmma_commit();
      wgmma_wait<1>();
    }
  }

  /// All of a work's, with nothing else.
  PHITUNE_DEVICE void multiply(const Work& work, int& turn) {
    const int count = work.tiles();
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < count; ++tile, ++turn) {
      barrier_wait(full(turn % C.stages), turn / C.stages & 1);
      fence_async_shared();
      PHITUNE_UNROLL
      for (int panel = 0; panel < C.token_tile / 64; ++panel) multiply_panel(turn % C.stages, panel);
      wgmma_wait<0>();
      release(turn);
    }
  }

  /// When all products have ended.
  PHITUNE_DEVICE void write(const Work& work) {
    constexpr bool scanned = C.scan_registers > 0;  // by this kernel: the share lies where Z will
    float* const out = (scanned ? static_cast<float*>(args.state_z) : args.update_z) + (static_cast<i64>(work.head) * args.chunks + work.chunk) * (C.d * C.d);
    const int first_row = thread / 32 * 16 + thread % 32 / 4, first_column = thread % 4 * 2;
    PHITUNE_UNROLL
    for (int m = 0; m < tiles; ++m) {
      settle(acc[m]);
      PHITUNE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = m * 64 + first_row + i / 2 * 8;
        if (row >= C.d) continue;
        float* const to = out + denominator_share(feature_of_key_row(row), feature_of_key_row(first_column + i % 2), C.d);
        PHITUNE_UNROLL
        for (int n = 0; n < C.d / 8; ++n) to[n * (core_elements / 2)] = acc[m][4 * n + i];
      }
    }
  }

 private:
  static constexpr int tiles = ceil_div(C.d, 64);
  u32 thread;
  float acc[tiles][C.d / 2];
  u32 fragments[2][tiles][4];  // of A: alive for as long as products may be in flight
};

}  // namespace phitune::sm90
