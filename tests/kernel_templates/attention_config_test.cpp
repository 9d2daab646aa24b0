// How the works of the Hopper attention kernel are dealt out: each to one block, once, and so that blocks end together.
#include "kernel_templates/sm90/attention_config.cuh"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel_templates/stage_template.hpp"

namespace phitune::sm90 {
namespace {

TEST(AttentionPlace, EveryPieceIsDealtOutOnce) {
  for (const u32 grid : {1u, 3u, 6u, 132u})
    for (const u32 row_count : {1u, 2u, 3u, 4u, 16u, 150u})
      for (const u32 groups : {1u, 5u, 97u})
        for (u32 last_rounds = 0; last_rounds <= 8; ++last_rounds) {
          std::set<std::pair<u32, u32>> seen;
          const u32 works = groups * row_count;
          for (u32 work = 0; work < works; ++work) {
            const AttentionPlace place = attention_place(work, row_count, works, grid, last_rounds);
            ASSERT_LT(place.group, groups);
            ASSERT_LT(place.tile, row_count);
            ASSERT_TRUE(seen.insert({place.group, place.tile}).second)
                << "grid " << grid << ", " << row_count << " blocks of rows, " << groups << " groups, last rounds " << last_rounds << ", work " << work;
          }
        }
}

/// The longest block over the mean, where a piece costs `fixed` and one for each block of rows up to its own.
double imbalance(u32 row_count, u32 groups, u32 grid, u32 last_rounds, double fixed) {
  std::vector<double> blocks(grid);
  double sum = 0;
  for (u32 work = 0; work < groups * row_count; ++work) {
    const double cost = fixed + 1 + attention_place(work, row_count, groups * row_count, grid, last_rounds).tile;
    blocks[work % grid] += cost, sum += cost;
  }
  return *std::max_element(blocks.begin(), blocks.end()) / (sum / grid);
}

TEST(AttentionPlace, LastRoundsMakeUpForBlocksWithOnePieceMore) {
  // The headline, as attend_query has it at chunk 1024: 2,048 pieces for 132 blocks, 15 or 16 each.
  EXPECT_GT(imbalance(4, 512, 132, 0, 4.4), 1.03);
  EXPECT_LT(imbalance(4, 512, 132, 3, 4.4), 1.015);
}

/// The last rounds that the host side writes into a kernel.
std::string last_rounds_of(const char* problem, const char* shape, int m_tiles = 2) {
  const StageProblem stage{.problem = Problem::parse(problem), .shape = PlanShape::parse(shape), .stage = Stage::attend_query, .path = Path::sm90};
  const Config config{{"warpgroups", 2}, {"m_tiles", m_tiles}, {"steps", 8},      {"batch", 2},      {"stages", 4},
                      {"score_sets", 1}, {"query_tiles", 2}, {"min_blocks", 1}, {"blocks", 132}};
  const std::string source = stage_template(stage.stage, Path::sm90).source(stage, config);
  const std::size_t at = source.find(".last_rounds = ");
  return at == std::string::npos ? "none" : source.substr(at + 15, 1);
}

TEST(AttentionPlace, LastRoundsAreForFewRoundsAndFewBlocksOfRows) {
  EXPECT_EQ(last_rounds_of("b1 t65536 h8 d64 p2 bf16 gated", "two_kernels c1024 d_tile8 state_bf16 sm90"), "3");
  EXPECT_EQ(last_rounds_of("b8 t65536 h12 d64 p2 bf16 gated", "two_kernels c1024 d_tile8 state_bf16 sm90"), "0");  // 186 rounds
  EXPECT_EQ(last_rounds_of("b8 t65536 h12 d32 p2 bf16 gated", "two_kernels c512 d_tile8 state_bf16 sm90"), "0");
  EXPECT_EQ(last_rounds_of("b1 t65536 h8 d128 p2 bf16 gated", "two_kernels c2048 d_tile4 state_bf16 sm90", 1), "0");  // 16 blocks of rows
}

}  // namespace
}  // namespace phitune::sm90
