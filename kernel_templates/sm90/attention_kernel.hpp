// Host side of attention.cuh, which is the kernel of two stages: `attention`, and `attend_query`, where the state is added.
#pragma once

#include <string>
#include <vector>

#include "kernel_templates/sm90/attention_config.cuh"
#include "kernel_templates/stage_template.hpp"

namespace phitune::sm90 {

/// Knobs and constraints that both stages have.
[[nodiscard]] std::vector<Knob> attention_knobs(const DeviceInfo& device);
[[nodiscard]] std::vector<Constraint> attention_constraints(const StageProblem& problem, const DeviceInfo& device);

/// The kernel of a config of either stage.
[[nodiscard]] AttentionConfig attention_config(const StageProblem& problem, const Config& config);
[[nodiscard]] std::string attention_source(const StageProblem& problem, const Config& config);
[[nodiscard]] Launch attention_launch(const StageProblem& problem, const Config& config);

}  // namespace phitune::sm90
