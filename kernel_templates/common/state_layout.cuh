// Where an element of a state matrix lies in memory: one definition for the kernels, their host sides and the oracle. A state matrix is U
// (a chunk's moments) or S (the state that a chunk starts from): D rows in the order of tspow.cuh times R columns.
#pragma once

#include "kernel_templates/common/tspow.cuh"

namespace phitune {

enum class StateLayout {
  rows,   // row-major [D][R], rows in the order of tspow.cuh
  cores,  // 8 x 8 blocks (the core matrices of wgmma), rows in the order in which query_state multiplies them
};

/// Sides of a core matrix, in rows and in columns.
inline constexpr int core_side = 8;

/// Rows of a *group* of the layout cores, p >= 2: 8 consecutive tuples (rows of degree p - 1) times the w features of the last tile. The
/// layout cores needs whole groups: D must be a multiple of this.
PHITUNE_DEVICE constexpr int core_group_rows(int w) { return core_side * w; }

/// Position of row `row` in the layout cores; w is the width of a tile. Positions permute the rows within each group so that 16 consecutive
/// positions, the depth of one wgmma, are one pair of features for all 8 tuples of the group, and the four positions that a thread
/// supplies to it (2t, 2t + 1, 2t + 8, 2t + 9 for thread t of 4) are that pair for the tuples 2t and 2t + 1: a thread needs two scalars in
/// a whole group. The features of a row of degree 1 are its row, which leaves nothing to share: position and row are the same.
PHITUNE_DEVICE constexpr int core_position(int row, int p, int w) {
  if (p == 1) return row;
  const int group = core_group_rows(w);
  const int tuple = row % group / w;
  const int feature = row % w;
  return row / group * group + feature / 2 * 16 + tuple % 2 * 8 + tuple / 2 * 2 + feature % 2;
}

/// The row at position `position`: the inverse of core_position.
PHITUNE_DEVICE constexpr int core_row(int position, int p, int w) {
  if (p == 1) return position;
  const int group = core_group_rows(w);
  const int local = position % group;
  const int tuple = local % 8 / 2 * 2 + local / 8 % 2;
  const int feature = local / 16 * 2 + local % 2;
  return position / group * group + tuple * w + feature;
}

/// Offset, in elements, of (position, column) in one matrix of the layout cores with `columns` columns, a multiple of 8. Core matrices
/// follow each other along the columns first; one holds 8 rows of 8 consecutive columns.
PHITUNE_DEVICE constexpr long long core_element(int position, int column, int columns) {
  const long long core = static_cast<long long>(position / core_side) * (columns / core_side) + column / core_side;
  return core * (core_side * core_side) + position % core_side * core_side + column % core_side;
}

}  // namespace phitune
