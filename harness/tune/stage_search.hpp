// Which stage problems a problem needs, in which order they are tuned, and which configs of each are tried.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/tune/experience.hpp"
#include "search/plan.hpp"
#include "search/strategy.hpp"
#include "search/trial.hpp"

namespace phitune {

/// How widely a sweep looks. Every limit's effect is stored with the sweep, so a table says how hard it was looked for.
struct SearchPolicy {
  std::string strategy = "auto";
  std::size_t trials = 16;        // asked of the strategy for each group of stage problems, at the group's pivot chunk
  std::size_t carried = 3;        // best configs of the pivot that are tried at each other chunk size
  std::size_t lesser_trials = 3;  // for groups that only plans beyond the bound use: enough to compare strategies by
  double plan_bound = 1.8;        // plans estimated beyond this multiple of the best estimate are not tuned ...
  std::size_t finalists = 6;      // ... except the best of each fusion strategy and state layout
  std::uint64_t seed = 1;
  double seconds = 0;                                 // > 0: after so long at one problem no strategy is asked again
  std::optional<WorthIt> worth_it = std::nullopt;     // a group's search ends before its trials are used up once more is not worth it
  std::vector<std::pair<Fusion, Path>> without = {};  // plans that are not looked at: a recording knows nothing of those that came later
};

/// Analytic time of a stage or a whole plan in ms: FLOPs and bytes at typical shares of the device's rates, plus launches. It only ranks.
[[nodiscard]] double estimate_ms(const StageProblem& stage, const DeviceInfo& device);
[[nodiscard]] double estimate_ms(const Problem& problem, const PlanShape& shape, const DeviceInfo& device);

/// Why the device has no instructions for this shape's stages; nothing when it has.
[[nodiscard]] std::optional<std::string> device_refuses(const PlanShape& shape, const DeviceInfo& device);

/// Stage problems that differ only in chunk size: tuned at the pivot, the best configs carried over to the others.
struct StageGroup {
  StageProblem pivot;
  std::vector<StageProblem> others;
  std::unique_ptr<Space> space;        // of the pivot
  std::unique_ptr<Strategy> strategy;  // refers to *space; null until the group is opened
  std::vector<std::size_t> first;      // what the strategy asked first, so that compiling can run ahead
  std::size_t trials = 0;
};

struct SkippedShape {
  PlanShape shape;
  std::string reason;
};

/// Everything a sweep will look at for one problem, decided before anything is run.
struct ProblemSearch {
  Problem problem;
  std::vector<PlanShape> shapes;      // to be composed, best estimate first
  std::vector<SkippedShape> skipped;  // and why
  std::vector<StageGroup> groups;     // of tuned stages; library stages have no knobs and no group
  std::vector<StageProblem> library_stages;
};

[[nodiscard]] ProblemSearch plan_search(const Problem& problem, const DeviceInfo& device, const SearchPolicy& policy);

/// Makes the group's strategy, which starts from what `experience` expects where it can (null: it starts from nothing), and asks it its
/// first question. plan_search leaves groups unopened when the strategy heeds a prior: what is known later is worth more.
void open(StageGroup& group, const DeviceInfo& device, const SearchPolicy& policy, Experience* experience);

}  // namespace phitune
