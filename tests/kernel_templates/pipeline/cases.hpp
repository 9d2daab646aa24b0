// The plans that the pipeline test runs on the CPU, with a seeded sample of configs for every stage.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "search/plan.hpp"

namespace phitune::kernel_test {

struct StageRun {
  StageProblem problem;
  Config config;
  std::string source;  // what NVRTC would compile; empty for stages done by a library
};

struct PlannedCase {
  std::string name;
  Problem problem;
  PlanShape shape;
  bool padded = false;  // the user's tensors have gaps between heads and tokens
  std::vector<StageRun> stages;
};

/// Every case, with configs drawn by `seed` from the stages' own spaces. The same seed gives the same cases in every program. A config is
/// used again wherever it gives the same source, so that fewer kernels are compiled. Throws std::logic_error for an empty space.
[[nodiscard]] std::vector<PlannedCase> plan_cases(std::uint64_t seed);

}  // namespace phitune::kernel_test
