// What the host sides of the kernels that multiply queries with states (query_state, attend_query) have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "search/plan.hpp"
#include "search/space.hpp"
#include "search/trial.hpp"

namespace phitune {

// What the runtime keeps of shared memory for itself, per block.
inline constexpr std::int64_t reserved_shared = 1024;
inline constexpr std::int64_t most_warps = 16;  // resident on a multiprocessor that a config may ask for
inline constexpr std::int64_t most_blocks = 3;  // likewise

/// The knobs warps, m_tiles (with these values), steps, stages and min_blocks.
[[nodiscard]] std::vector<Knob> state_product_knobs(std::vector<std::int64_t> m_tiles);

/// What the product asks of them, of its problem and of the device. `shared`: a block's dynamic bytes, from warps, m_tiles, steps and stages.
[[nodiscard]] std::vector<Constraint> state_product_constraints(const StageProblem& problem, const DeviceInfo& device,
                                                                const std::function<std::int64_t(const Config&)>& shared);

/// Registers a thread cannot do without during the product.
[[nodiscard]] std::int64_t state_product_registers(const StageProblem& problem, const Config& config);
/// Registers of a thread when `min_blocks` blocks share a multiprocessor.
[[nodiscard]] std::int64_t register_budget(const Config& config, std::int64_t min_blocks);

/// Blocks of a grid: b * hq * chunks * blocks of query rows of a chunk.
[[nodiscard]] std::int64_t query_blocks(const StageProblem& problem, const Config& config);

}  // namespace phitune
