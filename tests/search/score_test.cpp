// The score by hand, on spaces small enough for that.
#include "search/score.hpp"

#include <gtest/gtest.h>

namespace phitune {
namespace {

// Times 1 ... 10 at a second each; the ninth and tenth fail.
RecordedSpace ten() {
  Knob knob{"k", {}, ""};
  for (int i = 1; i <= 10; ++i) knob.values.push_back(i);
  RecordedSpace space{"ten", Space({knob}, {}), {}};
  for (int i = 1; i <= 10; ++i) space.trials.push_back({i <= 8 ? Outcome::ok : Outcome::timed_out, static_cast<double>(i), 1000});
  return space;
}

TEST(Score, FactsAndBudgetByHand) {
  const RecordedSpace space = ten();
  const SpaceFacts facts = facts_of(space).value();
  EXPECT_EQ(facts.valid, 8U);
  EXPECT_EQ(facts.best_ms, 1);
  EXPECT_EQ(facts.median_ms, 4.5);
  // Target 1 + 0.05 * 3.5: nine of ten are worse, so 9 / (10 + 1 - 9) = 4.5 evaluations.
  EXPECT_EQ(budget_of(space).evaluations, 5U);
  EXPECT_EQ(budget_of(space).ms, 5000);
}

TEST(Score, WithoutARightConfigThereIsNoBudget) {
  RecordedSpace space = ten();
  for (RecordedTrial& trial : space.trials) trial.outcome = Outcome::wrong_result;
  EXPECT_FALSE(facts_of(space).has_value());
  EXPECT_THROW((void)budget_of(space), std::invalid_argument);
}

TEST(Score, RandomCurveIsTheExpectation) {
  const RecordedSpace space = ten();
  const std::vector<double> curve = random_curve(space, {500, 1000, 10000}, 20000);
  EXPECT_EQ(curve[0], 4.5) << "nothing has ended yet: the median stands for it";
  // One draw: the mean of 1 ... 8 and twice the median.
  EXPECT_NEAR(curve[1], (36 + 2 * 4.5) / 10, 0.05);
  EXPECT_EQ(curve[2], 1) << "everything was tried";
}

TEST(Score, AReplayCountsFailuresTimeAndOnlyWhatEndsInTheBudget) {
  const RecordedSpace space = ten();
  const auto strategy = make_strategy("exhaustive", space.space, 0);
  const Replay run = replay(space, *strategy, {.ms = 3500}, Thinking::free, 2);
  EXPECT_EQ(run.trials, 3U);
  EXPECT_EQ(run.asks, 2U);
  ASSERT_EQ(run.improvements.size(), 1U);
  EXPECT_EQ(run.best_at(999, 7), 7);
  EXPECT_EQ(run.best_at(1000, 7), 1);
}

TEST(Score, ByHand) {
  const RecordedSpace space = ten();
  const std::vector<double> moments = {1000, 2000}, random = {5, 3};
  Replay lucky, slow;
  lucky.improvements = {{900, 1, 1}};
  slow.improvements = {{1500, 1, 4}, {1900, 2, 2}};
  lucky.trials = slow.trials = 2;
  const SpaceScore score = score_of(space, moments, random, {lucky, slow});
  EXPECT_EQ(score.curve, (std::vector<double>{(1 + 4.5) / 2, 1.5}));
  EXPECT_DOUBLE_EQ(score.score, ((5 - 2.75) / 4 + (3 - 1.5) / 2) / 2);
  EXPECT_DOUBLE_EQ(score.share, (1 + 0.5) / 2);
  EXPECT_DOUBLE_EQ(score.worst_seed_share, 0.5);
  EXPECT_EQ(score.within_1.runs, 0.5);
  EXPECT_FALSE(score.within_1.trials.has_value()) << "the median of two runs, one of which never did, is never";
}

TEST(Score, AReplayEndsAfterItsTrialsOrOnceItIsGoodEnough) {
  const RecordedSpace space = ten();
  EXPECT_EQ(replay(space, *make_strategy("random", space.space, 1), {.trials = 4}, Thinking::free, 3).trials, 4U);
  const Replay good = replay(space, *make_strategy("random", space.space, 1), {.good_enough_ms = 3}, Thinking::free, 3);
  EXPECT_LE(good.improvements.back().best_ms, 3);
  EXPECT_EQ(good.improvements.back().trials, good.trials);
}

TEST(Score, TrialsToTheWinnerByHand) {
  Knob knob{"k", {}, ""};
  for (int i = 0; i < 119; ++i) knob.values.push_back(i);
  RecordedSpace space{"five in a hundred", Space({knob}, {}), {}};
  for (int i = 0; i < 119; ++i) space.trials.push_back({Outcome::ok, i == 7 ? 1.0 : i == 30 ? 1.0099 : 1.5, 1000});
  const ReplayLimits limits = to_winner_limits(space);
  EXPECT_EQ(limits.trials, 23U) << "a fifth, rounded down";
  EXPECT_DOUBLE_EQ(limits.good_enough_ms, 1.01);

  const auto found_after = [](std::size_t trials, double ms) {
    Replay run;
    run.improvements = {{1, 1, 1.5}, {2, trials, ms}};
    run.trials = trials;
    return run;
  };
  const Replay never = found_after(3, 1.02);
  ToWinner result = to_winner(space, {found_after(5, 1.0), never, found_after(4, 1.0099)});
  EXPECT_EQ(result.budget, 5U) << "5 % of 119, rounded down";
  EXPECT_EQ(result.trials, 5U);
  EXPECT_DOUBLE_EQ(result.in_budget, 2. / 3);
  EXPECT_TRUE(result.reached());
  result = to_winner(space, {found_after(5, 1.0), found_after(6, 1.0), found_after(7, 1.0)});
  EXPECT_EQ(result.trials, 6U);
  EXPECT_FALSE(result.reached()) << "one trial late";
  EXPECT_FALSE(to_winner(space, {never, never, found_after(2, 1)}).reached());
}

}  // namespace
}  // namespace phitune
