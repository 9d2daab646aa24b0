// How the works of the Hopper attention kernel are dealt out: each to one block, once, and so that blocks end together.
#include "kernel_templates/sm90/attention_config.cuh"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel_templates/sm90/attention_deal.hpp"
#include "kernel_templates/stage_template.hpp"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune::sm90 {
namespace {

TEST(AttentionPlace, EveryPieceIsDealtOutOnce) {
  for (const u32 grid : {1u, 3u, 6u, 132u})
    for (const u32 row_count : {1u, 2u, 3u, 4u, 16u, 150u})
      for (const u32 groups : {1u, 5u, 97u}) {
        std::set<std::pair<u32, u32>> seen;
        for (u32 work = 0; work < groups * row_count; ++work) {
          const AttentionPlace place = attention_place(work, row_count, grid);
          ASSERT_LT(place.group, groups);
          ASSERT_LT(place.tile, row_count);
          ASSERT_TRUE(seen.insert({place.group, place.tile}).second)
              << "grid " << grid << ", " << row_count << " blocks of rows, " << groups << " groups, work " << work;
        }
      }
}

/// Pieces of `groups` groups in turn, where one costs `fixed` and `step` more for each block of rows before its own; those of every
/// `cheap`-th group a tenth.
std::vector<std::int64_t> costs(u32 row_count, u32 groups, u32 grid, std::int64_t fixed, std::int64_t step, u32 cheap = 1000) {
  std::vector<std::int64_t> out;
  for (u32 work = 0; work < row_count * groups; ++work) {
    const AttentionPlace place = attention_place(work, row_count, grid);
    out.push_back((fixed + step * place.tile) / (place.group % cheap == 0 ? 10 : 1));
  }
  return out;
}

/// The table of a deal, as a kernel has it.
struct Table {
  inline static u32 first, grid, end;
  inline static const std::uint16_t* blocks;
  static u32 block(u32 i) { return blocks[i]; }
};

/// The longest block over the mean. Fails unless every work is some block's.
double imbalance(const std::vector<std::int64_t>& costs, const AttentionDeal& deal) {
  std::vector<std::int64_t> loads(deal.grid);
  std::vector<int> times(costs.size());
  Table::first = deal.first, Table::grid = deal.grid, Table::end = deal.first + static_cast<u32>(deal.blocks.size()), Table::blocks = deal.blocks.data();
  using Deal = Exchanged<Table>;
  for (u32 index = 0; index < Deal::end(static_cast<u32>(costs.size())); ++index) {
    const u32 work = Deal::work(index);
    if (work >= costs.size()) continue;
    loads[index % deal.grid] += costs[work];
    ++times[work];
  }
  EXPECT_EQ(std::count(times.begin(), times.end(), 1), static_cast<std::ptrdiff_t>(costs.size()));
  return static_cast<double>(*std::max_element(loads.begin(), loads.end())) * deal.grid /
         static_cast<double>(std::accumulate(costs.begin(), costs.end(), std::int64_t{0}));
}
AttentionDeal in_turn(u32 grid) { return {0, grid, {}}; }
double imbalance_in_turn(const std::vector<std::int64_t>& costs, u32 grid) {
  AttentionDeal deal = in_turn(grid);
  for (u32 i = 0; i < (costs.size() + grid - 1) / grid * grid; ++i) deal.blocks.push_back(static_cast<std::uint16_t>(i % grid));
  return imbalance(costs, deal);
}

TEST(AttentionDeal, BlocksThatExchangeWorksEndTogether) {
  // The headline's attend_query at chunk 768, but for its ends: 86 chunks of 8 heads, three blocks of rows, 15 or 16 pieces for each block;
  // first chunks have no state.
  const std::vector<std::int64_t> headline = costs(3, 688, 132, 25456, 4352, 86);
  EXPECT_GT(imbalance_in_turn(headline, 132), 1.02);
  const auto deal = deal_last_rounds(headline, 132);
  ASSERT_TRUE(deal);
  EXPECT_LT(imbalance(headline, *deal), 1.01);
  // Sixteen blocks of rows.
  const std::vector<std::int64_t> wide = costs(16, 256, 132, 71600, 2176, 32);
  EXPECT_GT(imbalance_in_turn(wide, 132), 1.02);
  const auto wide_deal = deal_last_rounds(wide, 132);
  ASSERT_TRUE(wide_deal);
  EXPECT_LT(imbalance(wide, *wide_deal), 1.01);
}

TEST(AttentionDeal, IsNeverWorseThanInTurn) {
  const std::uint64_t seed = kernel_test::test_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  for (int i = 0; i < 200; ++i) {
    const u32 grid = 1 + static_cast<u32>(rng() % 140);
    std::vector<std::int64_t> costs(1 + rng() % 900);
    for (std::int64_t& cost : costs) cost = static_cast<std::int64_t>(rng() % 5 == 0 ? 0 : 100 + rng() % 400);
    costs.front() = 100;
    const auto deal = deal_last_rounds(costs, grid);
    if (deal) {
      EXPECT_LE(imbalance(costs, *deal), imbalance_in_turn(costs, grid) - 0.01 + 1e-9) << "grid " << grid << ", " << costs.size() << " works";
    }
  }
}

TEST(AttentionDeal, NothingIsDealtOutWhereNothingIsGained) {
  EXPECT_FALSE(deal_last_rounds(std::vector<std::int64_t>(264, 1000), 132));  // equal, and none is left over
  EXPECT_FALSE(deal_last_rounds(std::vector<std::int64_t>(200, 1000), 132));  // a round and a half of equal works
  EXPECT_FALSE(deal_last_rounds(std::vector<std::int64_t>(1, 100), 132));     // one work
  EXPECT_FALSE(deal_last_rounds(costs(2, 7 * 6600, 132, 1000, 10), 132));     // as even as can be
}

/// What the host side writes into a kernel.
std::string source_of(const char* problem, const char* shape, int blocks = 132, int min_blocks = 1) {
  const StageProblem stage{.problem = Problem::parse(problem), .shape = PlanShape::parse(shape), .stage = Stage::attend_query, .path = Path::sm90};
  const Config config{{"warpgroups", 2}, {"m_tiles", 2}, {"steps", 8},      {"batch", 2},      {"stages", 4},
                      {"score_sets", 1}, {"query_tiles", 1}, {"min_blocks", min_blocks}, {"blocks", blocks}};
  return stage_template(stage.stage, Path::sm90).source(stage, config);
}

TEST(AttentionDeal, IsWrittenIntoKernelsThatShareWorks) {
  const char* const headline = "b1 t65536 h8 d64 p2 bf16 gated";
  const std::string shared = source_of(headline, "two_kernels c768 d_tile8 state_bf16 sm90");
  // 2,064 works: 15 rounds and a part; the last six rounds and that part are dealt out.
  EXPECT_NE(shared.find("first = 1188, grid = 132, end = 2112 "), std::string::npos) << shared;
  EXPECT_NE(shared.find("phitune::sm90::Exchanged<Dealt>"), std::string::npos);
  EXPECT_EQ(source_of(headline, "two_kernels c768 d_tile8 state_bf16 sm90", 0).find("Dealt"), std::string::npos) << "a block for every work";
  EXPECT_EQ(source_of(headline, "two_kernels c768 d_tile8 state_bf16 sm90", 132, 2).find("Dealt"), std::string::npos) << "two blocks share a multiprocessor";
  EXPECT_EQ(source_of("b8 t65536 h12 d64 p2 bf16 gated", "two_kernels c768 d_tile8 state_bf16 sm90").find("Dealt"), std::string::npos)
      << "of 187 rounds one is nothing";
}

}  // namespace
}  // namespace phitune::sm90
