// The plan for a problem that nobody tuned: one that its templates accept, or the reason why there is none.
#include "harness/dispatch/builtin_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>

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
  const auto fusion = [](const char* text) { return builtin_plan(Problem::parse(text), test_device()).shape.fusion; };
  EXPECT_EQ(fusion("b16 t1024 h16 d64 p2 bf16 gated"), Fusion::quadratic);
  EXPECT_EQ(fusion("b1 t65536 h8 d64 p2 bf16 gated"), Fusion::expand_mma);
  EXPECT_EQ(fusion("b1 t1024 h16 d64 p2 bf16 gated final"), Fusion::expand_mma);
  // No state form of this width: quadratic whatever it takes.
  EXPECT_EQ(fusion("b1 t65536 h8 d128 p4 bf16 gated"), Fusion::quadratic);
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
