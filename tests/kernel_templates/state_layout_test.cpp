// The layout of states in core matrices: kernels that write it, kernels that read it and the oracle all trust it.
#include "kernel_templates/common/state_layout.cuh"

#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace phitune {
namespace {

struct Case {
  int d, p, w;
  [[nodiscard]] int rows() const { return static_cast<int>(tspow::rows(d / w, p, w)); }
};

std::vector<Case> cases() {
  std::vector<Case> list;
  for (int d = 16; d <= 128; d += 16)
    for (int p = 1; p <= 4; ++p)
      for (const int w : {2, 4, 8, 16})
        if ((p < 3 || d <= 64) && (p < 4 || d <= 32)) list.push_back({d, p, w});
  return list;
}

TEST(StateLayout, PositionsPermuteTheRowsOfEveryState) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(testing::Message() << "d " << c.d << " p " << c.p << " w " << c.w);
    std::vector<bool> taken(static_cast<std::size_t>(c.rows()), false);
    for (int row = 0; row < c.rows(); ++row) {
      const int position = core_position(row, c.p, c.w);
      ASSERT_GE(position, 0);
      ASSERT_LT(position, c.rows()) << "the last group is not whole";
      ASSERT_FALSE(taken[static_cast<std::size_t>(position)]) << "position " << position;
      taken[static_cast<std::size_t>(position)] = true;
      ASSERT_EQ(core_row(position, c.p, c.w), row);
      ASSERT_EQ(core_position(core_row(row, c.p, c.w), c.p, c.w), row);
    }
  }
}

// What the order is for: the 16 positions of one product hold a pair of features of the last tile, times 8 tuples.
TEST(StateLayout, SixteenPositionsAreAPairOfFeaturesOfEightTuples) {
  for (const auto& c : cases()) {
    if (c.p == 1 || wide_rows(c.p, c.w)) continue;
    SCOPED_TRACE(testing::Message() << "d " << c.d << " p " << c.p << " w " << c.w);
    for (int first = 0; first < c.rows(); first += 16) {
      const int pair = core_row(first, c.p, c.w) % c.w / 2;
      for (int t = 0; t < 4; ++t) {
        std::set<int> tuples;
        for (const int i : {2 * t, 2 * t + 1, 2 * t + 8, 2 * t + 9}) {
          const int row = core_row(first + i, c.p, c.w);
          ASSERT_EQ(row % c.w, 2 * pair + i % 2);
          ASSERT_EQ(row / c.w % 8, 2 * t + i / 8);
          tuples.insert(row / c.w);
        }
        ASSERT_EQ(tuples.size(), 2u);
      }
    }
  }
}

// With wide rows a state is a matrix of tuples times (features of the last tile x columns): that is how its kernels read and write it, and
// sixteen tuples are the features of one tile times those of another.
TEST(StateLayout, WideRowsHaveTheLastFeaturesSideBySide) {
  const int d = 32, p = 3, w = 4, columns = 32, tiles = d / w;
  ASSERT_TRUE(wide_rows(p, w));
  for (int row = 0; row < static_cast<int>(tspow::rows(tiles, p, w)); ++row) {
    const tspow::Indices x = tspow::decode(row, p, w);
    const int last = x.i[2] / w, high = x.i[1] / w, low = x.i[0] / w;
    const int before = last * (last + 1) * (last + 2) / 6;  // pairs of tiles of the last tiles before
    const int tuple = (before + high * (high + 1) / 2 + low) * 16 + x.i[0] % w * w + x.i[1] % w;
    for (int column = 0; column < columns; ++column) {
      ASSERT_EQ(core_element(core_position(row, p, w), column, columns), core_element(tuple, x.i[2] % w * columns + column, w * columns))
          << "row " << row << " column " << column;
    }
  }
}

TEST(StateLayout, EveryElementHasItsPlaceAndBlocksOfEightByEightAreContiguous) {
  for (const int columns : {16, 24, 72, 136}) {
    const int rows = 48;
    std::vector<bool> taken(static_cast<std::size_t>(rows * columns), false);
    for (int position = 0; position < rows; ++position) {
      for (int column = 0; column < columns; ++column) {
        const i64 at = core_element(position, column, columns);
        ASSERT_GE(at, 0);
        ASSERT_LT(at, rows * columns);
        ASSERT_FALSE(taken[static_cast<std::size_t>(at)]);
        taken[static_cast<std::size_t>(at)] = true;
        ASSERT_EQ(at / 64, core_element(position / 8 * 8, column / 8 * 8, columns) / 64);
        ASSERT_EQ(at % 64, position % 8 * 8 + column % 8);
        ASSERT_EQ(core_position_at(at, columns), position);
        ASSERT_EQ(core_column_at(at, columns), column);
        const i64 next_matrix = at + rows * columns;
        ASSERT_EQ(core_position_at(next_matrix, columns), rows + position);
        ASSERT_EQ(core_column_at(next_matrix, columns), column);
      }
    }
  }
}

// ---- denominators of degree 2 ----

// Kernels for products up to 128 wide and states of degree 2 are all that is made for a matrix; a state without denominators has none.
TEST(DenominatorMatrix, IsOfStatesOfDegreeTwoWithDenominators) {
  for (const int d : {16, 32, 64, 128}) {
    EXPECT_TRUE(denominator_matrix(d, 2, true)) << "d " << d;
    EXPECT_FALSE(denominator_matrix(d, 2, false)) << "d " << d;
    for (const int p : {1, 3, 4}) EXPECT_FALSE(denominator_matrix(d, p, true)) << "d " << d << " p " << p;
  }
  EXPECT_FALSE(denominator_matrix(256, 2, true));
}

// The product with queries takes sixteen rows at a time: they must be sixteen features in turn, and all of one part, so that the same
// queries multiply both parts of an entry.
TEST(DenominatorMatrix, SixteenRowsAreSixteenFeaturesOfOnePartThenOfTheOther) {
  for (const int d : {16, 32, 64, 128}) {
    SCOPED_TRACE(testing::Message() << "d " << d);
    std::vector<bool> taken(static_cast<std::size_t>(2 * d * d), false);
    for (int feature = 0; feature < d; ++feature) {
      for (const int part : {0, 1}) {
        const int step = feature / 16 * 2 + part;
        ASSERT_EQ(denominator_row(feature, part), step * 16 + feature % 16);
        for (int other = 0; other < d; ++other) {
          const int at = denominator_element(feature, other, part, d);
          ASSERT_GE(at, 0);
          ASSERT_LT(at, 2 * d * d);
          ASSERT_FALSE(taken[static_cast<std::size_t>(at)]) << "feature " << feature << " other " << other << " part " << part;
          taken[static_cast<std::size_t>(at)] = true;
          // A step is a block of memory of its own, in core matrices.
          ASSERT_EQ(at, step * 16 * d + core_element(feature % 16, other, d));
        }
      }
    }
  }
}

TEST(DenominatorMatrix, SharesHaveAPlaceEach) {
  for (const int d : {16, 32, 64, 128}) {
    SCOPED_TRACE(testing::Message() << "d " << d);
    std::vector<bool> taken(static_cast<std::size_t>(d * d), false);
    for (int feature = 0; feature < d; ++feature) {
      for (int other = 0; other < d; ++other) {
        const int at = denominator_share(feature, other, d);
        ASSERT_GE(at, 0);
        ASSERT_LT(at, d * d);
        ASSERT_FALSE(taken[static_cast<std::size_t>(at)]) << "feature " << feature << " other " << other;
        taken[static_cast<std::size_t>(at)] = true;
      }
    }
  }
}

// A scan works in place, each thread on its own 16 bytes: what two neighbours read must be all that they then write.
TEST(DenominatorMatrix, TwoVectorsAreTheSharesOfEightEntriesAndBothTheirParts) {
  for (const int d : {16, 32, 64, 128}) {
    std::set<int> vectors;
    for (int item = 0; item < d * d / 4; ++item) {
      SCOPED_TRACE(testing::Message() << "d " << d << " item " << item);
      const DenominatorVector vector = denominator_vector(item, d);
      const DenominatorVector pair = denominator_vector(item ^ 1, d);
      ASSERT_EQ(vector.part, item % 2);
      ASSERT_EQ(vector.feature, pair.feature);
      ASSERT_EQ(vector.other, pair.other);
      ASSERT_EQ(vector.other % 8, 0);
      ASSERT_EQ(vector.byte(d) % 16, 0);
      ASSERT_LT(vector.byte(d), d * d * 4);
      vectors.insert(vector.byte(d));
      for (int i = 0; i < 8; ++i)
        ASSERT_EQ(denominator_element(vector.feature, vector.other + i, vector.part, d) * 2, vector.byte(d) + i * 2);
      for (int i = 0; i < 4; ++i)
        ASSERT_EQ(denominator_share(vector.feature, vector.other + vector.part * 4 + i, d) * 4, vector.byte(d) + i * 4);
    }
    ASSERT_EQ(vectors.size(), static_cast<std::size_t>(d * d / 4));
  }
}

}  // namespace
}  // namespace phitune
