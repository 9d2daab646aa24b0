// Tiles of 16-bit elements in shared memory: rows of `Width` elements, unpadded, 16-byte chunks permuted within their row so that
// ldmatrix reads the same chunk of eight consecutive rows without bank conflicts.
#pragma once

#include "kernel_templates/common/instructions.cuh"

namespace phitune {

/// What a row's chunks are permuted with. Rows narrower than 128 bytes share a bank line, so fewer row bits permute them.
template <int Width>
PHITUNE_DEVICE constexpr int tile_key(int row) {
  static_assert(Width % 16 == 0 && Width >= 16 && Width <= 128);
  constexpr int chunks = Width / 8;
  return chunks >= 8 ? row & 7 : chunks == 4 ? (row >> 1) & 3 : (row >> 2) & 1;
}
/// Byte offset of 16-byte chunk `chunk` of row `row`.
template <int Width>
PHITUNE_DEVICE constexpr int tile_offset(int row, int chunk) {
  return row * Width * 2 + (chunk ^ tile_key<Width>(row)) * 16;
}
/// tile_offset(row + rows, chunk + chunks) from tile_offset(row, chunk), where neither sum carries: one register for many places.
template <int Width>
PHITUNE_DEVICE constexpr int moved_tile_offset(int offset, int rows, int chunks) {
  return (offset ^ (tile_key<Width>(rows) ^ chunks) * 16) + rows * Width * 2;
}

/// Starts copying `Rows` rows from global memory, `stride` elements apart, by all `Threads` threads of the block; rows from `valid_rows` on
/// are filled with zeros and not read. `source` is the first row's first element, 16-byte aligned.
template <int Rows, int Width, int Threads>
PHITUNE_DEVICE void copy_tile_async(char* tile, const char* source, i64 stride, int valid_rows) {
  constexpr int chunks = Width / 8, rows_at_once = Threads / chunks;
  static_assert(Threads % chunks == 0);
  const int first = thread_index() / chunks, chunk = thread_index() % chunks;
  const char* from = source + first * stride * 2 + chunk * 16;
  PHITUNE_UNROLL
  for (int row = 0; row < Rows; row += rows_at_once) {
    if (Rows % rows_at_once != 0 && row + first >= Rows) break;
    cp_async_16(tile + tile_offset<Width>(row + first, chunk), from, row + first < valid_rows);
    from += rows_at_once * stride * 2;
  }
}

/// Warp: the 16x16 A fragment at (row, column) of a tile, row-major.
template <int Width>
PHITUNE_DEVICE void load_a_fragment(u32 (&a)[4], const char* tile, int row, int column) {
  ldmatrix_x4(a, tile + tile_offset<Width>(row + (lane() & 15), column / 8 + (lane() >> 4)));
}

/// Warp: likewise of rows `Pitch` bytes apart whose chunks are not permuted: free of bank conflicts where Pitch / 16 is odd.
template <int Pitch>
PHITUNE_DEVICE void load_a_fragment_padded(u32 (&a)[4], const char* rows, int row, int column) {
  static_assert(Pitch / 16 % 2 == 1);
  ldmatrix_x4(a, rows + (row + (lane() & 15)) * Pitch + (column / 8 + (lane() >> 4)) * 16);
}

/// Warp: two 16x8 B fragments (columns n..n+7 and n+8..n+15) whose column j is row n + j of the tile: b[0..1] and b[2..3].
template <int Width>
PHITUNE_DEVICE void load_b_fragments(u32 (&b)[4], const char* tile, int n, int k) {
  ldmatrix_x4(b, tile + tile_offset<Width>(n + (lane() & 7) + ((lane() >> 4) << 3), k / 8 + ((lane() >> 3) & 1)));
}

/// Warp: likewise for a tile whose rows are k and whose columns are n.
template <int Width>
PHITUNE_DEVICE void load_b_fragments_trans(u32 (&b)[4], const char* tile, int n, int k) {
  ldmatrix_x4_trans(b, tile + tile_offset<Width>(k + (lane() & 15), n / 8 + (lane() >> 4)));
}

}  // namespace phitune
