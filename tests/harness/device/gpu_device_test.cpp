// On a GPU: every stage and strategy through the whole life of a candidate, and what the device does with candidates that break it.
#include "harness/device/gpu_device.hpp"

#include <gtest/gtest.h>

#include <map>

#include "harness/error.hpp"
#include "harness/tune/candidate.hpp"
#include "harness/verify/inputs.hpp"

namespace phitune {
namespace {

const Problem kProblem{.b = 2,
                       .t = 1000,
                       .hq = 4,
                       .hk = 2,
                       .d = 32,
                       .e = 64,
                       .p = 2,
                       .dtype = Dtype::bf16,
                       .gated = true,
                       .normalisation = Normalisation::sum,
                       .initial_state = true,
                       .final_state = true};

PlanShape shape_for(Fusion fusion) {
  if (fusion == Fusion::quadratic) return {.fusion = Fusion::quadratic};
  return {.fusion = fusion, .chunk = 128, .d_tile = 8, .state = Dtype::bf16, .partial = Dtype::bf16};
}

Problem problem_for(Fusion fusion) {
  Problem problem = kProblem;
  if (fusion == Fusion::quadratic) problem.initial_state = problem.final_state = false;
  return problem;
}

/// One device and one compiler for all tests of the program: opening measures the device.
class GpuDeviceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const DeviceList list = list_devices();
    if (list.devices.empty()) {
      why_not = list.reason;
      return;
    }
    device = std::make_unique<GpuDevice>(0);
    compiler =
        std::make_unique<Compiler>(CompilerOptions{.architecture = device->info().architecture, .cache_directory = {}, .threads = 0});
  }
  static void TearDownTestSuite() {
    compiler.reset();
    device.reset();
  }
  void SetUp() override {
    if (!device) GTEST_SKIP() << "needs a GPU: " << why_not;
  }

  static ExecutableStage executable(const StageProblem& problem, const Config& config) {
    if (problem.path == Path::library) return {.stage = {problem, config}, .binary = nullptr};
    const Compiled compiled = compiler->compile(stage_template(problem.stage, problem.path).source(problem, config)).get();
    EXPECT_EQ(compiled.outcome, Outcome::ok) << compiled.reason;
    return {.stage = {problem, config}, .binary = compiled.binary};
  }

  static Config first_config(const StageProblem& problem) {
    if (problem.path == Path::library) return {};
    return stage_template(problem.stage, problem.path).space(problem, device->info()).at(0);
  }

  static ExecutableStage broken(const std::string& body) {
    const StageProblem problem = stages_of(problem_for(Fusion::expand_mma), shape_for(Fusion::expand_mma)).front();
    const Compiled compiled = compiler
                                  ->compile(
                                      "#include \"kernel_templates/common/args.cuh\"\n"
                                      "extern \"C\" __global__ void phitune_kernel(const __grid_constant__ phitune::Args args) {\n" +
                                      body + "\n}\n")
                                  .get();
    EXPECT_EQ(compiled.outcome, Outcome::ok) << compiled.reason;
    return {.stage = {problem, first_config(problem)}, .binary = compiled.binary};
  }

  static inline std::unique_ptr<GpuDevice> device;
  static inline std::unique_ptr<Compiler> compiler;
  static inline std::string why_not;
};

TEST_F(GpuDeviceTest, KnowsItselfAndItsRates) {
  const DeviceInfo& info = device->info();
  EXPECT_GE(info.compute_capability, 80);
  EXPECT_GT(info.copy_tbps, 0.1);
  EXPECT_LT(info.copy_tbps, 100);
  std::printf("%s (%s), driver %s, copy %.3f TB/s, matrix %.1f TFLOP/s\n", info.name.c_str(), info.architecture.c_str(),
              info.driver.c_str(), info.copy_tbps, info.matrix_tflops);
}

TEST_F(GpuDeviceTest, TheFlushAndTheRotationMakeTheCacheCold) {
  for (const Regime::Cache by : {Regime::Cache::flush, Regime::Cache::rotation}) {
    const GpuDevice::Coldness seen = device->coldness(by);
    std::printf("hot %.4f ms, cold %.4f ms\n", seen.hot_ms, seen.cold_ms);
    EXPECT_TRUE(seen.works);
  }
}

TEST_F(GpuDeviceTest, TheSelfTestFailsWithoutTheFlush) {
  // "Colder" must mean more than chance; a check that cannot fail proves nothing.
  const GpuDevice::Coldness seen = device->coldness(Regime::Cache::hot);
  std::printf("hot %.4f ms, again hot %.4f ms\n", seen.hot_ms, seen.cold_ms);
  EXPECT_LT(seen.cold_ms, 1.1 * seen.hot_ms);
  EXPECT_FALSE(seen.works);
}

TEST_F(GpuDeviceTest, EveryStageOfEveryStrategyIsRight) {
  for (const Fusion fusion : {Fusion::quadratic, Fusion::expand_mma, Fusion::materialized}) {
    for (const StageProblem& problem : stages_of(problem_for(fusion), shape_for(fusion))) {
      const Trial trial = try_candidate(*device, *compiler, problem, first_config(problem));
      EXPECT_EQ(trial.result.outcome, Outcome::ok) << problem.key() << ": " << trial.result.reason;
      if (trial.result.outcome != Outcome::ok) continue;
      EXPECT_TRUE(trial.result.errors->bitwise_repeatable);
      EXPECT_GT(trial.result.timing->median_ms, 0);
      std::printf("%-12s %.4f ms, error %.2e of %.1e\n", std::string(to_string(problem.stage)).c_str(), trial.result.timing->median_ms,
                  trial.result.errors->relative_l2, trial.result.errors->tolerance);
    }
  }
}

TEST_F(GpuDeviceTest, WholePlansAreRightOnEveryKindOfInput) {
  for (const Fusion fusion : {Fusion::quadratic, Fusion::expand_mma, Fusion::materialized}) {
    std::vector<ExecutableStage> plan;
    for (const StageProblem& problem : stages_of(problem_for(fusion), shape_for(fusion)))
      plan.push_back(executable(problem, first_config(problem)));
    const std::vector<std::vector<ExecutableStage>> plans{plan, plan};
    MeasurePolicy policy;
    policy.seeds = 2;
    for (const Result& result : device->run_plans(problem_for(fusion), plans, policy)) {
      EXPECT_EQ(result.outcome, Outcome::ok) << to_string(fusion) << ": " << result.reason;
      ASSERT_TRUE(result.timing);
      EXPECT_EQ(result.checks.size(), 2 + adversarial_kinds().size());
      EXPECT_GE(result.timing->samples_ms.size(), 10u);
    }
  }
}

TEST_F(GpuDeviceTest, EveryRegimeTimesStagesAndPlansAndTheColdOnesAgree) {
  // Its tensors fit the cache, so that hot and cold differ.
  const Problem problem = Problem::parse("b1 t8192 h4 d64 p2 bf16 ungated");
  const std::vector<StageProblem> stages = stages_of(problem, {.fusion = Fusion::quadratic});
  const ExecutableStage stage = executable(stages.front(), first_config(stages.front()));
  const std::vector<std::vector<ExecutableStage>> plans{{stage}, {stage}};
  std::map<std::string, double> ms;
  for (const std::string& name : regime_names()) {
    MeasurePolicy policy;
    policy.regime = parse_regime(name);
    policy.adversarial = false;
    const Result alone = device->run_stage(stage, policy);
    ASSERT_EQ(alone.outcome, Outcome::ok) << name << ": " << alone.reason;
    EXPECT_EQ(alone.timing->regime, policy.regime);
    ms[name] = alone.timing->median_ms;
    for (const Result& plan : device->run_plans(problem, plans, policy)) {
      ASSERT_EQ(plan.outcome, Outcome::ok) << name << ": " << plan.reason;
      EXPECT_NEAR(plan.timing->median_ms, ms[name], 0.1 * ms[name]) << name << ": the plan is this one kernel";
    }
    std::printf("%-16s %.4f ms\n", name.c_str(), ms[name]);
  }
  EXPECT_NEAR(ms["rotation"], ms["flush"], 0.1 * ms["flush"]);
  EXPECT_LT(ms["hot"], 1.02 * ms["flush"]);
}

TEST_F(GpuDeviceTest, WhatIsTooSmallToBeRotatedIsPrunedWithItsSize) {
  const StageProblem problem = stages_of(Problem::parse("b1 t64 h1 d16 p2 bf16 ungated"), {.fusion = Fusion::quadratic}).front();
  MeasurePolicy policy;
  policy.regime.cache = Regime::Cache::rotation;
  const Result result = device->run_stage(executable(problem, first_config(problem)), policy);
  EXPECT_EQ(result.outcome, Outcome::pruned);
  EXPECT_NE(result.reason.find("by rotation"), std::string::npos) << result.reason;
}

TEST_F(GpuDeviceTest, AKernelThatWritesNothingIsAWrongResult) {
  const Result result = device->run_stage(broken(""), {});
  EXPECT_EQ(result.outcome, Outcome::wrong_result);
  EXPECT_FALSE(result.reason.empty());
}

TEST_F(GpuDeviceTest, ASlowKernelTimesOutAndTheDeviceGoesOn) {
  MeasurePolicy policy;
  policy.timeout_ms = 50;
  // About 70 ms at 2 GHz: over the limit, and done within the grace period.
  const Result result = device->run_stage(broken("const long long end = clock64() + 140000000; while (clock64() < end) {}"), policy);
  EXPECT_EQ(result.outcome, Outcome::timed_out) << result.reason;
  EXPECT_EQ(device->run_stage(broken(""), {}).outcome, Outcome::wrong_result);
}

// What ends this process's use of the GPU is tried in processes of their own, which end as workers do: nothing waits for a kernel that never
// does.
using GpuDeviceDeathTest = GpuDeviceTest;

void exit_with(bool right, const std::string& seen) {
  std::fprintf(stderr, "%s\n", seen.c_str());
  std::_Exit(right ? 0 : 1);
}

void expect_lost_after(GpuDevice& device, const ExecutableStage& bad, const MeasurePolicy& policy, Outcome outcome,
                       const std::string& reason) {
  const Result result = device.run_stage(bad, policy);
  std::string seen = result.reason;
  bool right = result.outcome == outcome && seen.find(reason) != std::string::npos && device.damaged();
  try {
    static_cast<void>(device.run_stage(bad, policy));
    right = false;
  } catch (const DeviceLost& lost) {
    seen += std::string(" | ") + lost.what();
    right = right && std::string(lost.what()).find("without --in-process") != std::string::npos;
  }
  exit_with(right, seen);
}

TEST_F(GpuDeviceDeathTest, AnIllegalAddressIsAnOutcomeAndThenTheDeviceIsLostToThisProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(expect_lost_after(*device, broken("*reinterpret_cast<volatile int*>(8) = 1;"), {}, Outcome::launch_failed,
                                "cudaErrorIllegalAddress"),
              testing::ExitedWithCode(0), "cudaErrorIllegalAddress");
}

TEST_F(GpuDeviceDeathTest, AKernelThatNeverEndsIsAnOutcomeAndThenTheDeviceIsLostToThisProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  MeasurePolicy policy;
  policy.timeout_ms = 100;
  EXPECT_EXIT(expect_lost_after(*device, broken("while (clock64() >= 0) {}"), policy, Outcome::timed_out, "longer than 100 ms"),
              testing::ExitedWithCode(0), "does not end");
}

TEST_F(GpuDeviceTest, AProblemLargerThanTheDeviceIsPrunedWithItsSize) {
  Problem huge = kProblem;
  huge.t = 1 << 21;
  huge.b = 1 << 15;  // a tebibyte of gates, in a grid that there could be
  const StageProblem problem = stages_of(huge, shape_for(Fusion::expand_mma)).front();
  const Result result = device->run_stage(executable(problem, first_config(problem)), {});
  EXPECT_EQ(result.outcome, Outcome::pruned) << result.reason;
  EXPECT_NE(result.reason.find("GiB"), std::string::npos) << result.reason;
}

}  // namespace
}  // namespace phitune
