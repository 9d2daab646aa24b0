// combine: adds what attention and the state products give, for `materialized` (see combine.cuh). Host side.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// Stateless; thread-safe.
class CombineTemplate final : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& combine_template();

}  // namespace phitune
