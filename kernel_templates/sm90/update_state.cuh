// The update of one chunk on Hopper: U[r][n] = sum_j exp(G_end - G_j) phi(k_j)_r v_j[n] over its tokens j, and update_z[r] the same
// without v, or of degree 2 the sum of exp(G_end - G_j) k_j k_j^T (the denominator matrix). fp32 accumulation; U is stored in bf16, in core
// matrices (Path::sm90), as query_state's bulk copies want it.
//
// A matrix product per (b, hk, chunk): M = rows of the state, N = e columns, and eight for z unless that is a matrix, K = tokens. A = phi(K)^T
// is formed in registers as products of transposed features. One warpgroup loads: V as it is, where z is columns beside one of ones that
// never changes, whose products are z; and K, which it transposes and multiplies by the p-th root of the gates' weights, so that phi has the
// weights in it. Its copies are asynchronous and run on from chunk to chunk. The others multiply.
//
// The order of tokens inside a slab of 32 is free as long as A and B agree: thread t of a quad has tokens 8t to 8t+7, so that one 16-byte
// load of a transposed feature serves two k16 steps: token 8t + 4s + 2h + b is k = 8h + 2t + b of step s.
//
// Warpgroups without rows of the state leave the tensor cores to the others, but for one, that makes the denominator matrix (update_matrix.cuh);
// where few rows are left for the last warpgroup that has any, it makes both.
//
// A warp's unit is 2 m_tiles consecutive octets. Row g of m tile i is row g of octet 2i, row g + 8 that of octet 2i + 1: the same feature
// of the last tile, neighbouring tuples. So a group of 8 tuples costs a thread two tuples, and each m tile one feature.
//
// With wide rows (state_layout.cuh) the last feature is in the values instead, side by side for all features of a tile: A is the tuples, B is
// what the loading warpgroup makes of V, those features and the gates' weights (wide_values.cuh), and N is as many times wider. A block's
// rows have one last tile. The two features of a tuple are to the tiles of 4 what tuple and feature are else: the 16 rows of a warp's m tile
// are one tile's features, rows g and g + 8 two of them, times another's.
#pragma once

#include "kernel_templates/sm90/update_loader.cuh"
#include "kernel_templates/sm90/update_matrix.cuh"
#include "kernel_templates/sm90/update_product.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C>
struct UpdateState : UpdateBlock<C> {
  using Block = UpdateBlock<C>;
  using Work = typename Block::Work;
  using Block::L, Block::args, Block::works, Block::work_at, Block::full, Block::release;

  PHITUNE_DEVICE explicit UpdateState(const Args& a) : Block(a) {}

  /// The works of a block, by the warpgroups that multiply. Every warp says `written(index)` when its part of that work, or none, is written.
  template <class Written>
  PHITUNE_DEVICE void multiply_works(Written&& written) const {
    const int count = works();
    int turn = 0;  // tiles through all works: it tells slot and phase
    PHITUNE_NO_UNROLL
    for (int index = block_index_x(); index < count; index += grid_size_x()) {
      const Work work = work_at(index);
      const int octet = work.first_octet + warp() / 4 * (8 * C.m_tiles);
      if (C.matrix() && octet == L.matrix_octet)
        multiply_with_matrix(octet, work, index, turn);
      else if (octet < work.end_octet)
        multiply(octet, work, index, turn);
      else
        pass(work.tiles(), turn);
      written(index);
    }
  }

 private:
  // (Zeroed, not left out of the first products: else the sums of one kind of work count as alive while another is done.)
  template <class Product>
  PHITUNE_DEVICE static void clear(typename Product::Accumulators& acc) {
    PHITUNE_UNROLL
    for (auto& tile : acc) set_zero(tile);
  }

  // Where a product's rows begin is found twice, before it and, from the thread's number, behind it: kept in registers it would cost the loop.
  /// First octet of a warp of m_tiles `tiles`, whose warpgroup's rows begin at `octet`.
  PHITUNE_DEVICE static int warp_octet(int octet, int tiles, int thread) { return octet + thread / 32 % 4 * (2 * tiles); }
  PHITUNE_DEVICE static int own_octet(const Work& work, int thread) { return work.first_octet + thread / 128 * (8 * C.m_tiles); }

  /// The rows of a warpgroup.
  PHITUNE_DEVICE void multiply(int octet, const Work& work, int index, int& turn) const {
    using Product = UpdateProduct<C, C.m_tiles>;
    typename Product::Accumulators acc;
    clear<Product>(acc);
    Product::multiply(acc, octet + warp() % 4 * (2 * C.m_tiles), work, turn, [](int, int) {});
    const Work done = work_at(static_cast<int>(anew(index)));
    const int thread = static_cast<int>(anew(thread_index()));
    Product(args).write(acc, warp_octet(own_octet(done, thread), C.m_tiles, thread), done);
  }

  /// The denominator matrix, with the last rows where they are few.
  PHITUNE_DEVICE void multiply_with_matrix(int octet, const Work& work, int index, int& turn) const {
    if constexpr (C.matrix()) {
      UpdateMatrix<C> matrix(args);
      if constexpr (L.last_tiles > 0) {
        using Product = UpdateProduct<C, L.last_tiles>;
        typename Product::Accumulators acc;
        clear<Product>(acc);
        Product::multiply(acc, octet + warp() % 4 * (2 * L.last_tiles), work, turn,
                          [&](int slot, int panel) { matrix.multiply_panel(slot, panel); });
        Product(args).write(acc, warp_octet(L.matrix_octet, L.last_tiles, static_cast<int>(anew(thread_index()))),
                            work_at(static_cast<int>(anew(index))));
      } else {
        matrix.multiply(work, turn);
      }
      matrix.write(work_at(static_cast<int>(anew(index))));
    }
  }

  /// Takes part in the ring, and leaves the tensor cores to the others.
  PHITUNE_DEVICE static void pass(int tiles, int& turn) {
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile, ++turn) {
      barrier_wait(full(turn % C.stages), turn / C.stages & 1);
      release(turn);
    }
  }
};

/// Launch: update_state_layout(C) threads and shared bytes; x = any number of blocks, which share the works.
template <UpdateStateConfig C>
PHITUNE_DEVICE void update_state(const Args& args) {
  using Kernel = UpdateState<C>;
  const Kernel kernel(args);
  Kernel::open();
  // (Those that multiply wait for those that load, and so for what they wait for.)
  if (warp() >= Kernel::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    UpdateLoader<C>(args).load();
    return;
  }
  registers_increase<C.consumer_registers>();
  kernel.multiply_works([](int) {});
}

}  // namespace phitune::sm90
