// Host side of query_state.cuh.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// Stage::query_state: what the state before a chunk adds to its tokens, and the normalisation.
class QueryStateTemplate : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& query_state_template();

}  // namespace phitune
