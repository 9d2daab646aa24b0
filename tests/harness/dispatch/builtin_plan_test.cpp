// The plan for a problem that nobody tuned: one that its templates accept, or the reason why there is none.
#include "harness/dispatch/builtin_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "harness/compile/compiler.hpp"
#include "harness/error.hpp"
#include "kernel_templates/stage_template.hpp"
#include "tests/harness/dispatch/test_device.hpp"

namespace phitune {
namespace {

TEST(MiddleConfig, IsNearestToTheMiddleOfEveryKnob) {
  const Space space({{"a", {1, 2, 4, 8, 16}, ""}, {"b", {1, 2, 3}, ""}},
                    {{"not that one", {"a"}, [](const Config& c) { return c.at("a") != 4; }}});
  EXPECT_EQ(middle_config(space).text(), "a=2 b=2");
  EXPECT_EQ(middle_config(Space({}, {})).text(), "");
}

TEST(BuiltinPlan, IsMadeOfStagesThatTheTemplatesAccept) {
  int plans = 0;
  for (const char* text : {"b1 t65536 h8 d64 p2 bf16 gated", "b1 t16384 h16 d128 p2 bf16 gated", "b1 t65536 h8 d32 p3 bf16 gated none",
                           "b4 t8192 h8 d16 p4 bf16 gated", "b1 t32768 hq32 hk8 d128 p2 bf16 gated", "b2 t10007 h8 d64 p2 fp16 ungated",
                           "b16 t1024 h16 d64 p2 bf16 gated", "b1 t65536 h8 d64 p1 bf16 gated none", "b1 t1 h1 d16 p2 bf16 ungated",
                           "b1 t4096 h8 d64 e32 p2 bf16 gated bhtd initial final", "b1 t100 h8 d32 p2 bf16 gated final"}) {
    SCOPED_TRACE(text);
    const Problem problem = Problem::parse(text);
    const Plan plan = builtin_plan(problem, test_device());
    const auto shapes = plan_shapes(problem).shapes;
    EXPECT_NE(std::find(shapes.begin(), shapes.end(), plan.shape), shapes.end()) << plan.shape.text();
    const auto stages = stages_of(problem, plan.shape);
    ASSERT_EQ(plan.stages.size(), stages.size());
    for (std::size_t i = 0; i < stages.size(); ++i) {
      EXPECT_EQ(plan.stages[i].problem, stages[i]);
      const auto refusal = stage_template(stages[i].stage, stages[i].path).space(stages[i], test_device()).why_not(plan.stages[i].config);
      EXPECT_FALSE(refusal) << to_string(stages[i].stage) << ": " << *refusal;
    }
    ++plans;
  }
  EXPECT_EQ(plans, 11);
}

TEST(BuiltinPlan, IsQuadraticForShortProblemsOnly) {
  for (const int capability : {80, 90}) {
    DeviceInfo device = test_device();
    device.compute_capability = capability;
    const auto is_quadratic = [&](const char* text) { return builtin_plan(Problem::parse(text), device).shape.fusion == Fusion::quadratic; };
    EXPECT_TRUE(is_quadratic("b16 t1024 h16 d64 p2 bf16 gated"));
    EXPECT_FALSE(is_quadratic("b1 t65536 h8 d64 p2 bf16 gated"));
    EXPECT_FALSE(is_quadratic("b1 t1024 h16 d64 p2 bf16 gated final"));
    // No state form of this width: quadratic whatever it takes.
    EXPECT_TRUE(is_quadratic("b1 t65536 h8 d128 p4 bf16 gated"));
  }
}

// Who has not tuned on a Hopper GPU shall have its instructions all the same, where they can compute the problem.
TEST(BuiltinPlan, UsesHoppersInstructionsOnHopperAlone) {
  DeviceInfo ampere = test_device(), blackwell = test_device();
  ampere.compute_capability = 80;
  blackwell.compute_capability = 100;
  const Problem problem = Problem::parse("b1 t65536 h8 d64 p2 bf16 gated");
  EXPECT_EQ(builtin_plan(problem, test_device()).shape.text(), "two_kernels c1024 d_tile8 state_bf16 sm90");
  for (const DeviceInfo& device : {ampere, blackwell})
    EXPECT_EQ(builtin_plan(problem, device).shape.text(), "expand_mma c1024 d_tile8 state_fp32 partial_fp32") << device.compute_capability;
  EXPECT_EQ(builtin_plan(Problem::parse("b2 t10007 h8 d64 p2 fp16 ungated"), test_device()).shape.path, Path::sm80);

  Compiler compiler({"sm_90a", PHITUNE_TEST_CACHE, 2});
  for (const char* text : {"b1 t65536 h8 d64 p2 bf16 gated", "b1 t65536 h8 d32 p3 bf16 gated none", "b16 t1024 h16 d64 p2 bf16 gated"}) {
    for (const PlanStage& stage : builtin_plan(Problem::parse(text), test_device()).stages) {
      const Compiled compiled =
          compiler.compile(stage_template(stage.problem.stage, stage.problem.path).source(stage.problem, stage.config)).get();
      EXPECT_EQ(compiled.outcome, Outcome::ok) << stage.problem.key() << " " << stage.config.text() << ": " << compiled.log;
    }
  }
}

TEST(BuiltinPlan, SaysWhyThereIsNone) {
  for (const char* text : {"b1 t4096 h8 d128 p4 bf16 gated final", "b1 t4096 h8 d64 p3 bf16 gated", "b1 t4096 hq3 hk2 d64 p2 bf16 gated"}) {
    Problem problem;
    try {
      problem = Problem::parse(text);
      FAIL() << builtin_plan(problem, test_device()).text();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("no plan computes"), std::string::npos) << error.what();
      EXPECT_EQ(error.code(), ExitCode::bad_input);
    }
  }
}

}  // namespace
}  // namespace phitune
