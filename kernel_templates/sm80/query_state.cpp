#include "kernel_templates/sm80/query_state.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "kernel_templates/sm80/query_state_config.cuh"
#include "kernel_templates/storage.hpp"

namespace phitune {

namespace {

// What the runtime keeps of shared memory for itself, per block.
constexpr std::int64_t reserved_shared = 1024;
constexpr std::int64_t most_registers = 255;
// Addresses, B fragments and loop state besides what is counted below.
constexpr std::int64_t other_registers = 28;

QueryStateConfig kernel_config(const StageProblem& s, const Config& c) {
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .d_tile = static_cast<int>(s.shape.d_tile),
          .input = storage_of(s.problem.dtype),
          .state = storage_of(s.shape.state),
          .partial = storage_of(s.shape.partial),
          .gated = s.problem.gated,
          .normalised = s.problem.normalisation == Normalisation::sum,
          .warps = static_cast<int>(c.at("warps")),
          .m_tiles = static_cast<int>(c.at("m_tiles")),
          .steps = static_cast<int>(c.at("steps")),
          .stages = static_cast<int>(c.at("stages"))};
}

std::int64_t block_rows(const Config& c) { return c.at("warps") * c.at("m_tiles") * 16; }

std::int64_t blocks(const StageProblem& s, const Config& c) {
  return s.problem.b * s.problem.hq * s.chunks() * ((s.shape.chunk + block_rows(c) - 1) / block_rows(c));
}

// With this many registers more than it needs at least, the compiler leaves nothing to be gained by asking for fewer blocks.
constexpr std::int64_t ample_registers = 48;
constexpr std::int64_t most_warps = 16;

// Accumulators, features of the last tile, scalars of two tuples for the rows of a thread.
std::int64_t registers(const StageProblem& s, const Config& c) {
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

std::vector<Knob> knobs_of() {
  return {{"warps", {4, 8}, "warps per block"},
          {"m_tiles", {1, 2, 4}, "16-row query tiles per warp"},
          {"steps", {2, 4, 8}, "k16 steps of the state per stage of the ring"},
          {"stages", {2, 3, 4}, "stages of the ring in shared memory"},
          {"min_blocks", {1, 2, 3}, "blocks per multiprocessor that the compiler leaves registers for"}};
}

std::vector<Constraint> problem_constraints(const StageProblem& s) {
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
           [s](const Config& c) { return block_rows(c) <= std::max<std::int64_t>(64, std::min(s.shape.chunk, s.problem.t)); }},
          {"more than 2^31 - 1 blocks", {"warps", "m_tiles"}, [s](const Config& c) {
             return blocks(s, c) <= std::numeric_limits<std::int32_t>::max();
           }}};
}

std::vector<Constraint> device_constraints(const StageProblem& s, const DeviceInfo& device) {
  const auto shared = [s](const Config& c) { return std::int64_t{query_state_layout(kernel_config(s, c)).shared_bytes}; };
  return {{"min_blocks asks for more than 16 warps per multiprocessor",
           {"warps", "min_blocks"},
           [](const Config& c) { return c.at("warps") * c.at("min_blocks") <= most_warps; }},
          {"accumulators, query features and scalars exceed the registers of a thread",
           {"warps", "m_tiles", "min_blocks"},
           [s](const Config& c) { return registers(s, c) <= register_budget(c, c.at("min_blocks")); }},
          {fmt::format("shared memory exceeds {} bytes per block of the device", device.shared_per_block),
           {"warps", "m_tiles", "steps", "stages"},
           [shared, limit = device.shared_per_block](const Config& c) { return shared(c) <= limit; }},
          {fmt::format("min_blocks blocks exceed {} bytes of shared memory per multiprocessor", device.shared_per_multiprocessor),
           {"warps", "m_tiles", "steps", "stages", "min_blocks"},
           [shared, limit = device.shared_per_multiprocessor](const Config& c) {
             return c.at("min_blocks") * (shared(c) + reserved_shared) <= limit;
           }},
          {"one block more per multiprocessor fits with registers to spare: its code is as good",
           {"warps", "m_tiles", "steps", "stages", "min_blocks"},
           [s, shared, limit = device.shared_per_multiprocessor](const Config& c) {
             const std::int64_t more = c.at("min_blocks") + 1;
             const bool offered = more <= 3 && c.at("warps") * more <= most_warps && more * (shared(c) + reserved_shared) <= limit;
             return !offered || registers(s, c) + ample_registers > register_budget(c, more);
           }}};
}

}  // namespace

Space QueryStateTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Constraint> constraints = problem_constraints(s);
  std::ranges::move(device_constraints(s, device), std::back_inserter(constraints));
  return Space(knobs_of(), std::move(constraints));
}

std::string QueryStateTemplate::source(const StageProblem& s, const Config& c) const {
  const QueryStateConfig k = kernel_config(s, c);
  return fmt::format(
      "#include \"kernel_templates/sm80/query_state.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::query_state<phitune::QueryStateConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile},\n"
      "      .input = phitune::Storage::{input}, .state = phitune::Storage::{state}, .partial = phitune::Storage::{partial},\n"
      "      .gated = {gated}, .normalised = {normalised},\n"
      "      .warps = {warps}, .m_tiles = {m_tiles}, .steps = {steps}, .stages = {stages}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", k.warps * 32), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", k.d), fmt::arg("e", k.e),
      fmt::arg("p", k.p), fmt::arg("d_tile", k.d_tile), fmt::arg("input", to_string(s.problem.dtype)),
      fmt::arg("state", to_string(s.shape.state)), fmt::arg("partial", to_string(s.shape.partial)), fmt::arg("gated", k.gated),
      fmt::arg("normalised", k.normalised), fmt::arg("warps", k.warps), fmt::arg("m_tiles", k.m_tiles), fmt::arg("steps", k.steps),
      fmt::arg("stages", k.stages));
}

Launch QueryStateTemplate::launch(const StageProblem& s, const Config& c) const {
  const QueryStateLayout layout = query_state_layout(kernel_config(s, c));
  return {.grid = {static_cast<std::uint32_t>(blocks(s, c)), 1, 1},
          .block = {static_cast<std::uint32_t>(layout.threads), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(layout.shared_bytes)};
}

const StageTemplate& query_state_template() {
  static const QueryStateTemplate instance;
  return instance;
}

}  // namespace phitune
