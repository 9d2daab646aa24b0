#include "kernel_templates/sm90/query_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kernel_templates/sm90/hopper.hpp"
#include "kernel_templates/sm90/query_state_config.cuh"
#include "kernel_templates/storage.hpp"

namespace phitune::sm90 {

namespace {

// Addresses and loop state besides what is counted below.
constexpr std::int64_t other_registers = 30;

QueryStateConfig kernel_config(const StageProblem& s, const Config& c) {
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .d_tile = static_cast<int>(s.shape.d_tile),
          .partial = storage_of(s.shape.partial),
          .gated = s.problem.gated,
          .normalised = s.problem.normalisation == Normalisation::sum,
          .warpgroups = static_cast<int>(c.at("warpgroups")),
          .m_tiles = static_cast<int>(c.at("m_tiles")),
          .steps = static_cast<int>(c.at("steps")),
          .batch = static_cast<int>(c.at("batch")),
          .stages = static_cast<int>(c.at("stages"))};
}

std::int64_t threads(const Config& c) { return c.at("warpgroups") * 128 + 32; }
std::int64_t block_rows(const Config& c) { return c.at("warpgroups") * c.at("m_tiles") * 64; }

std::int64_t blocks(const StageProblem& s, const Config& c) {
  return s.problem.b * s.problem.hq * s.chunks() * ((s.shape.chunk + block_rows(c) - 1) / block_rows(c));
}

// Accumulators, two batches of fragments, features of this group's last tile and the next's, scalars.
std::int64_t registers(const StageProblem& s, const Config& c) {
  const std::int64_t m = c.at("m_tiles");
  return m * state_columns(s.problem) / 2 + 2 * c.at("batch") * m * 4 + 2 * m * s.shape.d_tile + 2 * m * (2 + s.problem.p - 1) +
         other_registers;
}

std::vector<Knob> knobs() {
  return {{"warpgroups", {1, 2, 4}, "warpgroups that multiply; a warp more feeds them"},
          {"m_tiles", {1, 2}, "64-row query tiles per warpgroup"},
          {"steps", {4, 8, 12, 16}, "k16 steps of the state per stage of the ring"},
          {"batch", {1, 2, 4}, "k16 steps of phi(q) that are formed while the batch before is multiplied"},
          {"stages", {2, 3, 4, 6}, "stages of the ring in shared memory"},
          {"min_blocks", {1, 2, 3}, "blocks per multiprocessor that the compiler leaves registers for"}};
}

std::vector<Constraint> problem_constraints(const StageProblem& s) {
  return {{"fewer stages hold the whole state",
           {"steps", "stages"},
           [s](const Config& c) { return c.at("stages") == 2 || (c.at("stages") - 1) * c.at("steps") * 16 < s.rows(); }},
          {"a block has more query rows than a chunk has tokens",
           {"warpgroups", "m_tiles"},
           [s](const Config& c) { return block_rows(c) <= std::max<std::int64_t>(64, std::min(s.shape.chunk, s.problem.t)); }},
          {"more than 2^31 - 1 blocks", {"warpgroups", "m_tiles"}, [s](const Config& c) {
             return blocks(s, c) <= std::numeric_limits<std::int32_t>::max();
           }}};
}

std::vector<Constraint> device_constraints(const StageProblem& s, const DeviceInfo& device) {
  return {{"accumulators, fragments and query features exceed the registers of a thread",
           {"warpgroups", "m_tiles", "batch", "min_blocks"},
           [s](const Config& c) { return registers(s, c) <= register_budget(threads(c), c.at("min_blocks")); }},
          {fmt::format("shared memory of min_blocks blocks exceeds {} KiB of a multiprocessor, or {} KiB per block",
                       device.shared_per_multiprocessor / 1024, device.shared_per_block / 1024),
           {"warpgroups", "m_tiles", "steps", "batch", "stages", "min_blocks"},
           [s, device](const Config& c) {
             const std::int64_t bytes = query_state_layout(kernel_config(s, c)).shared_bytes;
             return bytes <= device.shared_per_block && c.at("min_blocks") * (bytes + reserved_shared) <= device.shared_per_multiprocessor;
           }}};
}

}  // namespace

Space QueryStateTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Constraint> constraints = hopper_constraints(s, device, "warpgroups");
  for (Constraint& constraint : state_product_constraints(s)) constraints.push_back(std::move(constraint));
  for (Constraint& constraint : problem_constraints(s)) constraints.push_back(std::move(constraint));
  for (Constraint& constraint : device_constraints(s, device)) constraints.push_back(std::move(constraint));
  return Space(knobs(), std::move(constraints));
}

std::string QueryStateTemplate::source(const StageProblem& s, const Config& c) const {
  const QueryStateConfig k = kernel_config(s, c);
  return fmt::format(
      "#include \"kernel_templates/sm90/query_state.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::sm90::query_state<phitune::sm90::QueryStateConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile},\n"
      "      .partial = phitune::Storage::{partial}, .gated = {gated}, .normalised = {normalised},\n"
      "      .warpgroups = {warpgroups}, .m_tiles = {m_tiles}, .steps = {steps}, .batch = {batch}, .stages = {stages}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", threads(c)), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", k.d), fmt::arg("e", k.e),
      fmt::arg("p", k.p), fmt::arg("d_tile", k.d_tile), fmt::arg("partial", to_string(s.shape.partial)), fmt::arg("gated", k.gated),
      fmt::arg("normalised", k.normalised), fmt::arg("warpgroups", k.warpgroups), fmt::arg("m_tiles", k.m_tiles),
      fmt::arg("steps", k.steps), fmt::arg("batch", k.batch), fmt::arg("stages", k.stages));
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

}  // namespace phitune::sm90
