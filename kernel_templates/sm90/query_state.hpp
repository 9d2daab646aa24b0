// Host side of attention.cuh where the state is added to what `attention` left.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune::sm90 {

/// Stage::query_state on Hopper: what the state before a chunk adds to its tokens, and the normalisation; states in the layout cores.
class QueryStateTemplate : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& query_state_template();

}  // namespace phitune::sm90
