#include "harness/device/replay_device.hpp"

#include <unistd.h>

#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "harness/error.hpp"

namespace phitune {
namespace {

const Problem problem = Problem::parse("b1 t4096 h8 d64 p2 bf16 gated sum");
constexpr PlanShape shape{Fusion::expand_mma, 512, 8, Dtype::bf16, Dtype::bf16};

Trial trial_of(const StageProblem& stage, std::int64_t warps, double ms, const std::string& cubin = "aa",
               const std::string& at = "2025-01-01T00:00:00Z") {
  Trial trial;
  trial.problem = stage;
  trial.config = stage.path == Path::library ? Config{} : Config{{"warps", warps}};
  trial.result.timing = Timing{.samples_ms = {ms, ms, ms}, .median_ms = ms, .throttle_reasons = {}, .sm_clocks_mhz = {}};
  trial.result.seed = 42;
  trial.cubin_hash = stage.path == Path::library ? "" : cubin;
  trial.source_hash = "s" + cubin;
  trial.created_at = at;
  return trial;
}

ExecutableStage executable(const StageProblem& stage, std::int64_t warps, const std::string& cubin = "aa") {
  ExecutableStage out{{stage, stage.path == Path::library ? Config{} : Config{{"warps", warps}}}, nullptr};
  if (stage.path != Path::library) {
    Binary binary;
    binary.cubin_hash = cubin;
    out.binary = std::make_shared<const Binary>(binary);
  }
  return out;
}

std::vector<ExecutableStage> executable_plan(const PlanShape& plan_shape, std::int64_t warps) {
  std::vector<ExecutableStage> plan;
  for (const StageProblem& stage : stages_of(problem, plan_shape)) plan.push_back(executable(stage, warps));
  return plan;
}

PlanTrial plan_trial_of(const PlanShape& plan_shape, std::int64_t warps, double ms) {
  PlanTrial trial;
  trial.plan = {problem, plan_shape, {}};
  for (const ExecutableStage& stage : executable_plan(plan_shape, warps)) {
    trial.plan.stages.push_back(stage.stage);
    trial.stage_ms.push_back(ms / 10);
    trial.cubin_hashes.push_back(stage.binary ? stage.binary->cubin_hash : "");
  }
  trial.result.timing = Timing{.samples_ms = {ms}, .median_ms = ms, .throttle_reasons = {}, .sm_clocks_mhz = {}};
  trial.created_at = "2025-01-01T00:00:00Z";
  return trial;
}

StageProblem stage_of(Stage stage) { return make_stage_problem(problem, shape, stage); }

Recording example() {
  Recording recording;
  recording.sweep.uid = "00112233445566778899aabbccddeeff";
  recording.sweep.device.name = "NVIDIA Example";
  recording.sweep.device.architecture = "sm_90a";
  recording.sweep.seed = 7;
  recording.sweep.status = SweepStatus::finished;
  recording.sweep.started_at = recording.sweep.ended_at = "2025-01-01T00:00:00Z";
  recording.trials = {trial_of(stage_of(Stage::attention), 4, 0.5), trial_of(stage_of(Stage::attention), 8, 0.25),
                      trial_of(stage_of(Stage::scan), 4, 0.1)};
  Trial wrong = trial_of(stage_of(Stage::query_state), 4, 1);
  wrong.result = {.outcome = Outcome::wrong_result, .reason = "relative error 0.3", .timing = {}, .errors = {}, .checks = {}};
  recording.trials.push_back(wrong);
  recording.plan_trials = {plan_trial_of(shape, 4, 1.5)};
  return recording;
}

TEST(ReplayDevice, SaysThatItIsOneAndWhatItStandsFor) {
  const ReplayDevice device(example(), "r");
  EXPECT_TRUE(device.info().replayed);
  EXPECT_EQ(device.info().name, "NVIDIA Example");
  EXPECT_EQ(device.info().architecture, "sm_90a");
  EXPECT_EQ(device.sweep().seed, 7);
}

TEST(ReplayDevice, AnswersWithTheRecordedTrialOfExactlyThatConfig) {
  ReplayDevice device(example(), "r");
  const Result slow = device.run_stage(executable(stage_of(Stage::attention), 4), {});
  const Result fast = device.run_stage(executable(stage_of(Stage::attention), 8), {});
  EXPECT_EQ(slow.timing->median_ms, 0.5);
  EXPECT_EQ(fast.timing->median_ms, 0.25);
  EXPECT_EQ(fast.seed, 42);
  const Result wrong = device.run_stage(executable(stage_of(Stage::query_state), 4), {});
  EXPECT_EQ(wrong.outcome, Outcome::wrong_result);
  EXPECT_EQ(wrong.reason, "relative error 0.3");
}

TEST(ReplayDevice, MakesNothingUpForWhatWasNotRecorded) {
  ReplayDevice device(example(), "h200.rec");
  const auto expect_unknown = [](const Result& result) {
    EXPECT_EQ(result.outcome, Outcome::pruned);
    EXPECT_NE(result.reason.find("not in the recording"), std::string::npos) << result.reason;
    EXPECT_NE(result.reason.find("h200.rec"), std::string::npos) << result.reason;
    EXPECT_FALSE(result.timing.has_value());
  };
  expect_unknown(device.run_stage(executable(stage_of(Stage::attention), 16), {}));
  expect_unknown(device.run_stage(executable(stage_of(Stage::update_state), 4), {}));
  PlanShape other = shape;
  other.chunk = 1024;
  expect_unknown(device.run_stage(executable(make_stage_problem(problem, other, Stage::attention), 4), {}));
  const std::vector<std::vector<ExecutableStage>> plans{executable_plan(shape, 8), executable_plan(other, 4)};
  for (const Result& result : device.run_plans(problem, plans, {})) expect_unknown(result);
}

TEST(ReplayDevice, DoesNotAnswerForTheOtherStateOfTheCache) {
  ReplayDevice device(example(), "r");
  MeasurePolicy warm;
  warm.regime.cache = Regime::Cache::hot;
  const Result result = device.run_stage(executable(stage_of(Stage::attention), 4), warm);
  EXPECT_EQ(result.outcome, Outcome::pruned);
  EXPECT_NE(result.reason.find("measured in the regime flush, and hot was asked for"), std::string::npos) << result.reason;
}

TEST(ReplayDevice, PlansAreAnsweredInTheOrderAsked) {
  Recording recording = example();
  recording.plan_trials.push_back(plan_trial_of({.fusion = Fusion::quadratic}, 8, 9));
  ReplayDevice device(std::move(recording), "r");
  const std::vector<std::vector<ExecutableStage>> plans{executable_plan({.fusion = Fusion::quadratic}, 8),
                                                        executable_plan({.fusion = Fusion::quadratic}, 4), executable_plan(shape, 4)};
  const std::vector<Result> results = device.run_plans(problem, plans, {});
  ASSERT_EQ(results.size(), 3);
  EXPECT_EQ(results[0].timing->median_ms, 9);
  EXPECT_EQ(results[1].outcome, Outcome::pruned);
  EXPECT_EQ(results[2].timing->median_ms, 1.5);
  Problem other = problem;
  other.t = 8192;
  EXPECT_EQ(device.run_plans(other, plans, {}).at(2).outcome, Outcome::pruned);
}

// A sweep may have run one config with two versions of a template.
TEST(ReplayDevice, TheCandidatesOwnBinaryAnswersElseTheLatest) {
  Recording recording = example();
  const StageProblem scan = stage_of(Stage::scan);
  recording.trials.push_back(trial_of(scan, 4, 0.3, "cc", "2025-01-03T00:00:00Z"));
  recording.trials.push_back(trial_of(scan, 4, 0.2, "bb", "2025-01-02T00:00:00Z"));
  ReplayDevice device(std::move(recording), "r");
  const auto ms = [&](const std::string& cubin) { return device.run_stage(executable(scan, 4, cubin), {}).timing->median_ms; };
  EXPECT_EQ(ms("aa"), 0.1);
  EXPECT_EQ(ms("bb"), 0.2);
  EXPECT_EQ(ms("cc"), 0.3);
  EXPECT_EQ(ms("unheard of"), 0.3);
}

TEST(ReplayDevice, OpensTheFileThatWasWritten) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("phitune-replay-{}.rec", ::getpid());
  write_recording(path, example());
  const auto device = open_replay(path);
  EXPECT_EQ(device->run_stage(executable(stage_of(Stage::attention), 8), {}).timing->median_ms, 0.25);
  const std::vector<std::vector<ExecutableStage>> plans{executable_plan(shape, 4)};
  EXPECT_EQ(device->run_plans(problem, plans, {}).at(0).timing->median_ms, 1.5);
  std::filesystem::remove(path);
  EXPECT_THROW((void)open_replay(path), Error);
}

}  // namespace
}  // namespace phitune
