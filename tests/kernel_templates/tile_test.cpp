// That places in a tile of shared memory are told apart, and moved as tile.cuh says.
#include "kernel_templates/common/tile.cuh"

#include <gtest/gtest.h>

#include <set>

namespace phitune {
namespace {

template <int Width>
void expect_places() {
  constexpr int rows = 64, chunks = Width / 8;
  std::set<int> places;
  for (int row = 0; row < rows; ++row)
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const int place = tile_offset<Width>(row, chunk);
      EXPECT_TRUE(places.insert(place).second) << "width " << Width << " row " << row << " chunk " << chunk;
      for (int more = 0; more < rows; ++more)
        for (int further = 0; further < chunks; ++further) {
          if ((row & more) != 0 || (chunk & further) != 0) continue;  // a sum would carry
          ASSERT_EQ(moved_tile_offset<Width>(place, more, further), tile_offset<Width>(row + more, chunk + further))
              << "width " << Width << " row " << row << " + " << more << " chunk " << chunk << " + " << further;
        }
    }
  EXPECT_EQ(places.size(), static_cast<std::size_t>(rows * chunks));
  EXPECT_EQ(*places.rbegin(), rows * Width * 2 - 16);
}

TEST(TileOffset, EachChunkHasAPlaceAndMovesFromAnother) {
  expect_places<16>();
  expect_places<32>();
  expect_places<64>();
  expect_places<128>();
}

}  // namespace
}  // namespace phitune
