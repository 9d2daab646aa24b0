// The recordings in data/ answer what a sweep asks when it is given their limits. Nothing is compiled here. When one of these fails because
// knobs or constraints of a kernel changed, the recording is of another search: record the suite anew on a GPU (phitune db record).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "harness/device/replay_device.hpp"
#include "harness/suite.hpp"
#include "harness/sweep.hpp"
#include "harness/tune/stage_search.hpp"
#include "kernel_templates/stage_template.hpp"
#include "search/compose.hpp"

namespace phitune {
namespace {

struct Replayed {
  std::size_t asked = 0, answered = 0, finalists = 0, finals_answered = 0;
};

// Plans that came after the recordings. (They would not only be asked for: a group's pivot is the chunk of the best-estimated plan.)
const std::vector<std::pair<Fusion, Path>> newer{{Fusion::update_scan, Path::sm80}};

// What sweep() does for one problem, told by the recording instead of being run.
Replayed replay(const Problem& problem, ReplayDevice& device, const SearchPolicy& policy) {
  Replayed seen;
  StageResults results;
  const auto ask = [&](const StageProblem& stage, const Config& config) {
    const Trial trial = *device.recall({stage, config}, {});
    ++seen.asked;
    seen.answered += stage.path == Path::library || !trial.source_hash.empty();
    results.add(trial);
    return trial;
  };
  const ProblemSearch search = plan_search(problem, device.info(), policy);
  for (const StageGroup& group : search.groups) {
    std::vector<std::pair<double, Config>> ranking;
    for (const std::size_t index : group.first) {
      const Trial trial = ask(group.pivot, group.space->at(index));
      if (trial.result.outcome == Outcome::ok) ranking.emplace_back(trial.result.timing->median_ms, trial.config);
    }
    std::sort(ranking.begin(), ranking.end());
    if (ranking.size() > policy.carried) ranking.resize(policy.carried);
    for (const StageProblem& other : group.others) {
      const Space space = stage_template(other.stage, other.path).space(other, device.info());
      for (const auto& [ms, config] : ranking)
        if (!space.why_not(config)) ask(other, config);
    }
  }
  for (const StageProblem& stage : search.library_stages) ask(stage, Config{});
  std::vector<std::vector<ExecutableStage>> plans;
  for (const Composition& finalist : finalists(compose(problem, search.shapes, results, kStageTies).ranked, policy.finalists)) {
    std::vector<ExecutableStage>& plan = plans.emplace_back();
    for (const PlanStage& stage : finalist.plan.stages) plan.push_back({stage, nullptr});
  }
  seen.finalists = plans.size();
  for (const Result& result : device.run_plans(problem, plans, {})) seen.finals_answered += result.outcome == Outcome::ok;
  return seen;
}

TEST(ShippedRecording, AnswersTheSweepItWasMadeOf) {
  std::size_t recordings = 0;
  for (const auto& entry : std::filesystem::directory_iterator(PHITUNE_SOURCE_DIR "/data/recordings")) {
    if (entry.path().extension() != ".gz") continue;
    SCOPED_TRACE(entry.path().filename().string());
    ++recordings;
    const auto device = open_replay(entry.path());
    SweepOptions options;
    read_policy(device->sweep().policy, options);
    options.search.strategy = device->sweep().strategy;
    options.search.seed = device->sweep().seed;
    options.search.without = newer;
    const Suite suite = load_suite(PHITUNE_SOURCE_DIR "/data/suites/" + device->sweep().suite + ".toml");
    EXPECT_EQ(suite_hash(suite), device->sweep().suite_hash);
    for (const SuiteProblem& named : suite.problems) {
      const Replayed seen = replay(named.problem, *device, options.search);
      EXPECT_EQ(seen.answered, seen.asked) << named.name;
      EXPECT_GE(seen.finals_answered + 1, seen.finalists) << named.name;
      EXPECT_GE(seen.finals_answered, 3u) << named.name << ": fusion strategies cannot be compared";
    }
  }
  EXPECT_GT(recordings, 0u);
}

}  // namespace
}  // namespace phitune
