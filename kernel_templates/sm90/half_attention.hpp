// Host side of half_attention.cuh, which is the kernel of `attention` with the knob halves.
#pragma once

#include <string>
#include <vector>

#include "kernel_templates/sm90/half_attention_config.cuh"
#include "kernel_templates/stage_template.hpp"

namespace phitune::sm90 {

/// What configs with `halves` must fulfil besides; registers are per thread of those that multiply.
[[nodiscard]] std::vector<Constraint> half_attention_constraints(const StageProblem& problem, const DeviceInfo& device);

[[nodiscard]] HalfAttentionConfig half_attention_config(const StageProblem& problem, const Config& config);
[[nodiscard]] std::string half_attention_source(const StageProblem& problem, const Config& config);
[[nodiscard]] Launch half_attention_launch(const StageProblem& problem, const Config& config);

}  // namespace phitune::sm90
