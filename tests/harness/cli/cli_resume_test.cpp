// Sweeps that are stopped, resumed, or share a database, end to end.
#include <chrono>
#include <thread>

#include "tests/harness/cli/cli_fixture.hpp"

namespace phitune {
namespace {

class Stopped : public Cli, public testing::WithParamInterface<int> {};

// Nothing that was stored is lost or tried twice, and the winner is the one of a sweep that nobody stopped.
TEST_P(Stopped, ASweepGoesOnWhereItWas) {
  {
    // Without a cache and on one thread it lasts long enough to be stopped.
    Process process(sweep_words("t.db", {"--cache", "", "--threads", "1"}), folder.path());
    std::int64_t stored = 0;
    for (int i = 0; i < 3000 && stored < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      try {
        stored = open("t.db").info().trials;
      } catch (const Error&) {  // not there yet
      }
    }
    ASSERT_GE(stored, 2) << "the sweep did not begin";
    process.signal(GetParam());
    const Finished stopped = process.wait();
    if (GetParam() == SIGKILL) {
      EXPECT_EQ(stopped.code, 128 + SIGKILL);
    } else {
      EXPECT_EQ(stopped.code, 130) << stopped.err;
      EXPECT_NE(stopped.err.find("--resume"), std::string::npos) << stopped.err;
    }
  }
  const std::int64_t kept = open("t.db").info().trials;
  ASSERT_LT(kept, static_cast<std::int64_t>(recorded.trials)) << "it was over before it was stopped";
  EXPECT_TRUE(open("t.db").check().empty());
  EXPECT_EQ(open("t.db").sweeps().front().status, GetParam() == SIGKILL ? SweepStatus::running : SweepStatus::interrupted);

  const json resumed = parsed(sweep_words("t.db", {"--resume", "--json"}));
  EXPECT_EQ(resumed["resumed"], kept);
  EXPECT_EQ(resumed["trials"].get<std::int64_t>(), static_cast<std::int64_t>(recorded.trials) - kept);
  Store made = open("made.db"), store = open("t.db");
  EXPECT_EQ(store.sweeps().size(), 1u);
  EXPECT_EQ(store.sweeps().front().status, SweepStatus::finished);
  EXPECT_EQ(trial_names(store), trial_names(made));
  ASSERT_EQ(store.winners().size(), 1u);
  EXPECT_EQ(store.winners()[0].plan_trial.trial.plan, made.winners()[0].plan_trial.trial.plan);
}

INSTANTIATE_TEST_SUITE_P(BySignal, Stopped, testing::Values(SIGINT, SIGTERM, SIGKILL), [](const auto& param_info) {
  return param_info.param == SIGINT ? "CtrlC" : param_info.param == SIGTERM ? "Term" : "Kill";
});

TEST_F(Cli, ASweepIsNotResumedWithOtherLimits) {
  {
    Store store(folder / "t.db");
    SweepInfo unfinished = recorded.sweep;
    unfinished.device.replayed = true;
    unfinished.policy = "{\"trials\": 99}";
    store.begin_sweep(unfinished);
  }
  const Finished finished = run(sweep_words("t.db", {"--resume"}));
  EXPECT_EQ(finished.code, 2) << finished.err;
  EXPECT_NE(finished.err.find("\"trials\": 99"), std::string::npos) << finished.err;
}

TEST_F(Cli, WithNothingToResumeASweepBeginsAndSaysSo) {
  const Finished finished = run(sweep_words("t.db", {"--resume"}));
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_NE(finished.err.find("nothing to resume"), std::string::npos) << finished.err;
}

TEST_F(Cli, TwoSweepsMayShareADatabase) {
  Store(folder / "t.db");
  Process one(sweep_words("t.db"), folder.path(), "one"), two(sweep_words("t.db"), folder.path(), "two");
  EXPECT_EQ(one.wait().code, 0);
  EXPECT_EQ(two.wait().code, 0);
  Store store = open("t.db");
  EXPECT_EQ(store.sweeps().size(), 2u);
  EXPECT_EQ(store.info().trials, 2 * static_cast<std::int64_t>(recorded.trials));
  EXPECT_EQ(store.winners().size(), 1u);
  EXPECT_TRUE(store.check().empty());
}

// A sweep that looked less hard must not take a better winner's place.
TEST_F(Cli, AFasterWinnerOfAnEarlierSweepStays) {
  ASSERT_EQ(run(sweep_words("t.db")).code, 0);
  const double before = open("t.db").winners()[0].plan_trial.trial.result.timing->median_ms;
  Recording slower = read_recording(folder / "tiny.jsonl.gz");
  for (PlanTrial& trial : slower.plan_trials) trial.result.timing->median_ms *= 2;
  write_recording(folder / "tiny.jsonl.gz", slower);
  const Finished finished = run(sweep_words("t.db"));
  EXPECT_EQ(finished.code, 0);
  EXPECT_NE(finished.out.find("an earlier sweep's winner is faster and stays"), std::string::npos) << finished.out;
  EXPECT_EQ(open("t.db").winners()[0].plan_trial.trial.result.timing->median_ms, before);
}

}  // namespace
}  // namespace phitune
