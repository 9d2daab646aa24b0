// Host side of attention.cuh, which is the kernel of three stages: `attention`, which has keys; `query_state`, which has the state before the
// chunk and adds what `attention` left; and `attend_query`, which has both.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernel_templates/sm90/attention_config.cuh"
#include "kernel_templates/sm90/attention_deal.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune::sm90 {

/// A stage's knobs, and the constraints that all three have.
[[nodiscard]] std::vector<Knob> attention_knobs(const StageProblem& problem, const DeviceInfo& device);
[[nodiscard]] std::vector<Constraint> attention_constraints(const StageProblem& problem, const DeviceInfo& device);

/// The kernel of a stage's config.
[[nodiscard]] AttentionConfig attention_config(const StageProblem& problem, const Config& config);
[[nodiscard]] std::string attention_source(const StageProblem& problem, const Config& config);
[[nodiscard]] Launch attention_launch(const StageProblem& problem, const Config& config);

/// Who does which works in the last rounds; nothing where all are done in turn.
[[nodiscard]] std::optional<AttentionDeal> attention_deal(const StageProblem& problem, const Config& config);
/// Registers per thread of the loading warpgroup, and of those that multiply once it has given its share away.
inline constexpr std::int64_t attention_loader_registers = 40;
[[nodiscard]] std::int64_t attention_consumer_registers(const Config& config);

}  // namespace phitune::sm90
