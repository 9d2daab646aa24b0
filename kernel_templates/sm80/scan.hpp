// Host side of scan.cuh.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// Stage::scan for expand_mma (S over U, denominators in update_z) and for materialized (U in fp32 with its denominators in column e).
class ScanTemplate : public StageTemplate {
 public:
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;
};

[[nodiscard]] const StageTemplate& scan_template();

}  // namespace phitune
