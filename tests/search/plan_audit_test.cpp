// Composed plans against whole ones, by hand: two shapes, few configs.
#include "search/plan_audit.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace phitune {
namespace {

const Problem problem = Problem::parse("b1 t4096 h1 d16 p2 bf16 ungated none");

class PlanAuditTest : public testing::Test {
 protected:
  // A config of knob "k" for every stage of the shape, each `ms`.
  void tried(const PlanShape& shape, std::int64_t k, double ms, Outcome outcome = Outcome::ok) {
    for (const StageProblem& stage : stages_of(problem, shape)) {
      Trial& trial = trials_.emplace_back();
      trial.problem = stage;
      trial.config.set("k", k);
      trial.result.outcome = outcome;
      if (outcome == Outcome::ok) trial.result.timing.emplace().median_ms = ms;
    }
  }
  void run(const PlanShape& shape, std::int64_t k, double ms) {
    PlanTrial& trial = plan_trials_.emplace_back();
    trial.plan = {problem, shape, {}};
    for (const StageProblem& stage : stages_of(problem, shape)) {
      Config config;
      config.set("k", k);
      trial.plan.stages.push_back({stage, config});
    }
    trial.result.timing.emplace().median_ms = ms;
  }
  [[nodiscard]] std::optional<PlanAudit> audit() const { return audit_plans(problem, trials_, plan_trials_); }

  // Shapes of different chunk sizes share no stage.
  const PlanShape a_ = PlanShape::parse("expand_mma c1024 d_tile4 state_bf16 partial_bf16"),
                  b_ = PlanShape::parse("expand_mma c512 d_tile4 state_bf16 partial_bf16");
  const double stages_ = static_cast<double>(stages_of(problem, a_).size());
  std::vector<Trial> trials_;
  std::vector<PlanTrial> plan_trials_;
};

TEST_F(PlanAuditTest, EveryCombinationIsCountedAndTheLeastSumIsFound) {
  tried(a_, 1, 1.0);
  tried(a_, 2, 1.5);
  tried(a_, 3, 0.1, Outcome::wrong_result);
  tried(b_, 1, 1.2);
  run(a_, 1, 1.1 * stages_);
  run(b_, 1, 1.2 * 1.05 * stages_);
  const PlanAudit found = audit().value();
  EXPECT_EQ(found.shapes, 2U);
  EXPECT_EQ(found.plans, std::pow(2, stages_) + 1);
  EXPECT_EQ(found.run, 2U);
  EXPECT_EQ(found.composed, a_.text());
  EXPECT_EQ(found.fastest, a_.text());
  EXPECT_DOUBLE_EQ(found.composed_over_fastest(), 1);
  EXPECT_NEAR(found.least_ratio, 1.05, 1e-12);
  EXPECT_NEAR(found.greatest_ratio, 1.1, 1e-12);
  // What was not run has half a millisecond more in a stage: 4.5 * 1.05 at the least, against 4.4.
  EXPECT_EQ(found.rivals, 0U);
}

TEST_F(PlanAuditTest, WhatMightBeFasterAndWasNotRunIsARival) {
  tried(a_, 1, 1.0);
  tried(a_, 2, 1.01);
  tried(b_, 1, 1.2);
  run(a_, 1, 1.3 * stages_);
  run(b_, 1, 1.2 * 1.05 * stages_);
  const PlanAudit found = audit().value();
  EXPECT_EQ(found.fastest, b_.text()) << "sums do not know what lies between kernels";
  EXPECT_NEAR(found.composed_over_fastest(), 1.3 / 1.26, 1e-12);
  EXPECT_EQ(found.rivals, static_cast<std::size_t>(std::pow(2, stages_)) - 1);
  EXPECT_EQ(found.rival_shapes, 1U);
}

TEST_F(PlanAuditTest, ALeastSumThatWasNotRunSaysSo) {
  tried(a_, 1, 1.0);
  tried(b_, 1, 1.2);
  run(b_, 1, 1.2 * stages_);
  EXPECT_EQ(audit().value().composed, a_.text());
  EXPECT_FALSE(audit().value().composed_ms.has_value());
  plan_trials_[0].result.outcome = Outcome::wrong_result;
  EXPECT_FALSE(audit().has_value());
}

}  // namespace
}  // namespace phitune
