// Host side of update_state.cuh and update_scan.cuh.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune::sm90 {

/// On Hopper, in the layout cores: Stage::update_state, the moments of each chunk, and Stage::update_scan, the state before each chunk.
class UpdateStateTemplate : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& update_state_template();

}  // namespace phitune::sm90
