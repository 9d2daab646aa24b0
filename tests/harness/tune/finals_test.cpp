#include "harness/tune/finals.hpp"

#include <gtest/gtest.h>

#include "tests/harness/store/random_trials.hpp"
#include "tests/harness/tune/synthetic_device.hpp"

namespace phitune {
namespace {

using testing_support::SyntheticDevice;
using testing_support::TemporaryFolder;
using testing_support::timed;

const Problem problem = Problem::parse("b1 t512 h1 d16 p1 bf16 ungated none");

StoredPlanTrial final_of(const std::string& shape, double ms, double error, Outcome outcome = Outcome::ok) {
  StoredPlanTrial row;
  row.trial.plan = {problem, PlanShape::parse(shape), {}};
  for (const StageProblem& stage : stages_of(problem, row.trial.plan.shape)) row.trial.plan.stages.push_back({stage, {}});
  row.trial.result = timed(ms, error);
  row.trial.result.outcome = outcome;
  return row;
}

const std::string expand_256 = "expand_mma c256 d_tile16 state_bf16 partial_bf16";
const std::string expand_512 = "expand_mma c512 d_tile16 state_bf16 partial_bf16";

std::vector<StoredPlanTrial> judged(std::vector<StoredPlanTrial> finals, double tie_share = kTieShare) {
  std::vector<PlanTrial> trials;
  for (const StoredPlanTrial& row : finals) trials.push_back(row.trial);
  set_standings(trials, tie_share);
  for (std::size_t i = 0; i < finals.size(); ++i) finals[i].trial.standing = trials[i].standing;
  return finals;
}

TEST(WinnerOf, TheFastestThatWasRight) {
  const auto finals = judged({final_of(expand_256, 1.0, 1e-3, Outcome::wrong_result), final_of(expand_512, 2.0, 1e-3),
                              final_of("quadratic", 3.0, 1e-6), final_of(expand_256, 1.5, 1e-3, Outcome::unstable)});
  EXPECT_EQ(winner_of(finals), &finals[1]);
}

TEST(WinnerOf, NobodyWhenNoneWasRight) {
  EXPECT_EQ(winner_of({}), nullptr);
  EXPECT_EQ(winner_of(judged({final_of(expand_256, 1, 1e-3, Outcome::wrong_result), final_of("quadratic", 1, 1e-3, Outcome::pruned)})),
            nullptr);
  StoredPlanTrial untimed = final_of("quadratic", 1, 1e-3);
  untimed.trial.result.timing.reset();
  EXPECT_EQ(winner_of(judged({untimed})), nullptr);
}

TEST(WinnerOf, ATieGoesToTheSmallerError) {
  const std::vector<StoredPlanTrial> finals = {final_of(expand_256, 1.000, 3e-3), final_of(expand_512, 1.0049, 1e-3),
                                               final_of("quadratic", 1.0051, 1e-6)};
  const auto narrow = judged(finals, 0.001), usual = judged(finals, 0.005), wide = judged(finals, 0.01);
  EXPECT_EQ(winner_of(usual), &usual[1]);  // the third is right and closest to the truth, but no tie
  EXPECT_EQ(winner_of(narrow), &narrow[0]);
  EXPECT_EQ(winner_of(wide), &wide[2]);
}

TEST(WinnerOf, ThenToFewerRegistersThenToFewerStagesThenToTheFirstByText) {
  auto registers = judged({final_of("quadratic", 1.0, 1e-3), final_of(expand_256, 1.002, 1e-3)});
  registers[0].registers = 168;
  registers[1].registers = 128;
  EXPECT_EQ(winner_of(registers), &registers[1]);
  const auto stages = judged({final_of(expand_256, 1.0, 1e-3), final_of("quadratic", 1.002, 1e-3)});
  EXPECT_EQ(winner_of(stages), &stages[1]);
  const auto text = judged({final_of(expand_512, 1.0, 1e-3), final_of(expand_256, 1.002, 1e-3)});
  EXPECT_EQ(winner_of(text), &text[1]);
}

TEST(WinnerOf, TheIncumbentStaysUnlessItIsShownToBeSlower) {
  const auto finals = judged({final_of(expand_256, 1.000, 1e-6), final_of(expand_512, 1.004, 3e-3), final_of("quadratic", 1.02, 1e-6)});
  EXPECT_EQ(winner_of(finals, &finals[1].trial.plan), &finals[1]);
  EXPECT_EQ(winner_of(finals, &finals[2].trial.plan), &finals[0]) << "two per cent slower: it must go";
}

TEST(Standings, PairsTellApartWhatMediansConfuse) {
  StoredPlanTrial fast = final_of(expand_256, 1, 1e-3), slow = final_of(expand_512, 1, 1e-6), noisy = final_of("quadratic", 1, 1e-9);
  fast.trial.result.timing->samples_ms.clear();
  slow.trial.result.timing->samples_ms.clear();
  noisy.trial.result.timing->samples_ms.clear();
  for (int round = 0; round < 20; ++round) {
    const double drift = 1 + 0.02 * round;
    fast.trial.result.timing->samples_ms.push_back(drift);
    slow.trial.result.timing->samples_ms.push_back(drift * 1.02);
    noisy.trial.result.timing->samples_ms.push_back(drift * (round % 2 == 0 ? 0.95 : 1.08));
  }
  // By medians alone all three would be a tie.
  fast.trial.result.timing->median_ms = 1;
  slow.trial.result.timing->median_ms = 1.001;
  noisy.trial.result.timing->median_ms = 1.002;
  const auto finals = judged({fast, slow, noisy});
  EXPECT_TRUE(finals[0].trial.standing->tied);
  EXPECT_NEAR(finals[1].trial.standing->low, 0.02, 1e-9);
  EXPECT_FALSE(finals[1].trial.standing->tied) << "slower by two per cent in every round";
  EXPECT_TRUE(finals[2].trial.standing->tied) << "it may be faster";
  EXPECT_LT(finals[2].trial.standing->low, 0);
  EXPECT_GT(finals[2].trial.standing->high, 0);
  EXPECT_EQ(winner_of(finals), &finals[2]);
}

TEST(Standings, WhoLeftTheRoundsEarlyIsJudgedByTheRoundsThatItWasIn) {
  StoredPlanTrial fast = final_of(expand_256, 1, 1e-3), gone = final_of(expand_512, 1, 1e-6);
  fast.trial.result.timing->samples_ms.clear();
  gone.trial.result.timing->samples_ms.clear();
  // The device slows by a half; the other one saw only the first, fast rounds.
  for (int round = 0; round < 20; ++round) {
    const double drift = round < 8 ? 1 : 1.5;
    fast.trial.result.timing->samples_ms.push_back(drift);
    if (round < 8) gone.trial.result.timing->samples_ms.push_back(1.1);
  }
  fast.trial.result.timing->median_ms = 1.5;
  gone.trial.result.timing->median_ms = 1.6;
  const auto finals = judged({fast, gone});
  EXPECT_NEAR(finals[1].trial.standing->low, 0.1, 1e-9);
  EXPECT_FALSE(finals[1].trial.standing->tied);
}

class RunFinals : public testing::Test {
 protected:
  RunFinals() : store(folder / "finals.db"), compiler({"sm_90a", PHITUNE_TEST_CACHE, 0}) {
    SweepInfo info;
    info.device = device.info();
    sweep = store.begin_sweep(info).id;
    for (const std::string& shape : {std::string("quadratic"), expand_256}) {
      Composition& composition = finalists.emplace_back();
      composition.plan = {problem, PlanShape::parse(shape), {}};
      for (const StageProblem& stage : stages_of(problem, composition.plan.shape)) {
        const Space space = stage_template(stage.stage, stage.path).space(stage, device.info());
        composition.plan.stages.push_back({stage, space.at(0)});
        composition.stage_ms.push_back(1);
      }
    }
  }

  std::vector<StoredPlanTrial> run() {
    Evaluator evaluator(device, compiler, store, sweep, {});
    return run_finals(problem, finalists, evaluator, device, store, sweep, {});
  }

  TemporaryFolder folder;
  SyntheticDevice device;
  Store store;
  Compiler compiler;
  std::int64_t sweep = 0;
  std::vector<Composition> finalists;
};

TEST_F(RunFinals, StoresEachFinalistWithTheBinariesThatRan) {
  const std::vector<StoredPlanTrial> finals = run();
  ASSERT_EQ(finals.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(finals[i].trial.plan, finalists[i].plan);
    EXPECT_EQ(store.plan_trial(finals[i].id).trial.standing, finals[i].trial.standing);
    EXPECT_TRUE(finals[i].trial.standing);
    EXPECT_GT(finals[i].registers, 0);
    EXPECT_EQ(store.plan_trial(finals[i].id).registers, finals[i].registers);
    for (const std::string& hash : store.plan_trial(finals[i].id).trial.cubin_hashes) EXPECT_TRUE(store.binary(hash)) << hash;
  }
  store.set_winner(winner_of(finals)->id);
  EXPECT_EQ(store.winners().size(), 1u);
}

// Measuring them again could crown another winner than the one that was stored.
TEST_F(RunFinals, AResumedSweepAnswersFromTheStore) {
  const std::vector<StoredPlanTrial> first = run(), second = run();
  EXPECT_EQ(device.rounds, 1);
  ASSERT_EQ(second.size(), first.size());
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(second[i].id, first[i].id);
    EXPECT_EQ(second[i].trial.result.timing, first[i].trial.result.timing);
  }
  finalists.erase(finalists.begin() + 1);
  finalists.front().plan.stages.front().config =
      stage_template(Stage::attention, Path::sm80).space(finalists.front().plan.stages.front().problem, device.info()).at(1);
  EXPECT_EQ(run().size(), 1u);
  EXPECT_EQ(device.rounds, 2) << "another finalist is not answered by the stored ones";
}

}  // namespace
}  // namespace phitune
