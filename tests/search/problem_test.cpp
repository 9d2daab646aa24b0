#include "search/problem.hpp"

#include <cmath>
#include <stdexcept>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/search/random_problem.hpp"

namespace phitune {
namespace {

std::string parse_error(std::string_view text) {
  try {
    return "accepted as " + Problem::parse(text).key();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

TEST(Problem, KeyIsTheDocumentedText) {
  Problem problem{.b = 1, .t = 65536, .hq = 8, .hk = 8};
  EXPECT_EQ(problem.key(), "forward b1 t65536 hq8 hk8 d64 e64 p2 bf16 gated sum bthd");
  problem.initial_state = problem.final_state = true;
  EXPECT_EQ(problem.key(), "forward b1 t65536 hq8 hk8 d64 e64 p2 bf16 gated sum bthd initial final");
}

TEST(Problem, EveryProblemReadsItsOwnKeyBack) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 rng(seed);
  for (int i = 0; i < 2000; ++i) {
    const Problem problem = random_problem(rng);
    ASSERT_EQ(Problem::parse(problem.key()), problem) << problem.key();
    ASSERT_EQ(problem.invalid(), std::nullopt) << problem.key();
  }
}

TEST(Problem, ShorthandFillsInTheDefaults) {
  const Problem problem = Problem::parse("b1, t4096,h8 d32 p2 bf16 gated");
  EXPECT_EQ(problem.key(), "forward b1 t4096 hq8 hk8 d32 e32 p2 bf16 gated sum bthd");
  EXPECT_EQ(Problem::parse("hq32 hk8 e16").key(), "forward b1 t1 hq32 hk8 d64 e16 p2 bf16 gated sum bthd");
}

TEST(Problem, AWrongWordIsNamed) {
  EXPECT_NE(parse_error("b1 t4096 bf61").find("'bf61'"), std::string::npos) << parse_error("b1 t4096 bf61");
  EXPECT_NE(parse_error("b1 t4096 bf61").find("did you mean 'bf16'"), std::string::npos);
  EXPECT_NE(parse_error("b1 t40x6").find("'40x6' is not a whole number"), std::string::npos) << parse_error("b1 t40x6");
  EXPECT_NE(parse_error("b1 b2").find("second time"), std::string::npos);
  EXPECT_NE(parse_error("h8 hk2").find("second time"), std::string::npos);
  EXPECT_NE(parse_error("bf16 fp16").find("second time"), std::string::npos);
  EXPECT_NE(parse_error("hq8").find("hq and hk go together"), std::string::npos);
  EXPECT_NE(parse_error(" , ").find("empty problem"), std::string::npos);
  EXPECT_NE(parse_error("t99999999999999999999").find("not a whole number"), std::string::npos);
}

TEST(Problem, WhatNoPlanCanComputeIsRefusedByName) {
  const auto reason = [](std::string_view text) { return Problem::parse(text).invalid().value_or("well formed"); };
  EXPECT_EQ(reason("b1 t1 h1 d16 p2"), "well formed");
  EXPECT_NE(reason("p3 sum").find("needs an even p"), std::string::npos);
  EXPECT_EQ(reason("p3 none"), "well formed");
  EXPECT_NE(reason("hq6 hk4").find("not a multiple"), std::string::npos);
  EXPECT_NE(reason("d48").find("d is 48"), std::string::npos);
  EXPECT_NE(reason("e80").find("e is 80"), std::string::npos);
  EXPECT_NE(reason("p5 none").find("p is 5"), std::string::npos);
  EXPECT_NE(reason("fp32").find("fp32"), std::string::npos);
  EXPECT_NE(reason("t0").find("t must be at least 1"), std::string::npos);
  EXPECT_NE(reason("b-3").find("b must be at least 1"), std::string::npos);
  EXPECT_NE(reason("b70000").find("at most 65535"), std::string::npos);
  EXPECT_NE(reason("b9000000000000000000 h9000000000000000000").find("at most 65535"), std::string::npos);
  EXPECT_NE(reason("t9000000000000000000").find("at most"), std::string::npos);
  EXPECT_NE(reason("b256 t1000000000 h128 d128").find("no device"), std::string::npos);
}

// Figures of the paper's tiled symmetric power, from the table of the design.
TEST(Problem, StateRowsAreTheTableOfTheDesign) {
  EXPECT_EQ(state_rows(16, 4, 1), 3876);
  EXPECT_EQ(state_rows(16, 4, 8), 20480);
  EXPECT_EQ(state_rows(32, 2, 4), 576);
  EXPECT_EQ(state_rows(32, 3, 16), 16384);
  EXPECT_EQ(state_rows(64, 2, 1), 2080);
  EXPECT_EQ(state_rows(64, 2, 8), 2304);
  EXPECT_EQ(state_rows(128, 2, 2), 8320);
  EXPECT_EQ(state_rows(64, 1, 16), 64);
  EXPECT_EQ(state_rows(64, 2, 0), 0);
  EXPECT_THROW((void)state_rows(64, 2, 3), std::invalid_argument);
}

TEST(Problem, StateRowsCountNonDecreasingTileTuples) {
  const auto brute = [](std::int64_t tiles, std::int64_t p) {
    std::int64_t count = 0;
    std::int64_t tuples = 1;
    for (std::int64_t i = 0; i < p; ++i) tuples *= tiles;
    for (std::int64_t code = 0; code < tuples; ++code) {
      bool sorted = true;
      for (std::int64_t rest = code, last = tiles, i = 0; i < p; ++i, rest /= tiles) {
        sorted = sorted && rest % tiles <= last;
        last = rest % tiles;
      }
      count += sorted;
    }
    return count;
  };
  for (std::int64_t p = 1; p <= 4; ++p) {
    for (const std::int64_t d_tile : {2, 4, 8, 16}) {
      const auto width = static_cast<std::int64_t>(std::pow(d_tile, p));
      EXPECT_EQ(state_rows(32, p, d_tile), brute(32 / d_tile, p) * width) << "p " << p << " d_tile " << d_tile;
    }
  }
}

TEST(Problem, ScaleIsOneOverRootD) { EXPECT_DOUBLE_EQ(Problem{.d = 64}.scale(), 0.125); }

TEST(Problem, NamesOfEnumerationsAreReadBackAndTyposSuggested) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::fp16, Dtype::fp32}) EXPECT_EQ(parse_dtype(to_string(dtype)), dtype);
  for (const Layout layout : {Layout::bthd, Layout::bhtd}) EXPECT_EQ(parse_layout(to_string(layout)), layout);
  for (const auto n : {Normalisation::none, Normalisation::sum}) EXPECT_EQ(parse_normalisation(to_string(n)), n);
  try {
    (void)parse_dtype("b16");
    FAIL() << "b16 was accepted";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "'b16' is not a dtype (bf16, fp16 or fp32): did you mean 'bf16'?");
  }
}

}  // namespace
}  // namespace phitune
