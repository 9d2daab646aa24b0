// From a database file to a plan with its machine code: exact, nearest, built-in, stale, another device, no database, no GPU.
#include "harness/dispatch/dispatcher.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "harness/dispatch/builtin_plan.hpp"
#include "harness/error.hpp"
#include "harness/store/store.hpp"
#include "kernel_templates/stage_template.hpp"
#include "tests/harness/dispatch/test_device.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

using testing_support::RandomTrials;
using testing_support::TemporaryFolder;

const char* const tuned_text = "b1 t8192 h8 d64 p2 bf16 gated";

void expect_says(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << message << "' does not say '" << part << "'";
}

class DispatcherTest : public testing::Test {
 protected:
  // A winner with configs that the templates accept, and machine code that only looks like it.
  void put_winner(const DeviceInfo& device, const std::string& problem_text) {
    Store store(path());
    const auto sweep = store.begin_sweep(random_.sweep(device)).id;
    PlanTrial trial = random_.plan_trial(Problem::parse(problem_text));
    trial.plan.shape = PlanShape::parse("expand_mma c1024 d_tile8 state_bf16 partial_bf16");
    trial.plan.stages.clear();
    trial.cubin_hashes.clear();
    for (const StageProblem& stage : stages_of(trial.plan.problem, trial.plan.shape)) {
      const Space space = stage_template(stage.stage, stage.path).space(stage, device);
      trial.plan.stages.push_back({stage, space.at(space.size() - 1)});
      const Binary binary = random_.binary();
      store.add(binary);
      trial.cubin_hashes.push_back(binary.cubin_hash);
    }
    trial.result.timing->median_ms = 1.25;
    store.set_winner(store.add(sweep, trial).id);
    winner_ = trial;
  }

  [[nodiscard]] std::filesystem::path path() const { return folder_ / "a.db"; }
  [[nodiscard]] Dispatcher open(DispatcherOptions options = {}) const {
    if (!options.device) options.device = test_device();
    return Dispatcher::open(path(), options);
  }

  RandomTrials random_{1};
  TemporaryFolder folder_;
  PlanTrial winner_;
};

TEST_F(DispatcherTest, NeverChoosesWhatWasEmulated) {
  DeviceInfo host = test_device();
  host.name = "host";
  host.emulated = true;
  put_winner(host, tuned_text);
  Dispatcher dispatcher = open();
  EXPECT_EQ(dispatcher.lookup(Problem::parse(tuned_text)).why, Why::builtin);
  EXPECT_TRUE(dispatcher.tuned().empty());
  DispatcherOptions for_the_host;
  for_the_host.device = host;
  try {
    (void)open(for_the_host);
    ADD_FAILURE() << "a dispatcher for an emulation";
  } catch (const Error& error) {
    expect_says(error.what(), "CPU emulation");
  }
  put_winner(test_device(), tuned_text);
  EXPECT_EQ(open().lookup(Problem::parse(tuned_text)).why, Why::exact);
}

TEST_F(DispatcherTest, ATunedProblemGetsItsPlanAndTheBinariesThatWereTimed) {
  put_winner(test_device(), tuned_text);
  Dispatcher dispatcher = open();
  std::filesystem::remove(path());  // not used after open
  const Selection selection = dispatcher.lookup(Problem::parse(tuned_text));
  EXPECT_EQ(selection.why, Why::exact);
  EXPECT_EQ(dispatcher.plan(selection), winner_.plan);
  EXPECT_EQ(dispatcher.workspace_size(selection), workspace_of(winner_.plan.problem, winner_.plan.shape).total());
  const auto stages = dispatcher.stages(selection);
  ASSERT_EQ(stages.size(), winner_.plan.stages.size());
  for (std::size_t i = 0; i < stages.size(); ++i) {
    EXPECT_EQ(stages[i].stage, winner_.plan.stages[i]);
    ASSERT_NE(stages[i].binary, nullptr);
    EXPECT_EQ(stages[i].binary->cubin_hash, winner_.cubin_hashes[i]);
  }
  expect_says(dispatcher.explain(selection), "tuned for this problem");
  expect_says(dispatcher.explain(selection), "1.25 ms");
}

TEST_F(DispatcherTest, ANearProblemGetsTheSamePlanOnItsOwnSizesAndSharesMachineCode) {
  put_winner(test_device(), tuned_text);
  Dispatcher dispatcher = open();
  const Problem near = Problem::parse("b2 t16384 h8 d64 p2 bf16 gated");
  const Selection selection = dispatcher.lookup(near);
  EXPECT_EQ(selection.why, Why::nearest);
  const Plan plan = dispatcher.plan(selection);
  EXPECT_EQ(plan.problem, near);
  EXPECT_EQ(plan.shape, winner_.plan.shape);
  ASSERT_EQ(plan.stages.size(), winner_.plan.stages.size());
  for (std::size_t i = 0; i < plan.stages.size(); ++i) {
    EXPECT_EQ(plan.stages[i].problem.problem.t, near.t);
    EXPECT_EQ(plan.stages[i].config, winner_.plan.stages[i].config);
    const auto& here = plan.stages[i];
    const auto& there = winner_.plan.stages[i];
    const StageTemplate& of = stage_template(here.problem.stage, here.problem.path);
    EXPECT_EQ(of.source(here.problem, here.config), of.source(there.problem, there.config)) << "sizes reach the source of " << plan.text();
  }
  const auto stages = dispatcher.stages(selection);
  for (std::size_t i = 0; i < stages.size(); ++i) EXPECT_EQ(stages[i].binary->cubin_hash, winner_.cubin_hashes[i]);
  expect_says(dispatcher.explain(selection), "this problem was not tuned");
  expect_says(dispatcher.explain(selection), winner_.plan.problem.key());
}

TEST_F(DispatcherTest, AnUntunedProblemGetsTheBuiltinPlanAndIsCompiled) {
  put_winner(test_device(), tuned_text);
  Dispatcher dispatcher = open();
  const Problem other = Problem::parse("b1 t64 h1 d16 p2 bf16 ungated");
  const Selection selection = dispatcher.lookup(other);
  EXPECT_EQ(selection.why, Why::builtin);
  EXPECT_EQ(dispatcher.plan(selection), builtin_plan(other, test_device()));
  expect_says(dispatcher.explain(selection), "nothing is tuned for d 16");
  const auto stages = dispatcher.stages(selection);
  ASSERT_EQ(stages.size(), 1U);
  EXPECT_GT(stages[0].binary->resources.registers, 0);
}

TEST_F(DispatcherTest, AnImpossibleProblemIsAnErrorWithItsReason) {
  put_winner(test_device(), tuned_text);
  Dispatcher dispatcher = open();
  Problem impossible = Problem::parse(tuned_text);
  impossible.hq = 7;
  impossible.hk = 2;
  const Selection selection = dispatcher.lookup(impossible);
  EXPECT_THROW((void)dispatcher.plan(selection), Error);
  EXPECT_THROW((void)dispatcher.stages(selection), Error);
}

TEST_F(DispatcherTest, AStaleWinnerSaysSoAndItsOldMachineCodeIsNotUsed) {
  put_winner(test_device(), "b1 t64 h1 d16 p2 bf16 ungated");
  DispatcherOptions options;
  options.template_hash = [](const PlanStage&) { return std::string("edited"); };
  Dispatcher dispatcher = open(options);
  const Selection selection = dispatcher.lookup(Problem::parse("b1 t64 h1 d16 p2 bf16 ungated"));
  EXPECT_EQ(selection.why, Why::exact);
  EXPECT_TRUE(selection.stale());
  expect_says(dispatcher.explain(selection), "stale: the template of");
  for (const ExecutableStage& stage : dispatcher.stages(selection)) {
    for (const std::string& old : winner_.cubin_hashes) EXPECT_NE(stage.binary->cubin_hash, old);
  }
}

TEST_F(DispatcherTest, AConfigThatTheSpaceNoLongerHasIsReplacedAndNoted) {
  put_winner(test_device(), tuned_text);
  {
    Store store(path());
    const auto sweep = store.begin_sweep(random_.sweep(test_device())).id;
    for (PlanStage& stage : winner_.plan.stages) {
      if (stage.problem.stage == Stage::scan) stage.config.set("threads", 96);
    }
    store.set_winner(store.add(sweep, winner_).id);
  }
  DispatcherOptions options;
  options.template_hash = [](const PlanStage&) { return std::string("edited"); };
  Dispatcher dispatcher = open(options);
  const Selection selection = dispatcher.lookup(Problem::parse(tuned_text));
  expect_says(dispatcher.explain(selection), "scan cannot run with the tuned config here");
  for (const PlanStage& stage : dispatcher.plan(selection).stages) {
    if (stage.problem.stage == Stage::scan) {
      EXPECT_NE(stage.config.at("threads"), 96);
    }
  }
}

TEST_F(DispatcherTest, DevicesAreToldApart) {
  DeviceInfo other_board = test_device();
  other_board.name = "NVIDIA Other";
  put_winner(other_board, tuned_text);
  {
    Dispatcher dispatcher = open();
    const Selection selection = dispatcher.lookup(Problem::parse(tuned_text));
    EXPECT_EQ(selection.why, Why::nearest);
    expect_says(dispatcher.explain(selection), "tuned on another device, NVIDIA Other");
  }
  DispatcherOptions options;
  options.device = test_device();
  options.device->architecture = "sm_80";
  Dispatcher dispatcher = open(options);
  EXPECT_EQ(dispatcher.lookup(Problem::parse(tuned_text)).why, Why::builtin);
  EXPECT_TRUE(dispatcher.tuned().empty());
}

TEST_F(DispatcherTest, WithoutAGpuTheOnlyKindOfDeviceIsChosenFor) {
  if (!list_devices().devices.empty()) GTEST_SKIP() << "this machine has a GPU";
  put_winner(test_device(), tuned_text);
  EXPECT_EQ(Dispatcher::open(path()).device().name, "NVIDIA Test");
  DeviceInfo other = test_device();
  other.name = "NVIDIA Other";
  put_winner(other, tuned_text);
  EXPECT_THROW(Dispatcher::open(path()), Error);
  EXPECT_THROW(Dispatcher::built_in(), Error);
}

TEST_F(DispatcherTest, PreparingWithoutAGpuIsAClearError) {
  if (!list_devices().devices.empty()) GTEST_SKIP() << "this machine has a GPU";
  put_winner(test_device(), tuned_text);
  Dispatcher dispatcher = open();
  try {
    (void)dispatcher.prepare(dispatcher.lookup(Problem::parse(tuned_text)));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::no_device) << error.what();
  }
}

TEST_F(DispatcherTest, AReplayedWinnerSaysSo) {
  DeviceInfo replayed = test_device();
  replayed.replayed = true;
  put_winner(replayed, tuned_text);
  Dispatcher dispatcher = open();
  const Selection selection = dispatcher.lookup(Problem::parse(tuned_text));
  EXPECT_EQ(selection.why, Why::exact);
  expect_says(dispatcher.explain(selection), "the numbers come from a recording");
}

TEST_F(DispatcherTest, AnUnusableDatabaseIsAnErrorAndAnEmptyOneIsNot) {
  EXPECT_THROW(open(), Error);
  std::ofstream(folder_ / "notes") << std::string(4000, 'n');
  EXPECT_THROW(Dispatcher::open(folder_ / "notes", {.device = test_device()}), Error);
  { Store store(path()); }
  EXPECT_EQ(open().lookup(Problem::parse(tuned_text)).why, Why::builtin);
  Dispatcher alone = Dispatcher::built_in({.device = test_device()});
  expect_says(alone.explain(alone.lookup(Problem::parse(tuned_text))), "nothing is tuned for this device");
}

TEST_F(DispatcherTest, ManyThreadsMayAskAtOnce) {
  put_winner(test_device(), tuned_text);
  Dispatcher dispatcher = open();
  std::vector<std::thread> threads;
  std::atomic<int> exact{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 200; ++round) {
        const Selection selection = dispatcher.lookup(Problem::parse(tuned_text));
        exact += selection.why == Why::exact ? 1 : 0;
        Problem near = selection.problem;
        near.t += i * 20 + round % 20;
        if (round % 50 == 0) (void)dispatcher.explain(dispatcher.lookup(near));
        if (round % 50 == 1) (void)dispatcher.stages(selection);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(exact, 8 * 200);
}

}  // namespace
}  // namespace phitune
