#include "search/compose.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/search/random_problem.hpp"

namespace phitune {
namespace {

const Problem problem = Problem::parse("b1 t4096 h8 d64 p2 bf16 gated sum");

Trial ok_trial(const StageProblem& stage, Config config, double ms, double error = 1e-3, std::int64_t registers = 128) {
  Trial trial;
  trial.problem = stage;
  trial.config = std::move(config);
  trial.result.timing = Timing{.samples_ms = {ms}, .median_ms = ms, .throttle_reasons = {}, .sm_clocks_mhz = {}};
  trial.result.errors = Errors{.relative_l2 = error};
  trial.resources = Resources{.registers = registers};
  return trial;
}

Trial failed_trial(const StageProblem& stage, Config config, Outcome outcome, std::string reason) {
  Trial trial;
  trial.problem = stage;
  trial.config = std::move(config);
  trial.result = {.outcome = outcome, .reason = std::move(reason), .timing = {}, .errors = {}, .checks = {}};
  return trial;
}

const StageProblem attention = make_stage_problem(problem, PlanShape{.fusion = Fusion::quadratic}, Stage::attention);

TEST(StageResults, BestIsTheFastest) {
  StageResults results;
  results.add(ok_trial(attention, {{"w", 4}}, 2.0, 1e-6));
  results.add(ok_trial(attention, {{"w", 8}}, 1.9));
  results.add(failed_trial(attention, {{"w", 2}}, Outcome::wrong_result, "off"));
  ASSERT_NE(results.best(attention), nullptr);
  EXPECT_EQ(results.best(attention)->config, (Config{{"w", 8}}));
}

TEST(StageResults, TiesGoToLowerErrorThenFewerRegistersThenTheSmallerText) {
  std::vector<Trial> trials{ok_trial(attention, {{"w", 1}}, 1.000, 2e-3, 64), ok_trial(attention, {{"w", 2}}, 1.004, 1e-3, 128),
                            ok_trial(attention, {{"w", 4}}, 1.003, 1e-3, 96), ok_trial(attention, {{"w", 3}}, 1.002, 1e-3, 96),
                            ok_trial(attention, {{"w", 5}}, 1.100, 1e-9, 10)};
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 rng(seed);
  for (int i = 0; i < 20; ++i) {
    shuffle_front(trials, trials.size(), rng);
    StageResults results;
    for (const Trial& trial : trials) results.add(trial);
    EXPECT_EQ(results.best(attention, {.share = 0.005})->config, (Config{{"w", 3}}));
    EXPECT_EQ(results.best(attention, {})->config, (Config{{"w", 1}}));
    EXPECT_EQ(results.best(attention, {.share = 0.2})->config, (Config{{"w", 5}}));
    // Of a kernel that takes microseconds a share is less than what two measurements differ by.
    EXPECT_EQ(results.best(attention, {.share = 1e-6, .ms = 0.0025})->config, (Config{{"w", 3}}));
  }
}

TEST(StageResults, ALaterTrialOfAConfigReplacesTheEarlier) {
  StageResults results;
  results.add(ok_trial(attention, {{"w", 4}}, 1.0));
  results.add(ok_trial(attention, {{"w", 4}}, 3.0));
  results.add(ok_trial(attention, {{"w", 8}}, 2.0));
  EXPECT_EQ(results.best(attention)->config, (Config{{"w", 8}}));
  results.add(failed_trial(attention, {{"w", 8}}, Outcome::unstable, "differs"));
  EXPECT_EQ(results.best(attention)->median_ms, 3.0);
}

TEST(StageResults, SaysWhyThereIsNoBest) {
  StageResults results;
  EXPECT_EQ(results.why_none(attention), "attention was not tried");
  results.add(failed_trial(attention, {{"w", 4}}, Outcome::compile_failed, "too many registers"));
  results.add(failed_trial(attention, {{"w", 8}}, Outcome::wrong_result, "off"));
  results.add(failed_trial(attention, {{"w", 9}}, Outcome::wrong_result, "off"));
  EXPECT_EQ(results.best(attention), nullptr);
  EXPECT_EQ(results.why_none(attention), "3 trials of attention: 1 compile_failed, 2 wrong_result (first: too many registers)");
}

// Times of every stage of every shape, drawn at random, the winner found by brute force.
struct Example {
  PlanShapes shapes = plan_shapes(problem);
  StageResults results;
  std::map<StageProblem, double> least;

  explicit Example(std::mt19937_64& rng, const std::set<Stage>& missing = {}) {
    for (const PlanShape& shape : shapes.shapes) {
      for (const StageProblem& stage : stages_of(problem, shape)) {
        if (least.contains(stage)) continue;
        double best = 1e9;
        for (std::int64_t w = 0; w < 3; ++w) {
          const double ms = 0.001 * static_cast<double>(1 + draw_below(1000, rng));
          if (missing.contains(stage.stage)) {
            results.add(failed_trial(stage, {{"w", w}}, Outcome::compile_failed, "broken"));
          } else {
            results.add(ok_trial(stage, {{"w", w}}, ms));
            best = std::min(best, ms);
          }
        }
        least[stage] = best;
      }
    }
  }
};

TEST(Compose, RanksEveryShapeByTheSumOfItsBestStages) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 rng(seed);
  const Example example(rng);
  const Composed composed = compose(problem, example.shapes.shapes, example.results);
  EXPECT_TRUE(composed.impossible.empty());
  ASSERT_EQ(composed.ranked.size(), example.shapes.shapes.size());
  EXPECT_TRUE(std::ranges::is_sorted(composed.ranked, {}, &Composition::sum_ms));
  std::set<PlanShape> distinct;
  for (const Composition& c : composed.ranked) {
    distinct.insert(c.plan.shape);
    EXPECT_EQ(c.plan.problem, problem);
    const auto stages = stages_of(problem, c.plan.shape);
    ASSERT_EQ(c.plan.stages.size(), stages.size());
    ASSERT_EQ(c.stage_ms.size(), stages.size());
    double sum = 0;
    for (std::size_t i = 0; i < stages.size(); ++i) {
      EXPECT_EQ(c.plan.stages[i].problem, stages[i]);
      EXPECT_EQ(c.stage_ms[i], example.least.at(stages[i]));
      sum += example.least.at(stages[i]);
    }
    EXPECT_DOUBLE_EQ(c.sum_ms, sum);
  }
  EXPECT_EQ(distinct.size(), composed.ranked.size());
}

TEST(Compose, ReasonsAreGivenForShapesWithoutARightStage) {
  std::mt19937_64 rng(3);
  const Example example(rng, {Stage::query_state});
  const Composed composed = compose(problem, example.shapes.shapes, example.results);
  EXPECT_EQ(composed.ranked.size() + composed.impossible.size(), example.shapes.shapes.size());
  const auto asks = [](const PlanShape& shape) { return shape.fusion == Fusion::expand_mma || shape.fusion == Fusion::update_scan; };
  for (const Composition& c : composed.ranked) EXPECT_FALSE(asks(c.plan.shape));
  EXPECT_FALSE(composed.impossible.empty());
  for (const auto& [shape, reason] : composed.impossible) {
    EXPECT_TRUE(asks(shape));
    EXPECT_EQ(reason, "3 trials of query_state: 3 compile_failed (first: broken)");
  }
}

TEST(Compose, TheOrderOfShapesAndTrialsDoesNotMatter) {
  StageResults results;
  auto shapes = plan_shapes(problem).shapes;
  for (const PlanShape& shape : shapes) {
    for (const StageProblem& stage : stages_of(problem, shape)) results.add(ok_trial(stage, {{"w", 1}}, 0.5));  // nothing but ties
  }
  const auto texts = [&] {
    std::vector<std::string> out;
    for (const Composition& c : compose(problem, shapes, results).ranked) out.push_back(c.plan.text());
    return out;
  };
  const auto before = texts();
  std::ranges::reverse(shapes);
  EXPECT_EQ(texts(), before);
}

TEST(Finalists, AreTheBestAndTheBestOfEveryFusionStrategy) {
  std::mt19937_64 rng(11);
  const Example example(rng);
  const auto ranked = compose(problem, example.shapes.shapes, example.results).ranked;
  std::set<Fusion> all;
  for (const Composition& c : ranked) all.insert(c.plan.shape.fusion);
  ASSERT_GE(all.size(), 4u);
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{6}, ranked.size() + 5}) {
    const auto chosen = finalists(ranked, count);
    EXPECT_TRUE(std::ranges::is_sorted(chosen, {}, &Composition::sum_ms));
    std::set<Fusion> fusions;
    std::set<PlanShape> shapes;
    for (const Composition& c : chosen) {
      fusions.insert(c.plan.shape.fusion);
      shapes.insert(c.plan.shape);
    }
    EXPECT_EQ(fusions, all) << count;
    EXPECT_EQ(shapes.size(), chosen.size()) << "a finalist twice";
    EXPECT_GE(chosen.size(), std::min(count, ranked.size()));
    EXPECT_LE(chosen.size(), std::min(count + all.size(), ranked.size()));
    for (std::size_t i = 0; i < std::min(count, ranked.size()); ++i) EXPECT_EQ(chosen[i].plan, ranked[i].plan);
    for (const Fusion fusion : fusions) {
      const auto of_fusion = [fusion](const Composition& c) { return c.plan.shape.fusion == fusion; };
      EXPECT_EQ(std::ranges::find_if(chosen, of_fusion)->plan, std::ranges::find_if(ranked, of_fusion)->plan);
    }
  }
  EXPECT_TRUE(finalists({}, 4).empty());
}

// Two sweeps may find either of two such configs the faster one: both must get into the finals whichever came first.
TEST(Rivals, AreConfigsOfTheLeadingPlansThatAreNoSlowerThanATie) {
  const PlanShape shape{.fusion = Fusion::quadratic};
  // The plan takes 1.1 ms; its gates have several configs that hardly differ.
  const auto rivals_of = [&](double first, double second, double third, std::string identity = "c", std::size_t most = 4) {
    StageResults results;
    const auto add = [&](int w, double ms, std::string of_kernel) {
      Trial trial = ok_trial(attention, {{"w", w}}, ms);
      trial.identity = std::move(of_kernel);
      results.add(trial);
    };
    add(1, first, "a"), add(2, second, "b"), add(3, third, std::move(identity));
    for (const int items : {1, 2, 4, 8}) results.add(ok_trial(make_stage_problem(problem, shape, Stage::gates), {{"items", items}}, 0.1));
    const auto chosen = finalists(compose(problem, std::vector{shape}, results).ranked, 6);
    EXPECT_EQ(chosen.size(), 1u);
    std::vector<std::string> texts;
    for (const Composition& rival : rivals(chosen, results, 0.01, most)) {
      EXPECT_NEAR(rival.sum_ms, rival.stage_ms[0] + rival.stage_ms[1], 1e-12);
      texts.push_back(rival.plan.stages[0].config.text() + " " + rival.plan.stages[1].config.text());
    }
    return texts;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(rivals_of(1.000, 1.010, 1.1), (Texts{"items=1 w=2", "items=2 w=1", "items=4 w=1"})) << "of each stage, the longest first";
  EXPECT_EQ(rivals_of(1.010, 1.000, 1.1), (Texts{"items=1 w=1", "items=2 w=2", "items=4 w=2"}));
  EXPECT_EQ(rivals_of(1.000, 1.012, 1.1), (Texts{"items=2 w=1", "items=4 w=1"})) << "more than a tie";
  EXPECT_EQ(rivals_of(1.000, 1.010, 1.005), (Texts{"items=1 w=3", "items=1 w=2", "items=2 w=1", "items=4 w=1"})) << "two for one stage, the nearest first";
  EXPECT_EQ(rivals_of(1.000, 1.010, 1.000, "a"), (Texts{"items=1 w=2", "items=2 w=1", "items=4 w=1"})) << "the same machine code is no rival";
  EXPECT_EQ(rivals_of(1.000, 1.010, 1.1, "c", 1), (Texts{"items=1 w=2"}));
  EXPECT_TRUE(rivals({}, {}, 0.01, 2).empty());
}

}  // namespace
}  // namespace phitune
