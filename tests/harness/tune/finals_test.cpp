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

TEST(WinnerOf, TheFastestThatWasRight) {
  const std::vector<StoredPlanTrial> finals = {final_of(expand_256, 1.0, 1e-3, Outcome::wrong_result), final_of(expand_512, 2.0, 1e-3),
                                               final_of("quadratic", 3.0, 1e-6), final_of(expand_256, 1.5, 1e-3, Outcome::unstable)};
  EXPECT_EQ(winner_of(finals), &finals[1]);
}

TEST(WinnerOf, NobodyWhenNoneWasRight) {
  EXPECT_EQ(winner_of({}), nullptr);
  EXPECT_EQ(winner_of({final_of(expand_256, 1, 1e-3, Outcome::wrong_result), final_of("quadratic", 1, 1e-3, Outcome::pruned)}), nullptr);
  StoredPlanTrial untimed = final_of("quadratic", 1, 1e-3);
  untimed.trial.result.timing.reset();
  EXPECT_EQ(winner_of({untimed}), nullptr);
}

TEST(WinnerOf, ATieGoesToTheSmallerError) {
  const std::vector<StoredPlanTrial> finals = {final_of(expand_256, 1.000, 3e-3), final_of(expand_512, 1.0049, 1e-3),
                                               final_of("quadratic", 1.0051, 1e-6)};
  EXPECT_EQ(winner_of(finals, 0.005), &finals[1]);  // the third is right and closest to the truth, but no tie
  EXPECT_EQ(winner_of(finals, 0.001), &finals[0]);
  EXPECT_EQ(winner_of(finals, 0.01), &finals[2]);
}

TEST(WinnerOf, ThenToFewerStagesThenToTheFirstByText) {
  const std::vector<StoredPlanTrial> stages = {final_of(expand_256, 1.0, 1e-3), final_of("quadratic", 1.002, 1e-3)};
  EXPECT_EQ(winner_of(stages), &stages[1]);
  const std::vector<StoredPlanTrial> text = {final_of(expand_512, 1.0, 1e-3), final_of(expand_256, 1.002, 1e-3)};
  EXPECT_EQ(winner_of(text), &text[1]);
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
