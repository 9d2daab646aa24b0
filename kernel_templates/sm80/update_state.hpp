// Host side of update_state.cuh and update_scan.cuh.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// Stage::update_state, U of each chunk, of the last one only when the problem has a final state (or only one chunk); and
/// Stage::update_scan, the state before each chunk.
class UpdateStateTemplate : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& update_state_template();

}  // namespace phitune
