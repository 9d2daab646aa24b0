// attention: the quadratic form inside each chunk, or over all of t (see attention.cuh). Host side.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// Stateless; thread-safe.
class AttentionTemplate final : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& attention_template();

}  // namespace phitune
