#include "harness/tune/evaluator.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "harness/error.hpp"
#include "harness/tune/candidate.hpp"
#include "tests/harness/store/random_trials.hpp"
#include "tests/harness/tune/synthetic_device.hpp"

namespace phitune {
namespace {

using testing_support::SyntheticDevice;
using testing_support::TemporaryFolder;
using testing_support::timed;

const Problem problem = Problem::parse("b1 t512 h1 d16 p1 bf16 gated none");

class EvaluatorTest : public testing::Test {
 protected:
  EvaluatorTest() : stage(make_stage_problem(problem, PlanShape::parse("quadratic"), Stage::gates)), store(folder / "trials.db") {
    SweepInfo info;
    info.device = device.info();
    sweep = store.begin_sweep(info).id;
    const Space space = stage_template(stage.stage, stage.path).space(stage, device.info());
    for (std::size_t i = 0; i < 4; ++i) configs.push_back(space.at(i));
  }

  static CompilerOptions compiling() { return {"sm_90a", PHITUNE_TEST_CACHE, 0}; }

  TemporaryFolder folder;
  SyntheticDevice device;
  StageProblem stage;
  Store store;
  std::int64_t sweep = 0;
  std::vector<Config> configs;
};

TEST_F(EvaluatorTest, ATrialIsInTheStoreWhenItIsReturned) {
  Compiler compiler(compiling());
  Evaluator evaluator(device, compiler, store, sweep, {});
  const auto [trial, fresh] = evaluator.evaluate(stage, configs[0]);
  EXPECT_TRUE(fresh);
  EXPECT_EQ(trial.result.outcome, Outcome::ok);
  EXPECT_FALSE(trial.cubin_hash.empty());
  ASSERT_TRUE(trial.resources);
  const std::vector<StoredTrial> stored = store.trials();
  ASSERT_EQ(stored.size(), 1u);
  EXPECT_EQ(stored[0].trial.problem, stage);
  EXPECT_EQ(stored[0].trial.config, configs[0]);
  EXPECT_EQ(stored[0].trial.result.timing, trial.result.timing);
  EXPECT_EQ(stored[0].trial.source_hash, compiler.key(source_of(stage, configs[0])));
}

TEST_F(EvaluatorTest, AStageThatTwoProblemsShareIsTriedOnce) {
  Compiler compiler(compiling());
  Evaluator evaluator(device, compiler, store, sweep, {});
  const auto first = evaluator.evaluate(stage, configs[0]);
  const auto second = evaluator.evaluate(stage, configs[0]);
  EXPECT_EQ(device.stages_run.size(), 1u);
  EXPECT_FALSE(second.fresh);
  EXPECT_EQ(second.trial.result.timing, first.trial.result.timing);
  EXPECT_EQ(evaluator.shared(), 1u);
  EXPECT_EQ(evaluator.resumed(), 0u);
}

TEST_F(EvaluatorTest, AResumedSweepNeitherCompilesNorRunsWhatIsStored) {
  {
    Compiler compiler(compiling());
    Evaluator before(device, compiler, store, sweep, {});
    static_cast<void>(before.evaluate(stage, configs[0]));
  }
  device.answer = [](const ExecutableStage&) { return timed(99); };
  Compiler compiler({"sm_90a", {}, 1});
  Evaluator after(device, compiler, store, sweep, {});
  after.compile_ahead(stage, std::span(configs).first(1));
  const auto [trial, fresh] = after.evaluate(stage, configs[0]);
  EXPECT_FALSE(fresh);
  EXPECT_NE(trial.result.timing->median_ms, 99);
  EXPECT_EQ(after.resumed(), 1u);
  EXPECT_EQ(compiler.counters().compiled, 0u);
  EXPECT_EQ(store.trials().size(), 1u);
}

TEST_F(EvaluatorTest, AWrongResultIsStoredWithItsReasonAndTheSweepGoesOn) {
  device.answer = [](const ExecutableStage&) {
    Result wrong;
    wrong.outcome = Outcome::wrong_result;
    wrong.reason = "row 7 is off";
    return wrong;
  };
  Compiler compiler(compiling());
  Evaluator evaluator(device, compiler, store, sweep, {});
  EXPECT_EQ(evaluator.evaluate(stage, configs[0]).trial.result.outcome, Outcome::wrong_result);
  ASSERT_EQ(store.trials().size(), 1u);
  EXPECT_EQ(store.trials()[0].trial.result.reason, "row 7 is off");
}

TEST_F(EvaluatorTest, ALostDeviceIsNotATrial) {
  device.answer = [](const ExecutableStage&) -> Result { throw DeviceLost("it fell off the bus"); };
  Compiler compiler(compiling());
  Evaluator evaluator(device, compiler, store, sweep, {});
  EXPECT_THROW(static_cast<void>(evaluator.evaluate(stage, configs[0])), DeviceLost);
  EXPECT_TRUE(store.trials().empty());
}

TEST_F(EvaluatorTest, WhatIsClearlyBeatenNeedNotBeMeasuredToTheEnd) {
  Compiler compiler(compiling());
  Evaluator evaluator(device, compiler, store, sweep, {});
  const auto first = evaluator.evaluate(stage, configs[0]);
  static_cast<void>(evaluator.evaluate(stage, configs[1], 0.25));
  EXPECT_EQ(device.policies[0].time_to_beat_ms, 0);
  EXPECT_TRUE(device.policies[0].samples_to_beat.empty());
  EXPECT_EQ(device.policies[1].time_to_beat_ms, 0.25);
  EXPECT_EQ(device.policies[1].samples_to_beat, first.trial.result.timing->samples_ms);
}

TEST_F(EvaluatorTest, WhatDoesNotFitTheDeviceIsPrunedBeforeItIsRun) {
  class Tiny : public SyntheticDevice {
   public:
    Tiny() { small_.registers_per_multiprocessor = 64; }
    [[nodiscard]] const DeviceInfo& info() const override { return small_; }
    DeviceInfo small_ = testing_support::synthetic_info();
  } tiny;
  Compiler compiler(compiling());
  Evaluator evaluator(tiny, compiler, store, sweep, {});
  const Trial trial = evaluator.evaluate(stage, configs[0]).trial;
  EXPECT_EQ(trial.result.outcome, Outcome::pruned) << trial.result.reason;
  EXPECT_FALSE(trial.result.reason.empty());
  EXPECT_TRUE(tiny.stages_run.empty());
}

TEST_F(EvaluatorTest, TheSameMachineCodeIsMeasuredOnceAcrossSweeps) {
  Compiler compiler(compiling());
  Evaluator before(device, compiler, store, sweep, {});
  const Trial first = before.evaluate(stage, configs[0]).trial;
  ASSERT_FALSE(first.identity.empty());
  EXPECT_EQ(first.measured_in, "");
  device.answer = [](const ExecutableStage&) { return timed(99); };
  SweepInfo info;
  info.device = device.info();
  const std::int64_t next = store.begin_sweep(info).id;
  Evaluator after(device, compiler, store, next, {});
  const auto [second, fresh] = after.evaluate(stage, configs[0]);
  EXPECT_TRUE(fresh) << "it is a trial of the second sweep too";
  EXPECT_EQ(second.result.timing, first.result.timing);
  EXPECT_EQ(second.measured_in, store.sweep(sweep).uid);
  EXPECT_EQ(after.same_code(), 1u);
  EXPECT_EQ(device.stages_run.size(), 1u);
  EXPECT_EQ(store.trials().size(), 2u);
}

TEST_F(EvaluatorTest, WhatWasMeasuredUnderOtherConditionsIsMeasuredAgain) {
  Compiler compiler(compiling());
  Evaluator before(device, compiler, store, sweep, {});
  static_cast<void>(before.evaluate(stage, configs[0]));
  const auto again = [&](const MeasurePolicy& policy, Reuse reuse) {
    SweepInfo info;
    info.device = device.info();
    const std::size_t runs = device.stages_run.size();
    Evaluator after(device, compiler, store, store.begin_sweep(info).id, policy, CompileScope::all, reuse);
    static_cast<void>(after.evaluate(stage, configs[0]));
    return device.stages_run.size() - runs;
  };
  EXPECT_EQ(again({}, Reuse::any_sweep), 0u);
  EXPECT_EQ(again({}, Reuse::this_sweep), 1u) << "asked for";
  MeasurePolicy hot, seeded, effort, tired;
  hot.regime.cache = Regime::Cache::hot;
  seeded.seed = 77;
  effort.max_samples = 99;
  tired.rest = 0;
  EXPECT_EQ(again(hot, Reuse::any_sweep), 1u);
  EXPECT_EQ(again(seeded, Reuse::any_sweep), 1u);
  EXPECT_EQ(again(effort, Reuse::any_sweep), 1u);
  EXPECT_EQ(again(tired, Reuse::any_sweep), 1u);
}

TEST_F(EvaluatorTest, AnotherBoardOfTheModelTakesOverWhatTheFirstMeasured) {
  class Board : public SyntheticDevice {
   public:
    explicit Board(const std::string& name) { other_.uuid = "GPU-other", other_.name = name; }
    [[nodiscard]] const DeviceInfo& info() const override { return other_; }
    DeviceInfo other_ = testing_support::synthetic_info();
  } twin(device.info().name), stranger("NVIDIA Other");
  Compiler compiler(compiling());
  Evaluator before(device, compiler, store, sweep, {});
  static_cast<void>(before.evaluate(stage, configs[0]));
  for (Board* board : {&twin, &stranger}) {
    SweepInfo info;
    info.device = board->info();
    Evaluator after(*board, compiler, store, store.begin_sweep(info).id, {});
    static_cast<void>(after.evaluate(stage, configs[0]));
  }
  EXPECT_EQ(twin.stages_run.size(), 0u);
  EXPECT_EQ(stranger.stages_run.size(), 1u) << "another model is another device";
}

TEST_F(EvaluatorTest, WhatIsBeingRunIsWaitedForAndRunOnce) {
  Compiler compiler(compiling());
  Evaluator evaluator(device, compiler, store, sweep, {});
  Evaluator::Begun first = evaluator.begin(stage, configs[0]);
  ASSERT_TRUE(first.candidate);
  EXPECT_TRUE(evaluator.begin(stage, configs[0]).wait);
  const Evaluator::Begun other = evaluator.begin(stage, configs[1]);
  EXPECT_TRUE(other.candidate) << "another candidate need not wait";
  const StageProblem gemm =
      make_stage_problem(problem, PlanShape::parse("materialized c256 d_tile16 state_bf16 partial_bf16"), Stage::update_gemm);
  EXPECT_TRUE(evaluator.begin(gemm, {}).candidate);
  EXPECT_TRUE(evaluator.begin(gemm, {}).wait) << "what has no machine code of ours is known by its name";
  static_cast<void>(evaluator.finish(std::move(*first.candidate), timed(7)));
  const Evaluator::Begun again = evaluator.begin(stage, configs[0]);
  ASSERT_TRUE(again.answer);
  EXPECT_FALSE(again.answer->fresh);
  EXPECT_EQ(again.answer->trial.result.timing->median_ms, 7);
}

TEST_F(EvaluatorTest, WhatWasGivenUpEarlyDoesNotAnswerWhereItMayLead) {
  Compiler compiler(compiling());
  device.answer = [](const ExecutableStage&) {
    Result result = timed(5);
    result.timing->beaten = Beaten{1, 4.9, 5.1};
    return result;
  };
  Evaluator before(device, compiler, store, sweep, {});
  static_cast<void>(before.evaluate(stage, configs[0], 1));
  SweepInfo info;
  info.device = device.info();
  Evaluator leading(device, compiler, store, store.begin_sweep(info).id, {}),
      beaten(device, compiler, store, store.begin_sweep(info).id, {});
  static_cast<void>(beaten.evaluate(stage, configs[0], 2));
  EXPECT_EQ(device.stages_run.size(), 1u) << "5 ms are still beaten by 2";
  static_cast<void>(leading.evaluate(stage, configs[0]));
  EXPECT_EQ(device.stages_run.size(), 2u) << "nothing to be beaten by";
}

TEST_F(EvaluatorTest, AGuiltyCandidateIsStoredWithItsTrialAndNotRunAgain) {
  class Guilty : public SyntheticDevice {
   public:
    std::vector<Incident> take_incidents() override {
      if (stages_run.empty()) return {};
      return {{.subject = candidate_name(stages_run.back()),
               .code = code,
               .outcome = Outcome::timed_out,
               .reason = "it hung",
               .created_at = "2026-01-01T00:00:00Z"}};
    }
    std::string code;
  } guilty;
  Compiler compiler(compiling());
  guilty.code = compiler.compile(source_of(stage, configs[0])).get().binary->cubin_hash;
  Evaluator before(guilty, compiler, store, sweep, {});
  static_cast<void>(before.evaluate(stage, configs[0]));
  ASSERT_EQ(store.incidents().size(), 1u);
  SweepInfo info;
  info.device = guilty.info();
  Evaluator after(guilty, compiler, store, store.begin_sweep(info).id, {}, CompileScope::all, Reuse::this_sweep);
  const Trial trial = after.evaluate(stage, configs[0]).trial;
  EXPECT_EQ(guilty.stages_run.size(), 1u);
  EXPECT_EQ(trial.result.outcome, Outcome::timed_out);
  EXPECT_NE(trial.result.reason.find("it hung"), std::string::npos);
}

// A recording: answers before anything is compiled. Trial i took times[i] ms.
class Recorded : public SyntheticDevice {
 public:
  Recorded(const std::vector<Config>& configs, std::vector<double> times) : configs_(configs), times_(std::move(times)) {}

  [[nodiscard]] std::optional<Trial> recall(const PlanStage& stage, const MeasurePolicy& /*policy*/) const override {
    Trial trial;
    trial.problem = stage.problem;
    trial.config = stage.config;
    const auto place = std::ranges::find(configs_, stage.config);
    const auto index = static_cast<std::size_t>(place - configs_.begin());
    if (index >= times_.size()) {
      trial.result.outcome = Outcome::pruned;
      trial.result.reason = "not in the recording";
      return trial;
    }
    trial.result = timed(times_[index]);
    trial.source_hash = "recorded source";
    trial.cubin_hash = "recorded cubin";
    trial.resources = Resources{.registers = 77};
    trial.compile_ms = 1000;
    return trial;
  }

  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override {
    static_cast<void>(SyntheticDevice::run_stage(stage, policy));
    return recall(stage.stage, policy)->result;
  }

 private:
  std::vector<Config> configs_;
  std::vector<double> times_;
};

TEST_F(EvaluatorTest, WhatIsNotInARecordingIsNotCompiled) {
  Recorded recorded(configs, {3});
  Compiler compiler({"sm_90a", {}, 1});
  Evaluator evaluator(recorded, compiler, store, sweep, {});
  const Trial trial = evaluator.evaluate(stage, configs[1]).trial;
  EXPECT_EQ(trial.result.outcome, Outcome::pruned);
  EXPECT_EQ(compiler.counters().compiled, 0u);
  EXPECT_EQ(store.trials().size(), 1u) << "it is a trial all the same";
}

TEST_F(EvaluatorTest, AllOfARecordingIsCompiledUnlessAskedOtherwise) {
  Recorded recorded(configs, {3, 2, 4});
  Compiler compiler({"sm_90a", {}, 0});
  Evaluator evaluator(recorded, compiler, store, sweep, {});
  for (std::size_t i = 0; i < 3; ++i) static_cast<void>(evaluator.evaluate(stage, configs[i]));
  EXPECT_EQ(compiler.counters().compiled, 3u);
}

TEST_F(EvaluatorTest, OnlyWhatTakesTheLeadIsCompiledAndTheRestIsAsRecorded) {
  const std::vector<double> times = {3, 2, 4, 2.5};
  Recorded recorded(configs, times);
  Compiler compiler({"sm_90a", {}, 0});
  Evaluator evaluator(recorded, compiler, store, sweep, {}, CompileScope::leading);
  evaluator.compile_ahead(stage, configs);
  std::vector<Trial> trials;
  for (const Config& config : configs) trials.push_back(evaluator.evaluate(stage, config).trial);
  EXPECT_EQ(compiler.counters().compiled, 2u) << "what was compiled ahead is what was needed";
  EXPECT_NE(trials[0].cubin_hash, "recorded cubin");
  EXPECT_NE(trials[1].cubin_hash, "recorded cubin");
  for (const std::size_t i : {2u, 3u}) {
    EXPECT_EQ(trials[i].cubin_hash, "recorded cubin");
    EXPECT_EQ(trials[i].resources->registers, 77);
    EXPECT_EQ(trials[i].compile_ms, 0) << "nothing was compiled here";
  }
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(trials[i].result.timing->median_ms, times[i]);
  EXPECT_EQ(store.trials().size(), 4u);
}

TEST_F(EvaluatorTest, AResumedReplayKnowsWhatItDidNotCompile) {
  Recorded recorded(configs, {2, 3});
  Compiler compiler(compiling());
  for (const std::size_t known : {0u, 2u}) {
    Evaluator evaluator(recorded, compiler, store, sweep, {}, CompileScope::leading);
    for (std::size_t i = 0; i < 2; ++i) static_cast<void>(evaluator.evaluate(stage, configs[i]));
    EXPECT_EQ(evaluator.resumed(), known);
  }
  EXPECT_EQ(store.trials().size(), 2u);
}

TEST_F(EvaluatorTest, PlansGetTheirBinariesAndLibraryStagesNone) {
  Compiler compiler(compiling());
  Evaluator evaluator(device, compiler, store, sweep, {});
  const Problem ungated = Problem::parse("b1 t512 h1 d16 p1 bf16 ungated none");
  Plan plan{ungated, PlanShape::parse("quadratic"), {}};
  const StageProblem attention = stages_of(ungated, plan.shape).front();
  const Space space = stage_template(attention.stage, attention.path).space(attention, device.info());
  plan.stages.push_back({attention, space.at(0)});
  StageProblem gemm =
      make_stage_problem(ungated, PlanShape::parse("materialized c256 d_tile16 state_bf16 partial_bf16"), Stage::update_gemm);
  ASSERT_EQ(gemm.path, Path::library);
  plan.stages.push_back({gemm, {}});
  const auto executables = evaluator.executables(std::span(&plan, 1));
  ASSERT_EQ(executables.size(), 1u);
  EXPECT_EQ(executables[0].does_not_compile, "");
  EXPECT_TRUE(executables[0].stages[0].binary);
  EXPECT_FALSE(executables[0].stages[1].binary);
}

}  // namespace
}  // namespace phitune
