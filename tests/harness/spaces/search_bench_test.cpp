// Comparisons of strategies are the same on any number of threads, and say what is so on spaces where that is known.
#include "harness/spaces/search_bench.hpp"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "harness/error.hpp"

namespace phitune {
namespace {

// 400 configs of equal cost; times in an order that exhaustive search does not like.
RecordedSpace made_up_space() {
  Knob a{"a", {}, ""}, b{"b", {}, ""};
  for (int i = 0; i < 20; ++i) a.values.push_back(i), b.values.push_back(i);
  RecordedSpace space{"made up", Space({a, b}, {}), {}};
  for (int i = 0; i < 400; ++i) {
    const double distance = std::abs(i / 20 - 15) + std::abs(i % 20 - 15);
    space.trials.push_back({i % 11 == 3 ? Outcome::compile_failed : Outcome::ok, 1 + distance, 1000});
  }
  return space;
}

SearchBenchOptions options_of(std::size_t seeds, std::size_t threads) {
  return {.strategies = strategy_names(), .seeds = seeds, .threads = threads, .thinking = Thinking::free};
}

TEST(SearchBench, DoesNotDependOnTheNumberOfThreads) {
  std::vector<RecordedSpace> spaces;
  spaces.push_back(made_up_space());
  const auto one = compare_strategies(spaces, options_of(6, 1), false), four = compare_strategies(spaces, options_of(6, 4), false);
  ASSERT_EQ(one.size(), 1U);
  for (std::size_t i = 0; i < one[0].scores.size(); ++i) {
    EXPECT_EQ(one[0].scores[i].curve, four[0].scores[i].curve) << strategy_names()[i];
    EXPECT_EQ(one[0].scores[i].within_1.trials, four[0].scores[i].within_1.trials);
    EXPECT_EQ(one[0].scores[i].to_winner.trials, four[0].scores[i].to_winner.trials);
  }
}

TEST(SearchBench, RandomSearchScoresNothing) {
  std::vector<RecordedSpace> spaces;
  spaces.push_back(made_up_space());
  SearchBenchOptions options = options_of(2000, 0);
  options.strategies = {"random"};
  const auto compared = compare_strategies(spaces, options, false);
  // Seeds are fixed, so this never flickers; the spread of a mean of 2000 runs is a third of the bound.
  EXPECT_NEAR(compared[0].scores[0].score, 0, 0.06);
}

// One config of 400 is within 1 %: random search has it among the first 20 in one run of 20, and exhaustive search comes to it at the
// 316th.
TEST(SearchBench, TrialsToTheWinnerHaveABudgetOfTheirOwn) {
  std::vector<RecordedSpace> spaces;
  spaces.push_back(made_up_space());
  for (RecordedTrial& trial : spaces[0].trials) trial.cost_ms = 1e-3 * (1 + static_cast<double>(&trial - spaces[0].trials.data()));
  SearchBenchOptions options = options_of(2000, 0);
  options.strategies = {"random", "exhaustive"};
  const auto compared = compare_strategies(spaces, options, false);
  const ToWinner &random = compared[0].scores[0].to_winner, &exhaustive = compared[0].scores[1].to_winner;
  EXPECT_EQ(random.budget, 20U);
  EXPECT_NEAR(random.in_budget, 0.05, 0.015);
  EXPECT_FALSE(random.trials.has_value()) << "a run ends after a fifth of the space";
  EXPECT_EQ(exhaustive.in_budget, 0);
}

TEST(SearchBench, SpacesWithNothingToFindAreLeftOut) {
  std::vector<RecordedSpace> spaces;
  spaces.push_back(made_up_space());
  spaces.push_back(made_up_space());
  for (RecordedTrial& trial : spaces[0].trials) trial.outcome = Outcome::launch_failed;
  for (RecordedTrial& trial : spaces[1].trials) trial.time_ms = 1;
  EXPECT_TRUE(compare_strategies(spaces, options_of(1, 1), false).empty());
}

TEST(SearchBench, StopsWhenAskedTo) {
  std::vector<RecordedSpace> spaces;
  spaces.push_back(made_up_space());
  EXPECT_THROW((void)compare_strategies(spaces, options_of(1, 1), true), Error);
}

}  // namespace
}  // namespace phitune
