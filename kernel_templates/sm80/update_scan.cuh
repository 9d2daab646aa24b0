// update_state and scan in one kernel: S_0 = initial state or 0, S_(n+1) = exp(G_end(n)) S_n + U_n, times multiplicity and scale^p, with
// the denominators beside it; each state is written once, in the state dtype, and no update at all.
//
// A block is update_state's, but its walk has all chunks of its head. Its sums stay in registers throughout, in fp32, and are S: before a
// chunk's first tile they are written, then multiplied by the chunk's whole gate. Blocks know nothing of each other, and loading runs on
// from chunk to chunk. Weights do not: they are those of a few tiles, each made while the tile two before is multiplied.
#pragma once

#include "kernel_templates/sm80/scan.cuh"
#include "kernel_templates/sm80/update_block.cuh"

namespace phitune {

/// One thread's part of the kernel. Grid: x = row block, y = b * hk.
template <UpdateStateConfig C>
class UpdateScan {
  using Block = UpdateBlock<C>;
  static constexpr ScanConfig scan_config{.d = C.d,
                                          .e = C.e,
                                          .p = C.p,
                                          .d_tile = C.d_tile,
                                          .rows = C.rows,
                                          .state = C.state,
                                          .update = C.state,
                                          .gated = C.gated,
                                          .sum = C.sum,
                                          .z_in_update = false,
                                          .initial_state = C.initial_state,
                                          .final_state = C.final_state,
                                          .threads = Block::threads,
                                          .unroll = 1,
                                          .vector = 8};
  using Scanned = ScannedVector<scan_config>;
  static_assert(C.scans && C.token_tile <= Block::threads, "a thread makes the weight of one token");

 public:
  PHITUNE_DEVICE explicit UpdateScan(const Args& args)
      : args_(args),
        needed_(Scanned::needed(args)),
        tokens_(C.final_state ? args.t : needed_ * args.chunk),
        block_(args, block_index_x(), 0, tokens_),
        gate_tile_(tokens_, args.chunk) {}

  PHITUNE_DEVICE void run() {
    block_.start();
    if constexpr (C.gated) {
      const Gates first = load_gates(), second = load_gates();
      write_weights(0, first);
      write_weights(1, second);
    }
    find_factors();
    begin();
    block_.ready(needed_ > 0);
    int n = 0;  // tiles so far
    PHITUNE_NO_UNROLL
    for (int chunk = 0; chunk < args_.chunks; ++chunk) {
      // (On its way while the state is written.)
      F2 end{};
      if (C.gated && chunk < needed_) end = Scanned::gate(args_, block_.head(), chunk);
      if (block_.has_rows()) write_state(chunk);
      if (chunk == needed_) break;
      if constexpr (C.gated) decay(Scanned::decay(end));
      const bool last = chunk + 1 == needed_;
      const int end_tile = n + tiles_of(chunk);
      PHITUNE_NO_UNROLL
      for (; n < end_tile; ++n) {
        Gates gates{};
        if constexpr (C.gated) gates = load_gates();
        block_.step(n, !last || n + 1 < end_tile);
        if constexpr (C.gated) write_weights(n + 2, gates);
      }
    }
    if constexpr (C.final_state) {
      if (block_.has_rows()) write_final_state();
    }
  }

 private:
  PHITUNE_DEVICE int tiles_of(int chunk) const {
    const int left = tokens_ - chunk * args_.chunk;
    return ceil_div(left < args_.chunk ? left : args_.chunk, C.token_tile);
  }

  // ---- weights: exp(G_end - G_j) of a tile's tokens, 0 past its chunk ----

  /// What this thread makes its weight of.
  struct Gates {
    F2 end, own;
  };
  /// Asks for those of the next tile.
  PHITUNE_DEVICE Gates load_gates() {
    const int left = gate_tile_.left;
    Gates gates{{0.0f, 0.0f}, {bits_float(0x7f800000u), 0.0f}};  // no weight
    if (thread_index() < left && thread_index() < C.token_tile) {
      const F2* of_head = reinterpret_cast<const F2*>(args_.gates) + static_cast<i64>(block_.head()) * args_.t;
      const F2* from = of_head + (tokens_ - gate_tile_.tokens);
      gates = {from[left - 1], from[thread_index()]};
    }
    gate_tile_.advance(args_.chunk);
    return gates;
  }
  PHITUNE_DEVICE void write_weights(int n, const Gates& gates) {
    if (thread_index() < C.token_tile) block_.weights(n)[Block::weight_position(thread_index())] = gate_weight(gates.end, gates.own);
  }

  // ---- states ----

  PHITUNE_DEVICE tspow::Indices features(int tile, int half) const {
    const int row = block_.row(tile, half);
    return tspow::decode(row < C.rows ? row : C.rows - 1, C.p, C.d_tile);
  }
  PHITUNE_DEVICE void find_factors() {
    PHITUNE_UNROLL
    for (int tile = 0; tile < Block::stored_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int half = 0; half < Block::stored_halves; ++half) {
        factors_[tile][half] = scan_detail::row_factor(features(tile, half), C.p, C.d_tile, args_.scale);
      }
    }
  }
  /// (Rows of one block of equal tile multi-index share theirs.)
  PHITUNE_DEVICE float factor(int tile, int half) const {
    return factors_[Block::stored_tiles == 1 ? 0 : tile][Block::stored_halves == 1 ? 0 : half];
  }

  /// Calls use(value, column of e + 1) for this lane's sums of a row: z is column e.
  template <class Use>
  PHITUNE_DEVICE void each_sum(int tile, int half, Use&& use) {
    const int t = lane() % 4;
    PHITUNE_UNROLL
    for (int n = 0; n < Block::n_tiles; ++n) {
      PHITUNE_UNROLL
      for (int i = 0; i < 2; ++i) use(block_.c[tile][n][2 * half + i], 8 * n + 2 * t + i);
    }
    if (C.sum && t == 0) use(block_.c[tile][Block::n_tiles][2 * half], C.e);
  }

  PHITUNE_DEVICE void begin() {
    block_.clear();
    if constexpr (C.initial_state) {
      PHITUNE_UNROLL
      for (int tile = 0; tile < C.m_tiles; ++tile) {
        PHITUNE_UNROLL
        for (int half = 0; half < 2; ++half) {
          const float* from = args_.initial_state + scan_detail::canonical_row<scan_config>(block_.head(), features(tile, half));
          each_sum(tile, half, [&](float& sum, int column) { sum = from[column]; });
        }
      }
    }
  }
  PHITUNE_DEVICE void decay(float by) {
    PHITUNE_UNROLL
    for (int tile = 0; tile < C.m_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int n = 0; n < Block::n_tiles + C.sum; ++n) {
        PHITUNE_UNROLL
        for (int i = 0; i < 4; ++i) block_.c[tile][n][i] *= by;
      }
    }
  }

  /// The sums, as the state before a chunk.
  PHITUNE_DEVICE void write_state(int chunk) const {
    constexpr int element = storage_bytes(C.state);
    char* const state =
        static_cast<char*>(args_.state) + (static_cast<i64>(block_.head()) * args_.chunks + chunk) * (Scanned::matrix * element);
    PHITUNE_UNROLL
    for (int tile = 0; tile < C.m_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = block_.row(tile, half);
        char* const out = state + static_cast<i64>(row) * (Block::row_length * element);
        block_.write_row(out, row < C.rows, tile, half, factor(tile, half));
        if constexpr (C.sum) {
          // One lane of four has z, each writes two of its terms.
          const float z = shuffle(block_.c[tile][Block::n_tiles][2 * half], lane() & ~3) * factor(tile, half);
          const int column = lane() % 4 * 2;
          if (row < C.rows) {
            store_pair<C.state>(out + (C.e + column) * element, scan_detail::denominator_term<C.state>(z, column),
                                scan_detail::denominator_term<C.state>(z, column + 1));
          }
        }
      }
    }
  }

  PHITUNE_DEVICE void write_final_state() {
    PHITUNE_UNROLL
    for (int tile = 0; tile < C.m_tiles; ++tile) {
      PHITUNE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const tspow::Indices x = features(tile, half);
        if (block_.row(tile, half) >= C.rows || !tspow::is_sorted(x, C.p)) continue;
        float* out = args_.final_state + scan_detail::canonical_row<scan_config>(block_.head(), x);
        each_sum(tile, half, [&](float sum, int column) { out[column] = sum; });
        if (!C.sum && lane() % 4 == 0) out[C.e] = 0.0f;
      }
    }
  }

  const Args& args_;
  int needed_, tokens_;  // chunks whose updates anything needs, and their tokens
  Block block_;
  typename Block::Tile gate_tile_;  // whose weights are made next
  float factors_[Block::stored_tiles][Block::stored_halves];
};

template <UpdateStateConfig C>
PHITUNE_DEVICE void update_scan(const Args& args) {
  wait_for_earlier_kernels();
  UpdateScan<C>(args).run();
}

}  // namespace phitune
