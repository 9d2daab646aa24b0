#include "reports/model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/reports/sample.hpp"

namespace phitune {
namespace {

/// The sample with a fresh seed, which a failing test prints.
class ModelTest : public testing::Test {
 protected:
  std::uint64_t seed_ = std::random_device{}();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  Records records_ = sample::records(seed_, false);

  [[nodiscard]] Model model() const { return build_model(records_, "now"); }
  static const ProblemView& problem(const Model& m, const std::string& name) {
    for (const DeviceView& device : m.devices)
      for (const ProblemView& view : device.problems)
        if (view.name == name) return view;
    throw std::out_of_range(name);
  }
};

TEST_F(ModelTest, WinnersStandAgainstTheirFloor) {
  const Model m = model();
  ASSERT_EQ(m.devices.size(), 1U);
  EXPECT_EQ(m.devices[0].problems.size(), 6U);
  const ProblemView& view = problem(m, "headline");
  ASSERT_TRUE(view.winner);
  EXPECT_EQ(view.winner_ms, view.winner->trial.result.timing->median_ms);
  EXPECT_EQ(view.floor.ms, floor_ms(view.problem, 700, 4.2));
  EXPECT_EQ(view.floor.bound, Bound::matrix);
  EXPECT_DOUBLE_EQ(view.over_floor, view.winner_ms / view.floor.ms);
  EXPECT_EQ(problem(m, "lost").winner, std::nullopt);
  EXPECT_EQ(problem(m, "lost").over_floor, 0);
}

TEST_F(ModelTest, FloorIsUnknownWithoutMeasuredRates) {
  for (SweepRecord& sweep : records_.sweeps) sweep.device.copy_tbps = 0;
  const Model m = model();
  EXPECT_EQ(problem(m, "headline").floor.ms, 0);
  EXPECT_EQ(problem(m, "headline").floor.bound, Bound::unknown);
  EXPECT_EQ(problem(m, "headline").over_floor, 0);
}

TEST_F(ModelTest, LaterSweepWithoutCeilingsDoesNotEraseThem) {
  SweepRecord later = records_.sweeps[0];
  later.trials.clear();
  later.plan_trials.clear();
  later.device.copy_tbps = 0;
  later.device.matrix_tflops = 0;
  later.device.driver = "590.0";
  records_.sweeps.push_back(later);
  const Model m = model();
  EXPECT_EQ(m.devices[0].info.copy_tbps, 4.2);
  EXPECT_EQ(m.devices[0].info.matrix_tflops, 700);
  EXPECT_EQ(m.devices[0].info.driver, "590.0");
  EXPECT_EQ(m.devices[0].sweeps.size(), 2U);
}

TEST_F(ModelTest, ReplayedAndMeasuredNumbersNeverMix) {
  const Records replayed = sample::records(seed_, true);
  records_.sweeps.push_back(replayed.sweeps[0]);
  records_.winners.insert(records_.winners.end(), replayed.winners.begin(), replayed.winners.end());
  const Model m = model();
  ASSERT_EQ(m.devices.size(), 2U);
  EXPECT_STREQ(m.devices[0].origin(), "measured");
  EXPECT_STREQ(m.devices[1].origin(), "replayed");
  EXPECT_EQ(m.devices[0].stage_trials, m.devices[1].stage_trials);
  EXPECT_TRUE(m.any_replayed());
  EXPECT_FALSE(build_model(sample::records(seed_, false), "now").any_replayed());
}

TEST_F(ModelTest, PlansAreSortedAndTheWinnerIsMarkedOnce) {
  const Model m = model();
  const ProblemView& view = problem(m, "headline");
  EXPECT_EQ(view.plans.size(), 5U);
  EXPECT_TRUE(std::is_sorted(view.plans.begin(), view.plans.end(),
                             [](const auto& a, const auto& b) { return time_of(a.trial.result) < time_of(b.trial.result); }));
  EXPECT_TRUE(view.plans.front().winner);
  EXPECT_EQ(std::count_if(view.plans.begin(), view.plans.end(), [](const auto& p) { return p.winner; }), 1);
}

TEST_F(ModelTest, StagesOfTheWinnerCarryRatesAndResources) {
  const Model m = model();
  const ProblemView& view = problem(m, "ragged");
  ASSERT_EQ(view.stages.size(), view.winner->trial.plan.stages.size());
  for (std::size_t i = 0; i < view.stages.size(); ++i) {
    const StageView& stage = view.stages[i];
    EXPECT_EQ(stage.ms, view.winner->trial.stage_ms[i]);
    EXPECT_NEAR(stage.tbps * 1e12 * stage.ms * 1e-3, stage.work.bytes, stage.work.bytes * 1e-9);
    EXPECT_NEAR(stage.tflops * 1e12 * stage.ms * 1e-3, stage.work.flops, stage.work.flops * 1e-9 + 1e-9);
    EXPECT_TRUE(stage.resources);
    EXPECT_FALSE(stage.outcomes.empty());
  }
}

TEST_F(ModelTest, FusionsAndChunksKeepTheBestOfEach) {
  const Model m = model();
  const ProblemView& view = problem(m, "headline");
  ASSERT_EQ(view.fusions.size(), 6U);
  EXPECT_TRUE(view.fusions[0].end_to_end_ms && view.fusions[2].end_to_end_ms);
  EXPECT_EQ(view.fusions[2].end_to_end_ms, view.winner_ms);
  EXPECT_FALSE(view.fusions[1].end_to_end_ms || view.fusions[1].composed_ms);
  EXPECT_FALSE(view.fusions[1].why_none.empty());
  std::vector<std::int64_t> sizes;
  for (const ChunkView& c : view.chunks) {
    sizes.push_back(c.chunk);
    EXPECT_TRUE(c.end_to_end_ms && c.composed_ms);
  }
  EXPECT_EQ(sizes, (std::vector<std::int64_t>{0, 256, 512, 1024, 2048}));
}

TEST_F(ModelTest, AxesAreFoundAndOrdered) {
  const Model m = model();
  ASSERT_EQ(m.devices[0].axes.size(), 1U);
  const AxisView& axis = m.devices[0].axes[0];
  EXPECT_EQ(axis.axis, "t");
  EXPECT_EQ(axis.fixed, "b1 h8 d64 p2 bf16 gated");
  ASSERT_EQ(axis.points.size(), 3U) << "a problem without a winner is no point";
  EXPECT_EQ(axis.points[0].value, 4096);
  EXPECT_EQ(axis.points[2].value, 65536);
  EXPECT_DOUBLE_EQ(axis.points[2].token_heads_per_s, 65536.0 * 8 / axis.points[2].ms * 1e3);
}

TEST_F(ModelTest, FailuresAreCountedByKind) {
  const Model m = model();
  std::int64_t failed = 0;
  for (const auto& [outcome, count] : m.devices[0].outcomes) failed += outcome == Outcome::ok ? 0 : count;
  std::int64_t listed = 0;
  for (const FailureView& f : m.devices[0].failures) {
    listed += f.count;
    EXPECT_EQ(f.reason.find('\n'), std::string::npos);
  }
  EXPECT_EQ(listed, failed);
  EXPECT_TRUE(std::is_sorted(m.devices[0].failures.begin(), m.devices[0].failures.end(),
                             [](const auto& a, const auto& b) { return a.count > b.count; }));
}

TEST_F(ModelTest, SameFailureAtOtherSizesIsOneKind) {
  auto& trials = records_.sweeps[0].trials;
  const StageProblem stage = trials[0].problem;
  std::mt19937_64 rng(seed_);
  trials.clear();
  for (const char* reason : {"needs 72 bytes", "needs 9000 bytes", "needs 72 words"}) {
    trials.push_back(sample::trial(rng, stage, Outcome::pruned, 1));
    trials.back().result.reason = reason;
  }
  const Model m = model();
  ASSERT_EQ(m.devices[0].failures.size(), 2U);
  EXPECT_EQ(m.devices[0].failures[0].count, 2);
}

TEST_F(ModelTest, EqualRecordsGiveEqualModels) {
  const Model a = model();
  const Model b = model();
  ASSERT_EQ(a.devices[0].problems.size(), b.devices[0].problems.size());
  for (std::size_t i = 0; i < a.devices[0].problems.size(); ++i) EXPECT_EQ(a.devices[0].problems[i].name, b.devices[0].problems[i].name);
}

TEST(ShortName, LeavesOutWhatIsUsualAndReadsBack) {
  for (const char* text : {"b1 t65536 h8 d64 p2 bf16 gated", "b2 t10007 h8 d64 p2 fp16 ungated", "b1 t32768 hq32 hk8 d128 p2 bf16 gated"}) {
    const Problem problem = Problem::parse(text);
    EXPECT_EQ(short_name(problem), text);
  }
  EXPECT_EQ(short_name(Problem::parse("b1 t64 h8 d32 e64 p3 bf16 gated none bhtd final")),
            "b1 t64 h8 d32 e64 p3 bf16 gated norm-none bhtd final");
}

}  // namespace
}  // namespace phitune
