// The hash that decides whether a winner is stale.
#include "harness/store/template_hash.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

PlanStage scan_stage(std::size_t config) {
  const Problem problem = Problem::parse("b1 t4096 h8 d64 p2 bf16 gated");
  for (const StageProblem& stage : stages_of(problem, PlanShape::parse("expand_mma c1024 d_tile8 state_bf16 partial_bf16"))) {
    if (stage.stage != Stage::scan) continue;
    DeviceInfo device;
    device.compute_capability = 90;
    device.architecture = "sm_90a";
    device.multiprocessors = 132;
    device.shared_per_block = 232448;
    device.shared_per_multiprocessor = 233472;
    return {stage, stage_template(stage.stage, stage.path).space(stage, device).at(config)};
  }
  throw std::logic_error("no scan stage");
}

TEST(TemplateHash, IsStableAndDependsOnTheConfig) {
  EXPECT_EQ(template_hash(scan_stage(0)), template_hash(scan_stage(0)));
  EXPECT_EQ(template_hash(scan_stage(0)).size(), 64U);
  EXPECT_NE(template_hash(scan_stage(0)), template_hash(scan_stage(1)));
}

TEST(TemplateHash, LibraryStagesHaveNone) {
  PlanStage stage = scan_stage(0);
  stage.problem.path = Path::library;
  stage.problem.stage = Stage::update_gemm;
  EXPECT_TRUE(template_hash(stage).empty());
}

TEST(TemplateHash, AStageWithoutATemplateThrows) {
  PlanStage stage = scan_stage(0);
  stage.problem.stage = Stage::update_gemm;
  EXPECT_ANY_THROW((void)template_hash(stage));
}

}  // namespace
}  // namespace phitune
