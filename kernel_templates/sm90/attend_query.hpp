// Host side of attention.cuh where the state is added.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune::sm90 {

/// Stage::attend_query on Hopper: a chunk's own keys and the state before it in one kernel, normalised; states in the layout cores.
class AttendQueryTemplate : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& attend_query_template();

}  // namespace phitune::sm90
