#include "kernel_templates/sm90/update_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kernel_templates/sm90/hopper.hpp"
#include "kernel_templates/sm90/update_state_config.cuh"

namespace phitune::sm90 {

namespace {

// Addresses, swizzled offsets and loop state besides what is counted below.
constexpr std::int64_t other_consumer_registers = 12;
// The loading threads hold two positions, addresses, and their pieces of a tile's keys.
std::int64_t loader_registers(const StageProblem& s, const Config& c) { return 40 + c.at("token_tile") * s.problem.d / 128; }

bool has_sum(const StageProblem& s) { return s.problem.normalisation == Normalisation::sum; }
std::int64_t threads(const Config& c) { return (c.at("warpgroups") + 1) * 128; }

// What the warpgroups that multiply may have once the loading one has given its share away.
std::int64_t consumer_registers(const StageProblem& s, const Config& c) {
  const std::int64_t pool = threads(c) / 128 * register_budget(threads(c), c.at("min_blocks"));
  return std::min(most_registers, (pool - loader_registers(s, c)) / c.at("warpgroups") / 8 * 8);
}

// Accumulators, fragments being formed and multiplied, tuples and features of this step and the next (struct Features).
std::int64_t needed_registers(const StageProblem& s, const Config& c) {
  return c.at("m_tiles") * state_columns(s.problem) / 2 + c.at("ahead") * 8 + 24 + other_consumer_registers;
}

UpdateStateConfig kernel_config(const StageProblem& s, const Config& c) {
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .d_tile = static_cast<int>(s.shape.d_tile),
          .final_state = s.problem.final_state,
          .gated = s.problem.gated,
          .sum = has_sum(s),
          .warpgroups = static_cast<int>(c.at("warpgroups")),
          .m_tiles = static_cast<int>(c.at("m_tiles")),
          .token_tile = static_cast<int>(c.at("token_tile")),
          .stages = static_cast<int>(c.at("stages")),
          .ahead = static_cast<int>(c.at("ahead")),
          .prefetch = static_cast<int>(c.at("prefetch")),
          .consumer_registers = static_cast<int>(consumer_registers(s, c)),
          .loader_registers = static_cast<int>(loader_registers(s, c))};
}

// As update_state_layout counts them, from the knobs alone that a constraint on it declares.
std::int64_t shared_bytes(const StageProblem& s, const Config& c) {
  const std::int64_t tile = c.at("token_tile"), keys = tile * s.problem.d * 2, panel_row = std::min<std::int64_t>(128, s.problem.e * 2);
  const std::int64_t panels = s.problem.e * 2 / panel_row + (has_sum(s) ? 1 : 0);
  const std::int64_t gates = s.problem.gated ? ((tile + 4) * 8 + 127) / 128 * 128 : 0;
  return 1024 + c.at("stages") * (keys + panels * tile * panel_row) + c.at("prefetch") * (keys + gates);
}

std::int64_t block_rows(const Config& c) { return c.at("warpgroups") * c.at("m_tiles") * 64; }
std::int64_t row_blocks(const StageProblem& s, const Config& c) { return (s.rows() + block_rows(c) - 1) / block_rows(c); }

std::int64_t works(const StageProblem& s, const Config& c) {
  const std::int64_t chunks = s.problem.final_state ? s.chunks() : s.chunks() - 1;
  return s.problem.b * s.problem.hk * chunks * row_blocks(s, c);
}

std::vector<Knob> knobs(const DeviceInfo& device) {
  return {{"warpgroups", {1, 2, 3}, "warpgroups that multiply; one more loads"},
          {"m_tiles", {2, 4}, "64-row tiles of the state per warpgroup: one would read as much of phi's features as it multiplies"},
          {"token_tile", {64, 128}, "tokens of one stage of the ring"},
          {"stages", {2, 3, 4, 6}, "stages of the ring in shared memory"},
          {"ahead", {2, 4}, "m tiles of phi(K) in registers, being formed or multiplied"},
          {"prefetch", {2, 3}, "tiles of keys on their way from memory"},
          {"min_blocks", {1, 2}, "blocks per multiprocessor that the registers must allow"},
          {"blocks",
           {0, std::max(1, device.multiprocessors)},
           "0: a block for every piece of work; else that many times min_blocks share them"}};
}

std::vector<Constraint> problem_constraints(const StageProblem& s) {
  const std::int64_t group_tiles = s.shape.d_tile / 2;
  return {{"a warp copies whole rows of K in pieces of 16 bytes: d is 32, 64, 128 or 256",
           {"warpgroups"},
           [s](const Config&) { return s.problem.d % 32 == 0 && 256 % s.problem.d == 0; }},
          {"the rows of V in 16-byte pieces must fill 128 threads",
           {"token_tile"},
           [s](const Config& c) { return c.at("token_tile") * s.problem.e / 8 % 128 == 0 && (s.problem.e & (s.problem.e - 1)) == 0; }},
          {"a warp's rows are part of a group of 8 d_tile, or whole groups",
           {"m_tiles"},
           [group_tiles](const Config& c) { return c.at("m_tiles") % group_tiles == 0 || group_tiles % c.at("m_tiles") == 0; }},
          {"fragments of a tile do not divide into sets",
           {"m_tiles", "token_tile", "ahead"},
           [](const Config& c) { return c.at("token_tile") / 32 * c.at("m_tiles") % c.at("ahead") == 0; }},
          {"more than a quarter of a block's rows would be past the end of the state",
           {"warpgroups", "m_tiles"},
           [s](const Config& c) {
             const bool smallest = c.at("warpgroups") == 1 && c.at("m_tiles") == 2;
             return smallest || 4 * s.rows() >= 3 * row_blocks(s, c) * block_rows(c);
           }},
          {"a token tile is longer than the chunk",
           {"token_tile"},
           [s](const Config& c) { return c.at("token_tile") <= std::max<std::int64_t>(64, std::min(s.shape.chunk, s.problem.t)); }},
          {"more stages than token tiles",
           {"token_tile", "stages"},
           [s](const Config& c) {
             return c.at("stages") == 2 || (c.at("stages") - 1) * c.at("token_tile") < std::min(s.shape.chunk, s.problem.t);
           }},
          {"more than 2^31 - 1 pieces of work", {"warpgroups", "m_tiles"}, [s](const Config& c) {
             return works(s, c) <= std::numeric_limits<std::int32_t>::max();
           }}};
}

std::vector<Constraint> device_constraints(const StageProblem& s, const DeviceInfo& device) {
  return {{"the loading threads need more registers than the kernel starts with",
           {"warpgroups", "token_tile", "min_blocks"},
           [s](const Config& c) { return loader_registers(s, c) <= register_budget(threads(c), c.at("min_blocks")); }},
          {"accumulators, fragments and features exceed the registers of a thread",
           {"warpgroups", "m_tiles", "ahead", "token_tile", "min_blocks"},
           [s](const Config& c) { return needed_registers(s, c) <= consumer_registers(s, c); }},
          {fmt::format("shared memory of min_blocks blocks exceeds {} KiB of a multiprocessor, or {} KiB per block",
                       device.shared_per_multiprocessor / 1024, device.shared_per_block / 1024),
           {"token_tile", "stages", "prefetch", "min_blocks"},
           [s, device](const Config& c) {
             const std::int64_t bytes = shared_bytes(s, c);
             return bytes <= device.shared_per_block && c.at("min_blocks") * (bytes + reserved_shared) <= device.shared_per_multiprocessor;
           }},
          {"there is no more work than blocks", {"warpgroups", "m_tiles", "min_blocks", "blocks"}, [s](const Config& c) {
             return c.at("blocks") == 0 || works(s, c) > c.at("blocks") * c.at("min_blocks");
           }}};
}

}  // namespace

Space UpdateStateTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Constraint> constraints = hopper_constraints(s, device, "warpgroups");
  for (Constraint& constraint : problem_constraints(s)) constraints.push_back(std::move(constraint));
  for (Constraint& constraint : device_constraints(s, device)) constraints.push_back(std::move(constraint));
  return Space(knobs(device), std::move(constraints));
}

std::string UpdateStateTemplate::source(const StageProblem& s, const Config& c) const {
  const UpdateStateConfig k = kernel_config(s, c);
  return fmt::format(
      "#include \"kernel_templates/sm90/update_state.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::sm90::update_state<phitune::sm90::UpdateStateConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile},\n"
      "      .final_state = {final_state}, .gated = {gated}, .sum = {sum}, .warpgroups = {warpgroups}, .m_tiles = {m_tiles},\n"
      "      .token_tile = {token_tile}, .stages = {stages}, .ahead = {ahead}, .prefetch = {prefetch},\n"
      "      .consumer_registers = {consumer}, .loader_registers = {loader}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", threads(c)), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", k.d), fmt::arg("e", k.e),
      fmt::arg("p", k.p), fmt::arg("d_tile", k.d_tile), fmt::arg("final_state", k.final_state), fmt::arg("gated", k.gated),
      fmt::arg("sum", k.sum), fmt::arg("warpgroups", k.warpgroups), fmt::arg("m_tiles", k.m_tiles), fmt::arg("token_tile", k.token_tile),
      fmt::arg("stages", k.stages), fmt::arg("ahead", k.ahead), fmt::arg("prefetch", k.prefetch),
      fmt::arg("consumer", k.consumer_registers), fmt::arg("loader", k.loader_registers));
}

Launch UpdateStateTemplate::launch(const StageProblem& s, const Config& c) const {
  // One chunk without a final state leaves nothing to do, but a grid has at least one block.
  const std::int64_t pieces = std::max<std::int64_t>(1, works(s, c));
  const std::int64_t blocks = c.at("blocks") == 0 ? pieces : std::min(pieces, c.at("blocks") * c.at("min_blocks"));
  return {.grid = {static_cast<std::uint32_t>(blocks), 1, 1},
          .block = {static_cast<std::uint32_t>(threads(c)), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(shared_bytes(s, c))};
}

const StageTemplate& update_state_template() {
  static const UpdateStateTemplate instance;
  return instance;
}

}  // namespace phitune::sm90
