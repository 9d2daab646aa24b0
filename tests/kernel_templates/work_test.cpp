// FLOPs, bytes and floors against figures worked out by hand.
#include <gtest/gtest.h>

#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

const Problem headline = Problem::parse("b1 t65536 h8 d64 p2 bf16 gated");
constexpr double token_heads = 65536.0 * 8;

StageProblem stage(Stage s, const Problem& problem = headline) {
  return {problem, {.fusion = Fusion::expand_mma, .chunk = 1024, .d_tile = 8}, s, Path::sm80};
}

TEST(Work, AttentionCountsTheCausalHalf) {
  EXPECT_DOUBLE_EQ(work_of(stage(Stage::attention)).flops, token_heads * 1024 * 128);
  // A chunk and one of 500 tokens.
  EXPECT_DOUBLE_EQ(work_of(stage(Stage::attention, Problem::parse("b1 t1524 h1 d64 p2 bf16"))).flops, (1024.0 * 1024 + 500.0 * 500) * 128);
}

TEST(Work, UsefulFlopsLeaveTilePaddingOut) {
  const Work update = work_of(stage(Stage::update_state));
  EXPECT_DOUBLE_EQ(update.useful_flops / update.flops, 2080.0 / 2304.0);
  // The last chunk's state is nobody's.
  EXPECT_DOUBLE_EQ(update.flops, 2 * (token_heads - 8 * 1024) * 2304 * 64);
}

TEST(Work, AFinalStateNeedsEveryToken) {
  Problem final = headline;
  final.final_state = true;
  EXPECT_DOUBLE_EQ(work_of(stage(Stage::update_state, final)).flops, 2 * token_heads * 2304 * 64);
}

TEST(Work, ScanReadsAndWritesTheStates) { EXPECT_DOUBLE_EQ(work_of(stage(Stage::scan)).bytes, 2 * 8.0 * 63 * 2304 * (64 * 2 + 4)); }

TEST(Work, QueryStateReadsPartialOutputsAndWritesTheResult) {
  const double sigma = 8.0 * 63 * 2304 * (64 * 2 + 4);
  const double q = (token_heads - 8 * 1024) * 64 * 2, partial = token_heads * (64 * 2 + 4), y = token_heads * 64 * 2,
               gates = token_heads * 8;
  EXPECT_DOUBLE_EQ(work_of(stage(Stage::query_state)).bytes, sigma + q + partial + y + gates);
}

TEST(Work, EveryStageHasBytes) {
  for (const Fusion fusion : {Fusion::quadratic, Fusion::expand_mma, Fusion::materialized}) {
    PlanShape shape{.fusion = fusion};
    if (fusion != Fusion::quadratic) shape = {.fusion = fusion, .chunk = 512, .d_tile = 4};
    for (const StageProblem& s : stages_of(headline, shape)) EXPECT_GT(work_of(s).bytes, 0) << s.key();
  }
}

TEST(Floor, HeadlineIsBoundByTheMatrixRate) {
  const double floor = floor_ms(headline, 708, 4.28);
  // Two products with the exact 2080 rows, and chunks between 128 and 512 tokens.
  const double products = 2 * 2 * token_heads * 2080 * 64 / 708e9;
  EXPECT_GT(floor, products);
  EXPECT_LT(floor, products + token_heads * 512 * 128 / 708e9);
}

TEST(Floor, ShortProblemsNeedNoState) {
  const Problem tiny = Problem::parse("b1 t64 h1 d64 p2 bf16 gated");
  EXPECT_LE(floor_ms(tiny, 700, 4), std::max(64.0 * 64 * 128 / 700e9, 64.0 * (4 * 64 * 2 + 4) / 4e9) * 1.000001);
}

TEST(Floor, FallsWithFasterDevices) { EXPECT_LT(floor_ms(headline, 1400, 8), floor_ms(headline, 700, 4)); }

}  // namespace
}  // namespace phitune
