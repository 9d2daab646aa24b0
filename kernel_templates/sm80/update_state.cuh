// The update of one chunk: U[r][n] = sum_j exp(G_end - G_j) phi(k_j)_r v_j[n] over its tokens j, and update_z[r] = the same without v
// (Buckman et al., arXiv:2507.04239, chunked form). U is stored in the state dtype.
#pragma once

#include "kernel_templates/sm80/update_block.cuh"

namespace phitune {

/// One thread's part of the kernel. Grid: x = row block + row blocks * chunk, y = b * hk.
template <UpdateStateConfig C>
class UpdateState {
  using Block = UpdateBlock<C>;

 public:
  PHITUNE_DEVICE explicit UpdateState(const Args& args)
      : args_(args),
        chunk_(block_index_x() / Block::row_blocks),
        first_token_(chunk_ * args.chunk),
        tokens_(args.t - first_token_ < args.chunk ? args.t - first_token_ : args.chunk),
        block_(args, block_index_x() % Block::row_blocks, first_token_, tokens_) {}

  PHITUNE_DEVICE void run() {
    const int tiles = ceil_div(tokens_, C.token_tile);
    block_.start();
    if constexpr (C.gated) write_weights(tiles);
    block_.clear();
    block_.ready(true);
    PHITUNE_NO_UNROLL
    for (int n = 0; n < tiles; ++n) block_.step(n, n + 1 < tiles);
    if (block_.has_rows()) write();
  }

 private:
  /// exp(G_end - G_j) of all of the chunk's tokens; 0 past the end.
  PHITUNE_DEVICE void write_weights(int tiles) {
    const F2* gates = reinterpret_cast<const F2*>(args_.gates) + static_cast<i64>(block_.head()) * args_.t + first_token_;
    const F2 end = gates[tokens_ - 1];
    for (int j = thread_index(); j < tiles * C.token_tile; j += Block::threads)
      block_.weights(0)[Block::weight_position(j)] = j < tokens_ ? gate_weight(end, gates[j]) : 0.0f;
  }

  PHITUNE_DEVICE void write() const {
    const i64 first = (static_cast<i64>(block_.head()) * args_.chunks + chunk_) * C.rows;
    PHITUNE_UNROLL
    for (int tile = 0; tile < C.m_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = block_.row(tile, half);
        char* out = static_cast<char*>(args_.update) + (first + row) * Block::row_length * storage_bytes(C.state);
        block_.write_row(out, row < C.rows, tile, half, 1.0f);
        if (C.sum && lane() % 4 == 0 && row < C.rows) args_.update_z[first + row] = block_.c[tile][Block::n_tiles][2 * half];
      }
    }
  }

  const Args& args_;
  int chunk_, first_token_, tokens_;
  Block block_;
};

template <UpdateStateConfig C>
PHITUNE_DEVICE void update_state(const Args& args) {
  wait_for_earlier_kernels();
  UpdateState<C>(args).run();
}

}  // namespace phitune
