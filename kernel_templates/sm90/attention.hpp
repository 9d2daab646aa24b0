// Host side of attention.cuh.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune::sm90 {

/// Stage::attention on Hopper: the quadratic form, inside chunks or over all tokens.
class AttentionTemplate : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& attention_template();

}  // namespace phitune::sm90
