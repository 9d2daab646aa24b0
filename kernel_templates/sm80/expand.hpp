// Host side of expand.cuh.
#pragma once

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// Stage::expand_key (phi(k) with gates, and v with its column of ones) or Stage::expand_query (phi(q)), of the fusion strategy
/// `materialized`.
class ExpandTemplate : public StageTemplate {
 public:
  explicit ExpandTemplate(bool key) : key_(key) {}
  [[nodiscard]] Space space(const StageProblem& problem, const DeviceInfo& device) const override;
  [[nodiscard]] std::string source(const StageProblem& problem, const Config& config) const override;
  [[nodiscard]] Launch launch(const StageProblem& problem, const Config& config) const override;

 private:
  bool key_;
};

[[nodiscard]] const StageTemplate& expand_key_template();
[[nodiscard]] const StageTemplate& expand_query_template();

}  // namespace phitune
