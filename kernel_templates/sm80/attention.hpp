// attention: the quadratic form inside each chunk, or over all of t (see attention.cuh). Host side.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

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

/// How query rows meet keys, for attend_query too: the knobs key_tile, q_registers and one of this name, the stages of the keys' ring.
[[nodiscard]] std::vector<Knob> key_knobs(const std::string& stages);

/// What that asks of them, of warps, m_tiles and min_blocks, and of the device. `shared`: a block's dynamic bytes, from all but min_blocks.
[[nodiscard]] std::vector<Constraint> key_constraints(const StageProblem& problem, const DeviceInfo& device, const std::string& stages,
                                                      const std::function<std::int64_t(const Config&)>& shared);

}  // namespace phitune
