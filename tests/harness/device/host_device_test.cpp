// The CPU as a device: right candidates are right, wrong ones are results, and what is too large is not begun.
#include "harness/device/host_device.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "harness/device/host_memory.hpp"
#include "harness/device/isolated.hpp"
#include "harness/error.hpp"

namespace phitune {
namespace {

void expect_says(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << message << "' does not say '" << part << "'";
}

std::string nobody(const void*) { return "a fault"; }

TEST(Isolated, GivesBackWhatTheWorkReturnsAndWrote) {
  HostMemory memory(8);
  const IsolatedResult result = run_isolated(
      [&] {
        memory.data()[3] = 7;
        return 0.125;
      },
      nobody, 10000);
  EXPECT_EQ(result.outcome, Outcome::ok);
  EXPECT_EQ(result.value, 0.125);
  EXPECT_EQ(memory.data()[3], 7);
}

TEST(Isolated, AnExceptionIsAReason) {
  const IsolatedResult result = run_isolated([]() -> double { throw std::runtime_error("divergence"); }, nobody, 10000);
  EXPECT_EQ(result.outcome, Outcome::launch_failed);
  EXPECT_EQ(result.reason, "divergence");
}

TEST(Isolated, WhatNeverEndsIsKilled) {
  const IsolatedResult result = run_isolated(
      [] {
        std::this_thread::sleep_for(std::chrono::hours(1));
        return 0.0;
      },
      nobody, 50);
  EXPECT_EQ(result.outcome, Outcome::timed_out);
}

TEST(Isolated, ASignalIsAReason) {
  const IsolatedResult result = run_isolated([]() -> double { ::abort(); }, nobody, 10000);
  EXPECT_EQ(result.outcome, Outcome::launch_failed);
  expect_says(result.reason, "signal 6");
}

#if !defined(__SANITIZE_ADDRESS__)
std::string fault_at(HostMemory& memory, std::ptrdiff_t offset, bool write) {
  const IsolatedResult result = run_isolated(
      [&] {
        volatile char* const at = memory.data() + offset;
        if (write) *at = 1;
        return static_cast<double>(*at);
      },
      [&](const void* address) {
        return memory.covers(address) ? "byte " + std::to_string(static_cast<const char*>(address) - memory.data()) : "elsewhere";
      },
      10000);
  return result.outcome == Outcome::launch_failed ? result.reason : "no fault";
}

TEST(HostMemory, FaultsFromItsEndOn) {
  for (const std::size_t bytes : {16u, 4096u, 5008u, 65536u}) {
    HostMemory memory(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 16, 0u);
    const auto end = static_cast<std::ptrdiff_t>(bytes);
    EXPECT_EQ(fault_at(memory, end - 1, true), "no fault");
    EXPECT_EQ(fault_at(memory, end, false), "byte " + std::to_string(bytes));
    EXPECT_EQ(fault_at(memory, -4096, true), "byte -4096");
    memory.make_read_only();
    EXPECT_EQ(fault_at(memory, 0, false), "no fault");
    EXPECT_EQ(fault_at(memory, 0, true), "byte 0");
  }
}
#endif

TEST(HostMemory, StartsAsNan) {
  const HostMemory memory(64);
  for (std::size_t i = 0; i < memory.size(); ++i) EXPECT_EQ(memory.data()[i], static_cast<char>(0xFF));
}

class HostDeviceTest : public testing::Test {
 protected:
  HostDeviceTest() : device("sm_90a", {.cache_directory = PHITUNE_TEST_CACHE, .limit_s = 20}) {}

  std::vector<ExecutableStage> plan_of(const char* problem, const char* shape) const {
    std::vector<ExecutableStage> stages;
    for (const StageProblem& stage : stages_of(Problem::parse(problem), PlanShape::parse(shape))) {
      Config config;
      if (stage.path != Path::library) {
        const Space space = stage_template(stage.stage, stage.path).space(stage, device.info());
        config = space.at(space.size() / 2);
      }
      stages.push_back({{stage, config}, nullptr});
    }
    return stages;
  }

  HostDevice device;
};

TEST_F(HostDeviceTest, SaysThatItEmulates) {
  EXPECT_EQ(device.info().name, "host");
  EXPECT_TRUE(device.info().emulated);
  EXPECT_EQ(device.info().architecture, "sm_90a");
  EXPECT_FALSE(device.info().driver.empty());
  EXPECT_THROW(HostDevice("sm_1", {}), Error);
}

TEST_F(HostDeviceTest, EveryStageOfAPlanIsRight) {
  for (const char* shape :
       {"expand_mma c64 d_tile8 state_bf16 partial_bf16", "materialized c64 d_tile8 state_bf16 partial_bf16", "quadratic"}) {
    for (const ExecutableStage& stage : plan_of("b1 t150 hq2 hk1 d16 p2 bf16 gated final", shape)) {
      const Result result = device.run_stage(stage, {});
      EXPECT_EQ(result.outcome, Outcome::ok) << stage.stage.problem.key() << ": " << result.reason;
      ASSERT_TRUE(result.errors);
      EXPECT_TRUE(result.errors->bitwise_repeatable);
      ASSERT_TRUE(result.timing);
      EXPECT_EQ(result.timing->samples_ms.size(), 2u);
    }
  }
}

TEST_F(HostDeviceTest, WholePlansAreRightOnEveryKindOfInput) {
  const char* const problem = "b1 t150 hq2 hk1 d16 p2 bf16 gated initial final";
  const std::vector<std::vector<ExecutableStage>> plans = {plan_of(problem, "expand_mma c64 d_tile8 state_bf16 partial_bf16"),
                                                           plan_of(problem, "materialized c64 d_tile4 state_bf16 partial_fp32")};
  for (const Result& result : device.run_plans(Problem::parse(problem), plans, {})) {
    EXPECT_EQ(result.outcome, Outcome::ok) << result.reason;
    ASSERT_TRUE(result.timing);
    EXPECT_EQ(result.timing->samples_ms.size(), 2u);
  }
}

TEST_F(HostDeviceTest, OnlyVerifiesWhenAskedTo) {
  HostDevice verifying("sm_80", {.cache_directory = PHITUNE_TEST_CACHE}, Use::verify);
  const Result result = verifying.run_stage(plan_of("b1 t60 h1 d16 p2 bf16 gated", "quadratic").back(), {});
  EXPECT_EQ(result.outcome, Outcome::ok) << result.reason;
  EXPECT_FALSE(result.timing);
}

TEST_F(HostDeviceTest, WhatIsTooLargeIsPrunedBeforeItIsCompiled) {
  const ExecutableStage large = plan_of("b4 t131072 h16 d64 p2 bf16 gated", "quadratic").back();
  const std::optional<Trial> told = device.recall(large.stage, {});
  ASSERT_TRUE(told);
  EXPECT_EQ(told->result.outcome, Outcome::pruned);
  expect_says(told->result.reason, "--emulation-limit");
  EXPECT_TRUE(told->source_hash.empty());
  const Result result = device.run_stage(large, {});
  EXPECT_EQ(result.outcome, Outcome::pruned);
  EXPECT_EQ(result.reason, told->result.reason);
  EXPECT_FALSE(device.recall(plan_of("b1 t60 h1 d16 p2 bf16 gated", "quadratic").back().stage, {}));
}

// A stage asked to run with a config that its kernel refuses.
TEST_F(HostDeviceTest, WhatDoesNotCompileIsAnOutcome) {
  ExecutableStage stage = plan_of("b1 t60 h1 d16 p2 bf16 gated", "quadratic").back();
  stage.stage.config.set("key_tile", 1024);
  const Result result = device.run_stage(stage, {});
  EXPECT_EQ(result.outcome, Outcome::compile_failed);
  expect_says(result.reason, "one thread fetches the gate of one key");
}

}  // namespace
}  // namespace phitune
