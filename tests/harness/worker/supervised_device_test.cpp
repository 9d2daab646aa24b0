// A device in a worker process: whatever happens to the process is the outcome of one trial, of the right one, and the next trial runs.
#include "harness/worker/supervised_device.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "harness/error.hpp"
#include "tests/harness/worker/simulated.hpp"

namespace phitune {
namespace {

using testing_support::fault;
using testing_support::nth_stage;
using testing_support::simulation;
using testing_support::TemporaryFolder;
using testing_support::workers;
using Verdict = Incident::Verdict;

class SupervisedDeviceTest : public testing::Test {
 protected:
  SupervisedDevice open(const std::string& text, double deadline_ms = 0) {
    return SupervisedDevice(simulation(folder_, text), Use::measure, workers(deadline_ms));
  }
  static MeasurePolicy quick() {
    MeasurePolicy policy;
    policy.timeout_ms = 20;
    return policy;
  }
  static Outcome run(SupervisedDevice& device, int n) { return device.run_stage(nth_stage(n), quick()).outcome; }

 private:
  TemporaryFolder folder_;
};

TEST_F(SupervisedDeviceTest, AnswersAsTheDeviceItself) {
  SupervisedDevice device = open("noise = 0.01");
  Simulation simulated;
  simulated.clock.noise = 0.01;
  SimulatedDevice itself(simulated);
  for (int n = 0; n < 3; ++n) {
    const Result there = device.run_stage(nth_stage(n), quick()), here = itself.run_stage(nth_stage(n), quick());
    EXPECT_EQ(there.outcome, Outcome::ok);
    EXPECT_EQ(there.timing, here.timing);
    EXPECT_EQ(there.errors, here.errors);
  }
  EXPECT_EQ(device.info().uuid, itself.info().uuid);
  EXPECT_EQ(device.workers(), 1) << "nothing happened, so one process is enough";
  EXPECT_TRUE(device.take_incidents().empty());
}

struct Fault {
  std::string kind;
  Outcome outcome;
  std::string reason;   // a part of it
  bool ends_a_process;  // and is an incident
};

class SupervisedFaultTest : public SupervisedDeviceTest, public testing::WithParamInterface<Fault> {};

TEST_P(SupervisedFaultTest, IsTheOutcomeOfItsTrialAndNoOther) {
  const Fault& expected = GetParam();
  SupervisedDevice device = open(fault(2, expected.kind), expected.kind == "hang" ? 300 : 0);
  EXPECT_EQ(run(device, 0), Outcome::ok);
  EXPECT_EQ(run(device, 1), Outcome::ok);
  const Result result = device.run_stage(nth_stage(2), quick());
  EXPECT_EQ(result.outcome, expected.outcome) << result.reason;
  EXPECT_NE(result.reason.find(expected.reason), std::string::npos) << result.reason;
  EXPECT_EQ(run(device, 3), Outcome::ok);
  const std::vector<Incident> incidents = device.take_incidents();
  ASSERT_EQ(incidents.size(), expected.ends_a_process ? 1u : 0u);
  if (!expected.ends_a_process) return;
  EXPECT_EQ(incidents[0].verdict, Verdict::guilty);
  EXPECT_EQ(incidents[0].subject, candidate_name(nth_stage(2).stage));
  EXPECT_EQ(incidents[0].outcome, expected.outcome);
  EXPECT_EQ(incidents[0].ran_before, 2);
  EXPECT_TRUE(device.take_incidents().empty()) << "they were taken";
}

INSTANTIATE_TEST_SUITE_P(Faults, SupervisedFaultTest,
                         testing::Values(Fault{"crash", Outcome::launch_failed, "signal 11", true},
                                         Fault{"abort", Outcome::launch_failed, "terminate called after", true},
                                         Fault{"hang", Outcome::timed_out, "no answer within 0.3 s", true},
                                         Fault{"endless", Outcome::timed_out, "longer than 20 ms", true},
                                         Fault{"illegal", Outcome::launch_failed, "cudaErrorIllegalAddress", true},
                                         Fault{"wrong", Outcome::wrong_result, "exceeds the tolerance", false},
                                         Fault{"nan", Outcome::wrong_result, "NaN", false},
                                         Fault{"refused", Outcome::launch_failed, "shared memory", false},
                                         Fault{"memory", Outcome::pruned, "more memory", false}),
                         [](const auto& one) { return one.param.kind; });

TEST_F(SupervisedDeviceTest, AnInnocentThatCameAfterACorruptOneIsCleared) {
  SupervisedDevice device = open(fault(1, "corrupt"));
  EXPECT_EQ(run(device, 0), Outcome::ok);
  EXPECT_EQ(run(device, 1), Outcome::ok) << "it is right itself";
  EXPECT_EQ(run(device, 2), Outcome::ok) << "wrong in the process that was corrupted, right in a fresh one";
  const std::vector<Incident> incidents = device.take_incidents();
  ASSERT_EQ(incidents.size(), 1u);
  EXPECT_EQ(incidents[0].verdict, Verdict::innocent);
  EXPECT_EQ(incidents[0].subject, candidate_name(nth_stage(2).stage));
  EXPECT_EQ(incidents[0].outcome, Outcome::wrong_result);
  EXPECT_EQ(incidents[0].ran_before, 2);
  EXPECT_EQ(device.workers(), 2);
}

TEST_F(SupervisedDeviceTest, AnInnocentThatIsRefusedByAnExhaustedProcessIsCleared) {
  SupervisedDevice device = open(fault(1, "exhaust"));
  EXPECT_EQ(run(device, 0), Outcome::ok);
  EXPECT_EQ(run(device, 1), Outcome::ok) << "it is right itself";
  EXPECT_EQ(run(device, 2), Outcome::ok) << "refused in the process that had nothing left, right in a fresh one";
  EXPECT_EQ(run(device, 3), Outcome::ok);
  const std::vector<Incident> incidents = device.take_incidents();
  ASSERT_EQ(incidents.size(), 1u);
  EXPECT_EQ(incidents[0].verdict, Verdict::innocent);
  EXPECT_EQ(incidents[0].subject, candidate_name(nth_stage(2).stage));
  EXPECT_EQ(incidents[0].outcome, Outcome::launch_failed);
  EXPECT_EQ(device.workers(), 2);
}

TEST_F(SupervisedDeviceTest, AWrongResultIsBelievedAtOnceWhenNothingRanBefore) {
  SupervisedDevice device = open(fault(0, "wrong"));
  EXPECT_EQ(run(device, 0), Outcome::wrong_result);
  EXPECT_EQ(device.workers(), 1);
}

TEST_F(SupervisedDeviceTest, AWorkerThatSomebodyKillsIsNobodysFault) {
  SupervisedDevice device = open("delay_ms = 200");
  const double before = device.run_stage(nth_stage(0), quick()).timing->median_ms;
  std::thread killer([id = device.worker_id()] {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    ::kill(id, SIGKILL);
  });
  const Result result = device.run_stage(nth_stage(0), quick());
  killer.join();
  EXPECT_EQ(result.outcome, Outcome::ok) << result.reason;
  EXPECT_EQ(result.timing->median_ms, before);
  const std::vector<Incident> incidents = device.take_incidents();
  ASSERT_EQ(incidents.size(), 1u);
  EXPECT_EQ(incidents[0].verdict, Verdict::innocent);
}

TEST_F(SupervisedDeviceTest, AWorkerThatDiedBetweenTrialsIsReplacedWithoutAWord) {
  SupervisedDevice device = open("");
  EXPECT_EQ(run(device, 0), Outcome::ok);
  ::kill(device.worker_id(), SIGKILL);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(run(device, 1), Outcome::ok);
  EXPECT_TRUE(device.take_incidents().empty());
  EXPECT_EQ(device.workers(), 2);
}

TEST_F(SupervisedDeviceTest, ALostDeviceIsWaitedFor) {
  SupervisedDevice device = open(fault(1, "lost", "value = 0.12"));
  EXPECT_EQ(run(device, 0), Outcome::ok);
  const Result lost = device.run_stage(nth_stage(1), quick());
  EXPECT_EQ(lost.outcome, Outcome::launch_failed);
  EXPECT_NE(lost.reason.find("fallen off the bus"), std::string::npos) << lost.reason;
  EXPECT_EQ(run(device, 2), Outcome::ok);
}

TEST_F(SupervisedDeviceTest, ADeviceThatDoesNotComeBackIsTheEnd) {
  SupervisedDevice device = open(fault(1, "lost", "value = 3600.0"));
  EXPECT_EQ(run(device, 0), Outcome::ok);
  EXPECT_THROW(static_cast<void>(run(device, 1)), DeviceLost);
}

TEST_F(SupervisedDeviceTest, ADeviceThatIsNotThereIsSaidSo) {
  EXPECT_THROW(SupervisedDevice("sim:/nowhere.toml", Use::measure, workers()), Error);
  EXPECT_THROW(SupervisedDevice("cuda:99", Use::measure, workers()), Error);
}

// Three finalists, of which the second has a fault.
class SupervisedPlansTest : public SupervisedDeviceTest {
 protected:
  static inline const Problem problem = Problem::parse("b1 t1000 h1 d16 p1 bf16 gated none");

  /// What is left of them is right; the incidents are returned.
  std::vector<Incident> run_with(const std::string& kind) {
    SupervisedDevice device = open("[[fault]]\nkind = \"" + kind + "\"\nmatch = \"plan t128 \"");
    const std::vector<std::vector<ExecutableStage>> plans = {{nth_stage(0)}, {nth_stage(1)}, {nth_stage(2)}};
    const std::vector<Result> results = device.run_plans(problem, plans, quick());
    EXPECT_EQ(results.size(), 3u);
    for (std::size_t n = 0; n < results.size(); ++n) EXPECT_EQ(results[n].outcome, n == 1 ? Outcome::launch_failed : Outcome::ok) << n;
    return device.take_incidents();
  }
};

TEST_F(SupervisedPlansTest, OneThatIsRefusedLeavesTheOthers) {
  EXPECT_TRUE(run_with("refused").empty()) << "a refusal damages nothing";
}

TEST_F(SupervisedPlansTest, TheGuiltyIsFoundAndTheOthersAreTimedTogether) {
  const std::vector<Incident> incidents = run_with("crash");
  ASSERT_EQ(incidents.size(), 1u);
  EXPECT_EQ(incidents[0].verdict, Verdict::guilty);
  EXPECT_EQ(incidents[0].subject, candidate_name(problem, std::vector<PlanStage>{nth_stage(1).stage}));
}

}  // namespace
}  // namespace phitune
