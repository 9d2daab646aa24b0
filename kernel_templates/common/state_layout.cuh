// Where an element of a state matrix lies in memory when states are in *core matrices* (Path::sm90 of search/plan.hpp): one
// definition for the kernels, their host sides and the oracle. A state matrix is U (a chunk's moments) or S (the state that a chunk starts
// from): D rows times R columns. The other layout, rows, is row-major in the order of tspow.cuh and needs no definition of its own.
//
// Cores are 8 x 8 blocks, as wgmma reads them without a swizzle, of rows in the order in which query_state multiplies them: *positions*.
#pragma once

#include "kernel_templates/common/tspow.cuh"

namespace phitune {

/// Sides of a core matrix, in rows and in columns, and its elements.
inline constexpr int core_side = 8;
inline constexpr int core_elements = core_side * core_side;

/// Rows of a *group*, p >= 2: 8 consecutive tuples (rows of degree p - 1) times the w features of the last tile. With d a multiple of 16
/// and w from 2 to 16 every state is whole groups.
PHITUNE_DEVICE constexpr int core_group_rows(int w) { return core_side * w; }

/// Whether states of degree p with tiles w wide have *wide rows*: the w features of the last tile side by side instead of below each other,
/// each with all columns. A matrix of D rows times R columns is one of D / w tuples times w R columns then. Of degree 3 and more a tuple is
/// a product itself, and products with so wide a matrix need no other: the last feature multiplies results of a query (or values of a key)
/// instead of phi, of which there is w times less. Tiles of 4 make 16 tuples of degree 2, the depth of one wgmma, of each pair of tiles.
PHITUNE_DEVICE constexpr bool wide_rows(int p, int w) { return p == 3 && w == 4; }

/// Position of row `row`; w is the width of a tile. Positions permute the rows within each group.
/// Wide rows: eight positions are eight tuples with one feature, so that core matrices that follow each other lie side by side.
/// Else 16 consecutive positions, the depth of one wgmma, are one pair of features for all 8 tuples of the group, and the four positions
/// that a thread supplies to it (2t, 2t + 1, 2t + 8, 2t + 9 for thread t of 4) are that pair for the tuples 2t and 2t + 1: a thread needs
/// two scalars in a whole group. A row of degree 1 is its feature, which leaves nothing to share: position and row are the same.
PHITUNE_DEVICE constexpr int core_position(int row, int p, int w) {
  if (p == 1) return row;
  const int group = core_group_rows(w);
  const int tuple = row % group / w;
  const int feature = row % w;
  if (wide_rows(p, w)) return row / group * group + feature * core_side + tuple;
  return row / group * group + feature / 2 * 16 + tuple % 2 * 8 + tuple / 2 * 2 + feature % 2;
}

/// The row at position `position`: the inverse of core_position.
PHITUNE_DEVICE constexpr int core_row(int position, int p, int w) {
  if (p == 1) return position;
  // (Unsigned: signed division rounds to zero, at a price.)
  const u32 group = static_cast<u32>(core_group_rows(w)), at = static_cast<u32>(position), local = at % group, width = static_cast<u32>(w);
  if (wide_rows(p, w)) return static_cast<int>(at / group * group + local % core_side * width + local / core_side);
  const u32 tuple = local % 8 / 2 * 2 + local / 8 % 2;
  const u32 feature = local / 16 * 2 + local % 2;
  return static_cast<int>(at / group * group + tuple * width + feature);
}

/// Offset, in elements, of (position, column) in a matrix with `columns` columns, a multiple of 8. Core matrices follow each other along
/// the columns first; one holds 8 rows of 8 consecutive columns.
PHITUNE_DEVICE constexpr i64 core_element(int position, int column, int columns) {
  const i64 core = static_cast<i64>(position / core_side) * (columns / core_side) + column / core_side;
  return core * core_elements + position % core_side * core_side + column % core_side;
}

/// Position and column of the element at `offset` in a matrix with `columns` columns: the inverse of core_element. Offsets that run on
/// into a matrix that follows give positions that run on.
PHITUNE_DEVICE constexpr i64 core_position_at(i64 offset, int columns) {
  return offset / core_elements / (columns / core_side) * core_side + offset % core_elements / core_side;
}
PHITUNE_DEVICE constexpr int core_column_at(i64 offset, int columns) {
  return static_cast<int>(offset / core_elements % (columns / core_side)) * core_side + static_cast<int>(offset % core_side);
}

// ---- denominators of degree 2 ----

/// Whether states in core matrices keep their denominators as a matrix Z of d x d beside S, instead of in eight columns more of each row: of
/// degree 2, phi(q) z is q^T Z q with Z the sum of weights times k k^T, two products of d columns instead of eight columns of D / 16.
PHITUNE_DEVICE constexpr bool denominator_matrix(int d, int p, bool sum) { return sum && p == 2 && d <= 128; }

// Z lies in core matrices of 2 d rows and d columns. Each entry is the sum of two bf16: its rounded value (part 0), and the rest of it
// (part 1). 16 features of one part, the depth of one wgmma, are followed by the same features of the other.
PHITUNE_DEVICE constexpr int denominator_row(int feature, int part) { return feature / 16 * 32 + part * 16 + feature % 16; }
/// Offset, in bf16 elements, of a part of the entry of two features.
PHITUNE_DEVICE constexpr int denominator_element(int feature, int other, int part, int d) {
  return static_cast<int>(core_element(denominator_row(feature, part), other, d));
}
/// Offset, in floats, of the same entry of what one chunk adds to Z, in fp32 in the same memory: the first four of eight entries lie where
/// their rounded values will, the last four where the rest of them will.
PHITUNE_DEVICE constexpr int denominator_share(int feature, int other, int d) {
  return denominator_element(feature, other / 8 * 8, other % 8 / 4, d) / 2 + other % 4;
}

/// 16 bytes of Z: a row of a core matrix. They hold eight parts of entries, or four entries of a chunk's share.
struct DenominatorVector {
  int feature, other, part;  // the first of the eight entries, and which part
  PHITUNE_DEVICE constexpr int byte(int d) const { return denominator_element(feature, other, part, d) * 2; }
};
/// All of them, `item` from 0 to d * d / 4 - 1: both parts of the same entries follow each other, so that neighbouring threads can exchange them.
PHITUNE_DEVICE constexpr DenominatorVector denominator_vector(int item, int d) {
  const int row = item / 2 % 8, core = item / 16;
  return {core / (d / 8) * 8 + row, core % (d / 8) * 8, item % 2};
}

}  // namespace phitune
