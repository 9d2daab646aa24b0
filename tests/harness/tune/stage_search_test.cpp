#include "harness/tune/stage_search.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "kernel_templates/stage_template.hpp"
#include "tests/harness/tune/synthetic_device.hpp"
#include "tests/search/random_problem.hpp"

namespace phitune {
namespace {

using testing_support::synthetic_info;

const Problem headline = Problem::parse("b1 t65536 h8 d64 p2 bf16 gated");

std::string without_chunk(StageProblem stage) {
  stage.shape.chunk = 0;
  return stage.key();
}

const StageGroup& group_of(const ProblemSearch& search, Stage stage) {
  const auto place = std::ranges::find_if(search.groups, [&](const StageGroup& group) { return group.pivot.stage == stage; });
  if (place == search.groups.end()) throw std::logic_error("no such group");
  return *place;
}

TEST(StageSearch, EveryStageOfEveryShapeIsTunedExactlyOnce) {
  const ProblemSearch search = plan_search(headline, synthetic_info(), {});
  std::multiset<std::string> tuned;
  for (const StageGroup& group : search.groups) {
    tuned.insert(group.pivot.key());
    for (const StageProblem& other : group.others) tuned.insert(other.key());
  }
  for (const StageProblem& stage : search.library_stages) tuned.insert(stage.key());
  std::set<std::string> needed;
  for (const PlanShape& shape : search.shapes)
    for (const StageProblem& stage : stages_of(headline, shape)) needed.insert(stage.key());
  EXPECT_EQ(std::set(tuned.begin(), tuned.end()), needed);
  EXPECT_EQ(tuned.size(), needed.size()) << "a stage is in two groups";
}

TEST(StageSearch, AGroupDiffersInChunkSizeAloneAndItsPivotIsTheBestPlans) {
  const ProblemSearch search = plan_search(headline, synthetic_info(), {});
  std::set<std::string> seen;
  for (const StageGroup& group : search.groups) {
    EXPECT_TRUE(seen.insert(without_chunk(group.pivot)).second) << "two groups of " << group.pivot.key();
    for (const StageProblem& other : group.others) {
      EXPECT_EQ(without_chunk(other), without_chunk(group.pivot));
      EXPECT_NE(other.shape.chunk, group.pivot.shape.chunk);
    }
  }
  const auto best = std::ranges::find_if(search.shapes, [](const PlanShape& shape) { return shape.fusion == Fusion::expand_mma; });
  ASSERT_NE(best, search.shapes.end());
  EXPECT_EQ(group_of(search, Stage::update_state).pivot.shape.chunk, best->chunk);
}

TEST(StageSearch, ShapesAreRankedAndEveryOtherOneHasItsReason) {
  std::mt19937_64 rng(std::random_device{}());
  for (int i = 0; i < 20; ++i) {
    const Problem problem = random_problem(rng);
    SCOPED_TRACE(problem.key());
    const ProblemSearch search = plan_search(problem, synthetic_info(), {});
    const PlanShapes all = plan_shapes(problem);
    EXPECT_EQ(search.shapes.size() + search.skipped.size(), all.shapes.size() + all.pruned.size());
    for (const SkippedShape& skipped : search.skipped) EXPECT_FALSE(skipped.reason.empty()) << skipped.shape.text();
    for (std::size_t n = 1; n < search.shapes.size(); ++n)
      EXPECT_LE(estimate_ms(problem, search.shapes[n - 1], synthetic_info()), estimate_ms(problem, search.shapes[n], synthetic_info()));
  }
}

TEST(StageSearch, TheBestOfEachFusionStrategyAndLayoutIsTriedHoweverSlowItLooks) {
  SearchPolicy narrow;
  narrow.plan_bound = 1.0;
  narrow.trials = 10;
  narrow.lesser_trials = 2;
  narrow.strategy = "random";
  const ProblemSearch search = plan_search(headline, synthetic_info(), narrow);
  const double best = estimate_ms(headline, search.shapes.front(), synthetic_info());
  std::set<Fusion> fusions;
  std::set<std::pair<Fusion, Path>> kinds;
  for (const PlanShape& shape : search.shapes) {
    fusions.insert(shape.fusion);
    const bool first_of_kind = kinds.insert({shape.fusion, shape.path}).second;
    EXPECT_TRUE(first_of_kind || estimate_ms(headline, shape, synthetic_info()) <= best) << shape.text();
  }
  std::set<Fusion> all;
  for (const PlanShape& shape : plan_shapes(headline).shapes) all.insert(shape.fusion);
  EXPECT_EQ(fusions, all);
  std::set<std::string> of_the_best;
  for (const PlanShape& shape : search.shapes) {
    if (estimate_ms(headline, shape, synthetic_info()) > best) continue;
    for (const StageProblem& stage : stages_of(headline, shape)) of_the_best.insert(without_chunk(stage));
  }
  for (const StageGroup& group : search.groups) {
    const bool lesser = !of_the_best.contains(without_chunk(group.pivot));
    EXPECT_EQ(group.trials, lesser ? 2u : 10u) << group.pivot.key();
    EXPECT_EQ(group.first.size(), std::min(group.trials, group.space->size()));
  }
  EXPECT_TRUE(std::ranges::any_of(search.skipped, [](const SkippedShape& skipped) {
    return skipped.reason.find("beyond 1 times the best estimate") != std::string::npos;
  }));
}

TEST(StageSearch, WhatDoesNotFitTheMemoryIsLeftOutWithItsSize) {
  DeviceInfo small = synthetic_info();
  small.memory_bytes = 400'000'000;
  const ProblemSearch search = plan_search(headline, small, {});
  EXPECT_TRUE(std::ranges::any_of(search.skipped, [](const SkippedShape& skipped) {
    return skipped.reason.find("GB of device memory, 0.3 GB may be used") != std::string::npos;
  }));
  for (const PlanShape& shape : search.shapes) EXPECT_LT(workspace_of(headline, shape).total(), small.memory_bytes);
}

// wgmma is Hopper's alone: neither the generation before it nor the one after has it.
TEST(StageSearch, StatesInCoresNeedComputeCapability9) {
  const PlanShape rows{Fusion::expand_mma, 1024, 8, Dtype::bf16, Dtype::bf16};
  PlanShape cores = rows;
  cores.path = Path::sm90;
  DeviceInfo device = synthetic_info();
  for (const int capability : {0, 80, 89, 90, 100, 120}) {
    device.compute_capability = capability;
    EXPECT_EQ(device_refuses(rows, device), std::nullopt);
    EXPECT_EQ(device_refuses(cores, device).value_or("").find("compute capability 9.x") != std::string::npos, capability != 90)
        << capability;
  }
  EXPECT_LT(estimate_ms(headline, cores, synthetic_info()), estimate_ms(headline, rows, synthetic_info()));
}

// Blocks that keep states from chunk to chunk are few where heads are: then the kernels that share out chunks are faster.
TEST(StageSearch, ScanningBlocksInRowsWantHeads) {
  const PlanShape apart{Fusion::expand_mma, 1024, 8, Dtype::bf16, Dtype::bf16};
  PlanShape scanned = apart;
  scanned.fusion = Fusion::update_scan;
  const auto update_ms = [](const Problem& problem, const PlanShape& shape) {
    double ms = 0;
    for (const StageProblem& stage : stages_of(problem, shape)) {
      const bool on_states = stage.stage == Stage::update_state || stage.stage == Stage::scan || stage.stage == Stage::update_scan;
      if (on_states) ms += estimate_ms(stage, synthetic_info());
    }
    return ms;
  };
  const Problem few = Problem::parse("b1 t65536 h1 d64 p2 bf16 gated"), many = Problem::parse("b1 t65536 h32 d64 p2 bf16 gated");
  EXPECT_LT(update_ms(many, scanned), update_ms(many, apart));
  EXPECT_GT(update_ms(few, scanned), update_ms(few, apart));
}

TEST(StageSearch, ASeedAsksTheSameEveryTimeAndAnotherSeedOtherwise) {
  SearchPolicy policy;
  policy.strategy = "random";
  policy.seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << policy.seed);
  const auto asked = [](const SearchPolicy& with) {
    std::vector<std::vector<std::size_t>> all;
    for (const StageGroup& group : plan_search(headline, synthetic_info(), with).groups) all.push_back(group.first);
    return all;
  };
  EXPECT_EQ(asked(policy), asked(policy));
  SearchPolicy other = policy;
  ++other.seed;
  EXPECT_NE(asked(policy), asked(other));
}

// So that a recording of a wide search answers a narrower one.
TEST(StageSearch, FewerTrialsArePrefixOfMore) {
  SearchPolicy few{.strategy = "random"}, many{.strategy = "random"};
  few.trials = 4;
  many.trials = 12;
  const ProblemSearch a = plan_search(headline, synthetic_info(), few), b = plan_search(headline, synthetic_info(), many);
  ASSERT_EQ(a.groups.size(), b.groups.size());
  for (std::size_t i = 0; i < a.groups.size(); ++i) {
    ASSERT_LE(a.groups[i].first.size(), b.groups[i].first.size());
    EXPECT_TRUE(std::equal(a.groups[i].first.begin(), a.groups[i].first.end(), b.groups[i].first.begin())) << a.groups[i].pivot.key();
  }
}

// What is known by the time that a group's turn comes is worth more than what is known now.
TEST(StageSearch, AStrategyThatStartsFromExperienceIsOpenedLater) {
  const DeviceInfo device = synthetic_info();
  ProblemSearch search = plan_search(headline, device, {});
  for (const StageGroup& group : search.groups) {
    EXPECT_EQ(group.strategy, nullptr);
    EXPECT_TRUE(group.first.empty());
  }
  const Prior model = model_prior(search.groups[0].pivot, *search.groups[0].space, device);
  Experience none;
  open(search.groups[0], device, {}, &none);
  ASSERT_FALSE(search.groups[0].first.empty());
  for (std::size_t i = 0; i < search.groups[0].space->size(); ++i) EXPECT_GE(model(i) + 1e-6, model(search.groups[0].first[0]));
}

TEST(StageSearch, GroupsDoNotAllWalkTheirSpacesAlike) {
  SearchPolicy policy;
  policy.strategy = "random";
  const ProblemSearch search = plan_search(headline, synthetic_info(), policy);
  std::set<std::vector<std::size_t>> orders;
  std::size_t large = 0;
  for (const StageGroup& group : search.groups) {
    if (group.space->size() < 60 || group.first.size() < 12) continue;
    ++large;
    orders.insert(group.first);
  }
  ASSERT_GT(large, 2u);
  EXPECT_EQ(orders.size(), large);
}

}  // namespace
}  // namespace phitune
