// On a GPU: a sweep with deliberately bad candidates among the good ones finishes, each is recorded under its outcome, and the good winner
// stays. Carried to another machine it needs to know the binary that its workers are: PHITUNE_BINARY=./phitune ./bad_candidates_gpu_test
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "harness/sweep.hpp"
#include "harness/worker/supervised_device.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

using testing_support::TemporaryFolder;

/// Hands other machine code to the device for some candidates, as a template with a fault would.
class Saboteur : public Device {
 public:
  Saboteur(Device& device, std::map<std::string, std::shared_ptr<const Binary>> bad) : device_(device), bad_(std::move(bad)) {}

  [[nodiscard]] const DeviceInfo& info() const override { return device_.info(); }
  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override {
    const auto found = bad_.find(candidate_name(stage.stage));
    return found == bad_.end() ? device_.run_stage(stage, policy) : device_.run_stage({stage.stage, found->second}, policy);
  }
  std::vector<Result> run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                const MeasurePolicy& policy) override {
    return device_.run_plans(problem, plans, policy);
  }
  std::vector<Incident> take_incidents() override { return device_.take_incidents(); }

 private:
  Device& device_;
  std::map<std::string, std::shared_ptr<const Binary>> bad_;
};

std::string kernel(const std::string& body) {
  return "#include \"kernel_templates/common/args.cuh\"\n"
         "extern \"C\" __global__ void phitune_kernel(const __grid_constant__ phitune::Args args) {\n" +
         body + "\n}\n";
}

struct Bad {
  std::string what, body;
  Outcome outcome;
};

TEST(BadCandidates, AreRecordedUnderTheirOutcomesAndTheGoodWinnerStays) {
  if (const DeviceList list = list_devices(); list.devices.empty()) GTEST_SKIP() << "needs a GPU: " << list.reason;
  const char* set = std::getenv("PHITUNE_BINARY");
  SupervisedDevice device("cuda:0", Use::measure, {.program = set ? set : PHITUNE_BINARY});
  Compiler compiler({device.info().architecture, {}, 0});
  TemporaryFolder folder;
  SweepOptions options;
  // (What this strategy asks does not depend on what became of the candidates before.)
  options.search.strategy = "random";
  options.search.trials = 12;
  options.search.plan_bound = 1.5;
  options.search.seed = 3;
  options.stage_policy.timeout_ms = 500;
  Progress silent(Progress::Style::silent);
  const std::atomic<bool> stop{false};
  const Suite suite = suite_of({"b1 t8192 h4 d64 p2 bf16 gated"});

  Store calm(folder / "calm.db");
  const SweepSummary undisturbed = sweep(suite, device, compiler, calm, options, silent, stop);
  ASSERT_TRUE(undisturbed.problems[0].winner) << undisturbed.problems[0].reason;

  // Slow candidates of the first questions, so that nothing else changes; the last one asks for the most shared memory.
  std::map<std::string, int> of_stage;
  for (const StoredTrial& row : calm.trials()) ++of_stage[row.trial.problem.key()];
  std::vector<Trial> slow;
  for (const StoredTrial& row : calm.trials())
    if (row.trial.result.outcome == Outcome::ok && row.trial.resources && of_stage[row.trial.problem.key()] >= 8) slow.push_back(row.trial);
  std::ranges::sort(slow, std::greater<>{}, [](const Trial& trial) { return trial.result.timing->median_ms; });
  ASSERT_GE(slow.size(), 12u);
  const auto largest =
      std::ranges::max_element(slow.begin() + 5, slow.end(), {}, [](const Trial& trial) { return trial.resources->dynamic_shared_bytes; });
  std::iter_swap(slow.begin() + 4, largest);
  const std::vector<Bad> kinds = {
      {"store out of bounds", "*reinterpret_cast<volatile int*>(8) = 1;", Outcome::launch_failed},
      {"endless loop", "while (clock64() >= 0) {}", Outcome::timed_out},
      {"trap", "__trap();", Outcome::launch_failed},
      {"silent wrong result", "", Outcome::wrong_result},
      {"too much shared memory", "__shared__ volatile char much[48000]; much[threadIdx.x] = 1; if (much[0] == 2) __trap();",
       Outcome::launch_failed},
  };
  std::map<std::string, std::shared_ptr<const Binary>> bad;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const auto future = compiler.compile(kernel(kinds[i].body));
    ASSERT_EQ(future.get().outcome, Outcome::ok) << kinds[i].what << ": " << future.get().reason;
    bad[candidate_name({slow[i].problem, slow[i].config})] = future.get().binary;
  }
  const bool too_much = slow[4].resources->dynamic_shared_bytes + 48000 > device.info().shared_per_block;

  Saboteur saboteur(device, bad);
  Store disturbed_store(folder / "disturbed.db");
  const SweepSummary disturbed = sweep(suite, saboteur, compiler, disturbed_store, options, silent, stop);
  std::map<std::string, Trial> seen;
  for (const StoredTrial& row : disturbed_store.trials()) seen[candidate_name({row.trial.problem, row.trial.config})] = row.trial;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const std::string name = candidate_name({slow[i].problem, slow[i].config});
    ASSERT_TRUE(seen.contains(name)) << name;
    const Result& result = seen.at(name).result;
    std::printf("%-24s %-14s %s\n", kinds[i].what.c_str(), std::string(to_string(result.outcome)).c_str(), result.reason.c_str());
    if (i == 4 && !too_much)
      std::printf("    (no candidate of this problem asks for so much that 48 kB more are too much)\n");
    else
      EXPECT_EQ(result.outcome, kinds[i].outcome) << kinds[i].what << ": " << result.reason;
    seen.erase(name);
  }
  for (const auto& [name, trial] : seen) EXPECT_NE(trial.result.outcome, Outcome::timed_out) << name << ": " << trial.result.reason;
  for (const StoredIncident& row : disturbed_store.incidents())
    std::printf("%s: %s: %s\n", std::string(to_string(row.incident.verdict)).c_str(), row.incident.subject.c_str(),
                row.incident.reason.c_str());
  EXPECT_EQ(disturbed_store.info().quarantined, 3) << "the store, the loop and the trap";
  std::printf("%d worker processes\n", device.workers());

  ASSERT_TRUE(disturbed.problems[0].winner) << disturbed.problems[0].reason;
  // By shape: configs of one stage that cannot be told apart, of `gates` for one, may change places between two sweeps.
  const Plan& plan = disturbed.problems[0].winner->plan;
  const auto could_win = [&](const PlanTrial& trial) { return trial.plan.shape == plan.shape && trial.standing && trial.standing->tied; };
  EXPECT_TRUE(plan.shape == undisturbed.problems[0].winner->plan.shape || std::ranges::any_of(undisturbed.problems[0].finalists, could_win))
      << plan.text() << "\ninstead of\n"
      << undisturbed.problems[0].winner->plan.text();
}

}  // namespace
}  // namespace phitune
