// attend_query: attention and what the state before a chunk adds, in one kernel (see attend_query.cuh). Host side.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// Stage::attend_query for every GPU from Ampere on; states in rows. Stateless; thread-safe.
class AttendQueryTemplate final : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& attend_query_template();

}  // namespace phitune
