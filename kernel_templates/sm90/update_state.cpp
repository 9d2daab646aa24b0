#include "kernel_templates/sm90/update_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kernel_templates/sm90/hopper.hpp"
#include "kernel_templates/sm90/update_state_config.cuh"

namespace phitune::sm90 {

namespace {

// Addresses, swizzled offsets and loop state besides what is counted below.
constexpr std::int64_t other_consumer_registers = 8;
// Chunks whose updates are on their way to a scanning thread: a read through L2 takes as long as a dozen of them are worked on.
constexpr int scan_depth = 16;
// With the second number a scanning thread keeps what it reads and writes of several chunks at once.
constexpr std::int64_t least_scan_registers = 48, useful_scan_registers = 64;
constexpr std::int64_t scanning_threads = 96;

/// Whether the kernel is update_scan: one warpgroup more, and all of its blocks run at once.
bool scans(const StageProblem& s) { return s.stage == Stage::update_scan; }

// The loading threads hold two positions, addresses, and pieces of a tile's keys; with wide rows also where values come from.
std::int64_t loader_registers(const StageProblem& s, const Config& c) {
  const std::int64_t keys = s.problem.d == 32 && !has_wide_rows(s) ? 16 : std::min<std::int64_t>(64, c.at("token_tile") * s.problem.d / 128);
  return (scans(s) ? 32 : 40) + (has_wide_rows(s) ? 32 : 0) + keys;
}

bool has_sum(const StageProblem& s) { return s.problem.normalisation == Normalisation::sum; }
bool has_matrix(const StageProblem& s) { return has_denominator_matrix(s.problem, s.shape.path); }
std::int64_t columns(const StageProblem& s) { return state_columns(s.problem, s.shape.path); }
std::int64_t threads(const StageProblem& s, const Config& c) { return (c.at("warpgroups") + (scans(s) ? 2 : 1)) * 128; }
std::int64_t abreast(const StageProblem& s) { return has_wide_rows(s) ? s.shape.d_tile : 1; }

// Accumulators, fragments being formed and multiplied, tuples and features of this step and the next (struct Features).
std::int64_t needed_registers(const StageProblem& s, const Config& c) {
  const std::int64_t product = c.at("m_tiles") * abreast(s) * columns(s) / 2 + 2 * 8 + 24;
  // The denominator matrix, two sets of fragments of keys, and what ptxas was seen to need more.
  const std::int64_t tiles = (s.problem.d + 63) / 64, matrix = has_matrix(s) ? tiles * (s.problem.d / 2 + 2 * 4) + 32 : 0;
  return std::max(product, matrix) + other_consumer_registers;
}

// What the warpgroups that multiply and scan may have once the loading one has given its share away.
std::int64_t other_registers(const StageProblem& s, const Config& c) {
  return threads(s, c) / 128 * register_budget(threads(s, c), c.at("min_blocks")) - loader_registers(s, c);
}
std::int64_t scan_registers(const StageProblem& s, const Config& c) {
  if (!scans(s)) return 0;
  // (What is needed is an estimate: sixteen more remain to those that multiply.)
  const std::int64_t left = other_registers(s, c) - c.at("warpgroups") * ((needed_registers(s, c) + 7) / 8 * 8 + 16);
  return std::clamp(left / 8 * 8, least_scan_registers, useful_scan_registers);
}
std::int64_t consumer_registers(const StageProblem& s, const Config& c) {
  return std::min(most_registers, (other_registers(s, c) - scan_registers(s, c)) / c.at("warpgroups") / 8 * 8);
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
          .prefetch = static_cast<int>(c.at("prefetch")),
          .consumer_registers = static_cast<int>(consumer_registers(s, c)),
          .loader_registers = static_cast<int>(loader_registers(s, c)),
          .initial_state = s.problem.initial_state,
          .scan_registers = static_cast<int>(scan_registers(s, c)),
          .scan_depth = scans(s) ? scan_depth : 0,
          .sliced = scans(s) && c.at("sliced") != 0};
}

// As update_state_layout counts them, from the knobs alone that a constraint on it declares.
std::int64_t shared_bytes(const StageProblem& s, const Config& c) {
  const std::int64_t tile = c.at("token_tile"), keys = tile * s.problem.d * 2, row_bytes = abreast(s) * s.problem.e * 2;
  const std::int64_t panel_row = std::min<std::int64_t>(128, row_bytes), panels = row_bytes / panel_row + (has_sum(s) && !has_matrix(s) ? 1 : 0);
  const std::int64_t gates = s.problem.gated ? ((tile + 4) * 8 + 127) / 128 * 128 : 0;
  const std::int64_t raw_values = has_wide_rows(s) ? tile * s.problem.e * 2 : 0;
  const std::int64_t scanned = scans(s) ? scan_depth * scanning_threads * 16 : 0;
  return 1024 + scanned + c.at("stages") * (keys + panels * tile * panel_row) + c.at("prefetch") * (keys + gates + raw_values);
}

std::int64_t block_rows(const Config& c) { return c.at("warpgroups") * c.at("m_tiles") * 64; }
std::int64_t row_blocks(const StageProblem& s, const Config& c) {
  UpdateStateConfig k{};
  k.d = static_cast<int>(s.problem.d), k.e = static_cast<int>(s.problem.e), k.p = static_cast<int>(s.problem.p);
  k.d_tile = static_cast<int>(s.shape.d_tile), k.sum = has_sum(s);
  k.warpgroups = static_cast<int>(c.at("warpgroups")), k.m_tiles = static_cast<int>(c.at("m_tiles"));
  // (Constraints are shown a part of a config: without a token tile, the most usual one.)
  k.token_tile = static_cast<int>(c.has("token_tile") ? c.at("token_tile") : 64);
  return update_row_blocks(k);
}

std::int64_t works(const StageProblem& s, const Config& c) {
  const std::int64_t chunks = s.problem.final_state ? s.chunks() : s.chunks() - 1;
  return s.problem.b * s.problem.hk * chunks * row_blocks(s, c);
}

// What the scanning warps share: 32 vectors of 8 columns each of one head's state, for all of its chunks.
std::int64_t scan_pieces(const StageProblem& s) {
  const std::int64_t vectors = s.rows() / 8 * columns(s) + (has_matrix(s) ? s.problem.d * s.problem.d / 4 : 0);
  return scans(s) ? s.problem.b * s.problem.hk * ((vectors + 31) / 32) : 0;
}

std::vector<Knob> knobs(const StageProblem& s, const DeviceInfo& device) {
  const int all = std::max(1, device.multiprocessors);
  std::vector<Knob> knobs = {{"warpgroups", {1, 2, 3}, "warpgroups that multiply; one more loads"},
                             has_wide_rows(s) ? Knob{"m_tiles", {1, 2}, "64-row tiles of the state per warpgroup"}
                                              : Knob{"m_tiles",
                                                     {2, 4},
                                                     "64-row tiles of the state per warpgroup: one would read as much of phi's features as it multiplies"},
                             {"token_tile", {64, 128}, "tokens of one stage of the ring"},
                             {"stages", {2, 3, 4, 6}, "stages of the ring in shared memory"},
                             {"prefetch", {2, 3}, "tiles of keys on their way from memory"},
                             {"min_blocks", {1, 2}, "blocks per multiprocessor that the registers must allow"}};
  if (scans(s)) {
    knobs.push_back({"blocks", {all}, "that many times min_blocks share the work, and all run at once"});
    knobs.push_back({"sliced", has_wide_rows(s) ? std::vector<std::int64_t>{0} : std::vector<std::int64_t>{0, 1}, "1: all chunks of one block of rows before those of the next; 0: all rows of one chunk before the next"});
  } else {
    knobs.push_back({"blocks", {0, all}, "0: a block for every piece of work; else that many times min_blocks share them"});
  }
  return knobs;
}

std::vector<Constraint> problem_constraints(const StageProblem& s) {
  const std::int64_t group_tiles = has_wide_rows(s) ? 1 : s.shape.d_tile / 2;
  return {{"a product with wide rows (d_tile 4 of degree 3) has at most 256 columns: e is at most 64",
           {"m_tiles"},
           [s](const Config&) { return !has_wide_rows(s) || s.problem.e * s.shape.d_tile <= 256; }},
          {"what a step multiplies is read two steps before: a token tile has four of them or more",
           {"token_tile", "m_tiles"},
           [](const Config& c) { return c.at("token_tile") / 32 * c.at("m_tiles") >= 4; }},
          {"a warp copies whole rows of K in pieces of 16 bytes: d is 32, 64, 128 or 256",
           {"warpgroups"},
           [s](const Config&) { return s.problem.d % 32 == 0 && 256 % s.problem.d == 0; }},
          {"the rows of V in 16-byte pieces must fill 128 threads",
           {"token_tile"},
           [s](const Config& c) { return c.at("token_tile") * s.problem.e / 8 % 128 == 0 && (s.problem.e & (s.problem.e - 1)) == 0; }},
          {"a warp's rows are part of a group of 8 d_tile, or whole groups",
           {"m_tiles"},
           [group_tiles](const Config& c) { return c.at("m_tiles") % group_tiles == 0 || group_tiles % c.at("m_tiles") == 0; }},
          {"more than a quarter of a block's rows would be past the end of the state",
           {"warpgroups", "m_tiles"},
           [s](const Config& c) {
             // (The tuples of a tile are more or less than a block; warpgroups without rows leave the tensor cores to the others.)
             const bool smallest = has_wide_rows(s) || (c.at("warpgroups") == 1 && c.at("m_tiles") == 2);
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
             return std::max(works(s, c), 2 * scan_pieces(s)) <= std::numeric_limits<std::int32_t>::max();
           }}};
}

std::vector<Constraint> device_constraints(const StageProblem& s, const DeviceInfo& device) {
  return {{"the loading or scanning threads need more registers than the kernel starts with",
           {"warpgroups", "m_tiles", "token_tile", "min_blocks"},
           [s](const Config& c) {
             return std::max(loader_registers(s, c), scan_registers(s, c)) <= register_budget(threads(s, c), c.at("min_blocks"));
           }},
          {"accumulators, fragments and features exceed the registers of a thread",
           {"warpgroups", "m_tiles", "token_tile", "min_blocks"},
           [s](const Config& c) { return needed_registers(s, c) <= consumer_registers(s, c); }},
          {fmt::format("shared memory of min_blocks blocks exceeds {} KiB of a multiprocessor, or {} KiB per block",
                       device.shared_per_multiprocessor / 1024, device.shared_per_block / 1024),
           {"token_tile", "stages", "prefetch", "min_blocks"},
           [s, device](const Config& c) {
             const std::int64_t bytes = shared_bytes(s, c);
             return bytes <= device.shared_per_block && c.at("min_blocks") * (bytes + reserved_shared) <= device.shared_per_multiprocessor;
           }},
          {"there is no more work than blocks", {"warpgroups", "m_tiles", "min_blocks", "blocks"}, [s](const Config& c) {
             return c.at("blocks") == 0 || scans(s) || works(s, c) > c.at("blocks") * c.at("min_blocks");
           }}};
}

}  // namespace

Space UpdateStateTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Constraint> constraints = hopper_constraints(s, device, "warpgroups");
  for (Constraint& constraint : problem_constraints(s)) constraints.push_back(std::move(constraint));
  for (Constraint& constraint : device_constraints(s, device)) constraints.push_back(std::move(constraint));
  return Space(knobs(s, device), std::move(constraints));
}

std::string UpdateStateTemplate::source(const StageProblem& s, const Config& c) const {
  const UpdateStateConfig k = kernel_config(s, c);
  return fmt::format(
      "#include \"kernel_templates/sm90/{stage}.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::sm90::{stage}<phitune::sm90::UpdateStateConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile},\n"
      "      .final_state = {final_state}, .gated = {gated}, .sum = {sum}, .warpgroups = {warpgroups}, .m_tiles = {m_tiles},\n"
      "      .token_tile = {token_tile}, .stages = {stages}, .prefetch = {prefetch},\n"
      "      .consumer_registers = {consumer}, .loader_registers = {loader}{scan}}}>(args);\n"
      "}}\n",
      fmt::arg("stage", to_string(s.stage)), fmt::arg("threads", threads(s, c)), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", k.d), fmt::arg("e", k.e),
      fmt::arg("p", k.p), fmt::arg("d_tile", k.d_tile), fmt::arg("final_state", k.final_state), fmt::arg("gated", k.gated),
      fmt::arg("sum", k.sum), fmt::arg("warpgroups", k.warpgroups), fmt::arg("m_tiles", k.m_tiles), fmt::arg("token_tile", k.token_tile),
      fmt::arg("stages", k.stages), fmt::arg("prefetch", k.prefetch),
      fmt::arg("consumer", k.consumer_registers), fmt::arg("loader", k.loader_registers),
      fmt::arg("scan", scans(s) ? fmt::format(",\n      .initial_state = {}, .scan_registers = {}, .scan_depth = {}, .sliced = {}", k.initial_state,
                                              k.scan_registers, k.scan_depth, k.sliced)
                                : ""));
}

Launch UpdateStateTemplate::launch(const StageProblem& s, const Config& c) const {
  // One chunk without a final state leaves nothing to do, but a grid has at least one block.
  // (Blocks without works still scan. Beyond eight pieces for each scanning warp it pays to have more of them.)
  const std::int64_t most = std::max<std::int64_t>({1, works(s, c), (scan_pieces(s) + 31) / 32});
  const std::int64_t blocks = c.at("blocks") == 0 ? most : std::min(most, c.at("blocks") * c.at("min_blocks"));
  return {.grid = {static_cast<std::uint32_t>(blocks), 1, 1},
          .block = {static_cast<std::uint32_t>(threads(s, c)), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(shared_bytes(s, c)),
          .cooperative = scans(s)};
}

const StageTemplate& update_state_template() {
  static const UpdateStateTemplate instance;
  return instance;
}

}  // namespace phitune::sm90
