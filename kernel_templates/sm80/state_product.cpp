#include "kernel_templates/sm80/state_product.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "kernel_templates/stage_template.hpp"

namespace phitune {

namespace {

constexpr std::int64_t most_registers = 255;
// Addresses, B fragments and loop state besides what is counted below.
constexpr std::int64_t other_registers = 28;

std::int64_t query_block_rows(const Config& c) { return c.at("warps") * c.at("m_tiles") * 16; }

}  // namespace

std::vector<Knob> state_product_knobs(std::vector<std::int64_t> m_tiles) {
  return {{"warps", {4, 8}, "warps per block"},
          {"m_tiles", std::move(m_tiles), "16-row query tiles per warp"},
          {"steps", {2, 4, 8}, "k16 steps of the state per stage of the ring"},
          {"stages", {2, 3, 4}, "stages of the ring in shared memory"},
          {"min_blocks", {1, 2, 3}, "blocks per multiprocessor that the compiler leaves registers for"}};
}

std::vector<Constraint> state_product_constraints(const StageProblem& s, const DeviceInfo& device,
                                                  const std::function<std::int64_t(const Config&)>& shared) {
  return {{"the state is stored in bf16 (for bf16 problems) or fp32",
           {"warps"},
           [s](const Config&) { return s.shape.state == Dtype::fp32 || (s.shape.state == Dtype::bf16 && s.problem.dtype == Dtype::bf16); }},
          {"a stage must hold whole groups of 8 tuples: steps is a multiple of d_tile / 2",
           {"steps"},
           [s](const Config& c) { return s.problem.p == 1 || c.at("steps") * 2 % s.shape.d_tile == 0; }},
          {"a stage is at least twice the whole state",
           {"steps"},
           [s](const Config& c) { return c.at("steps") == 2 || c.at("steps") * 8 < s.rows(); }},
          {"fewer stages hold the whole state",
           {"steps", "stages"},
           [s](const Config& c) { return c.at("stages") == 2 || (c.at("stages") - 2) * c.at("steps") * 16 < s.rows(); }},
          {"a block has more query rows than a chunk has tokens",
           {"warps", "m_tiles"},
           [s](const Config& c) { return query_block_rows(c) <= std::max<std::int64_t>(64, std::min(s.shape.chunk, s.problem.t)); }},
          {"more than 2^31 - 1 blocks",
           {"warps", "m_tiles"},
           [s](const Config& c) { return query_blocks(s, c) <= std::numeric_limits<std::int32_t>::max(); }},
          {"min_blocks asks for more than 16 warps per multiprocessor",
           {"warps", "min_blocks"},
           [](const Config& c) { return c.at("warps") * c.at("min_blocks") <= most_warps; }},
          {"accumulators, query features and scalars exceed the registers of a thread",
           {"warps", "m_tiles", "min_blocks"},
           [s](const Config& c) { return state_product_registers(s, c) <= register_budget(c, c.at("min_blocks")); }},
          {fmt::format("shared memory exceeds {} bytes per block of the device", device.shared_per_block),
           {"warps", "m_tiles", "steps", "stages"},
           [shared, limit = device.shared_per_block](const Config& c) { return shared(c) <= limit; }},
          {fmt::format("min_blocks blocks exceed {} bytes of shared memory per multiprocessor", device.shared_per_multiprocessor),
           {"warps", "m_tiles", "steps", "stages", "min_blocks"},
           [shared, limit = device.shared_per_multiprocessor](const Config& c) {
             return c.at("min_blocks") * (shared(c) + reserved_shared) <= limit;
           }}};
}

// Accumulators, features of the last tile, scalars of two tuples for the rows of a thread.
std::int64_t state_product_registers(const StageProblem& s, const Config& c) {
  const std::int64_t m = c.at("m_tiles");
  const std::int64_t accumulators = m * 4 * (state_columns(s.problem, s.shape.path) / 8);
  if (s.problem.p == 1) return accumulators + 8 * m + other_registers;
  const std::int64_t pair = s.shape.state == Dtype::fp32 ? 2 : 1;
  const std::int64_t fragments = s.shape.state == Dtype::fp32 ? 8 * m : 0;
  return accumulators + m * s.shape.d_tile + m * 4 * pair + m * 2 * (s.problem.p - 1) + fragments + other_registers;
}

std::int64_t register_budget(const Config& c, std::int64_t min_blocks) {
  return std::min(most_registers, 65536 / (c.at("warps") * 32 * min_blocks));
}

std::int64_t query_blocks(const StageProblem& s, const Config& c) {
  return s.problem.b * s.problem.hq * s.chunks() * ((s.shape.chunk + query_block_rows(c) - 1) / query_block_rows(c));
}

}  // namespace phitune
