#include "kernel_templates/sm80/update_state.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "kernel_templates/common/tspow.cuh"

namespace phitune {

namespace {

constexpr std::int64_t max_grid_y = 65535;
constexpr std::int64_t max_grid_x = 2147483647;
// The system keeps this much of a multiprocessor's shared memory per block.
constexpr std::int64_t reserved_shared = 1024;
// Token tiles whose weights update_scan has in shared memory.
constexpr std::int64_t weight_slots = 4;

/// Whether the kernel is update_scan: a block has all chunks of its head.
bool scans(const StageProblem& s) { return s.stage == Stage::update_scan; }
bool has_sum(const StageProblem& s) { return s.problem.normalisation == Normalisation::sum; }
// An fp32 state takes its products in tf32, which has the range of fp32.
bool is_packed(const StageProblem& s) { return s.shape.state == Dtype::bf16; }

std::int64_t threads(const Config& c) { return c.at("warps") * 32; }
std::int64_t rows_per_block(const Config& c) { return c.at("warps") * c.at("m_tiles") * 16; }
std::int64_t row_blocks(const StageProblem& s, const Config& c) { return (s.rows() + rows_per_block(c) - 1) / rows_per_block(c); }

// The last chunk's update is needed for the final state alone.
std::int64_t updated_chunks(const StageProblem& s) {
  return s.problem.final_state ? s.chunks() : std::max<std::int64_t>(1, s.chunks() - 1);
}

// Of one head.
std::int64_t grid_blocks(const StageProblem& s, const Config& c) { return row_blocks(s, c) * (scans(s) ? 1 : updated_chunks(s)); }

// Tokens that a block has, from its first tile to its last.
std::int64_t walked_tokens(const StageProblem& s) { return scans(s) ? s.problem.t : std::min(s.shape.chunk, s.problem.t); }

// Of all that depends on the config alone.
std::int64_t tile_shared(const StageProblem& s, const Config& c) {
  const std::int64_t copies = s.problem.gated && is_packed(s) && s.problem.p > 1 ? 2 : 1;
  const std::int64_t weights = s.problem.gated && scans(s) ? weight_slots * 4 : 0;
  return c.at("token_tile") * (2 * (c.at("stages") * (s.problem.d + s.problem.e) + 2 * copies * s.problem.d) + weights);
}

std::int64_t dynamic_shared(const StageProblem& s, const Config& c) {
  const std::int64_t tile = c.at("token_tile");
  const std::int64_t weights = s.problem.gated && !scans(s) ? (s.shape.chunk + tile - 1) / tile * tile * 4 : 0;
  return tile_shared(s, c) + weights;
}

// Whether the rows of a warp share the tiles of their features.
bool share_tiles(const StageProblem& s, const Config& c) {
  return tspow::power(s.shape.d_tile, static_cast<int>(s.problem.p)) % (16 * c.at("m_tiles")) == 0;
}

// Registers for where each row's features are, when the rows of a warp do not share them.
std::int64_t address_registers(const StageProblem& s, const Config& c) {
  if (share_tiles(s, c)) return 0;
  const bool tile_shares = tspow::power(s.shape.d_tile, static_cast<int>(s.problem.p)) % 16 == 0;
  return c.at("m_tiles") * (tile_shares ? s.problem.p + 1 : 2 * s.problem.p);
}

// Registers of what update_scan knows besides: where it is on its walk, gates that are on their way, what its rows are multiplied by, and
// where they are in states of the user's.
std::int64_t scan_registers(const StageProblem& s, const Config& c) {
  if (!scans(s)) return 0;
  const std::int64_t given_states = s.problem.initial_state || s.problem.final_state ? 16 : 0;
  return (s.problem.gated ? 16 : 6) + given_states + (share_tiles(s, c) ? 1 : 2 * c.at("m_tiles"));
}

// A fit to what the compiler uses: beyond accumulators and A fragments it keeps addresses of V (by e) and, unrolled, a second step's
// factors.
std::int64_t estimated_registers(const StageProblem& s, const Config& c) {
  const std::int64_t m_tiles = c.at("m_tiles");
  const std::int64_t accumulators = m_tiles * 4 * (s.problem.e / 8 + (has_sum(s) ? 1 : 0));
  const std::int64_t unrolled = (c.at("unroll") / 32 - 1) * (8 + 4 * m_tiles);
  const std::int64_t tf32 = is_packed(s) ? 0 : 16;
  return accumulators + 8 * m_tiles + s.problem.e * 7 / 16 + address_registers(s, c) + scan_registers(s, c) + unrolled + tf32 + 36;
}

std::int64_t register_limit(const Config& c, const DeviceInfo& device) {
  return std::min<std::int64_t>(255, device.registers_per_multiprocessor / (threads(c) * c.at("min_blocks")) / 8 * 8);
}

// A block may be taller than the state only when there is no smaller one.
bool mostly_busy(const StageProblem& s, const Config& c) {
  const bool smallest = c.at("warps") == 4 && c.at("m_tiles") == 1;
  return smallest || 4 * s.rows() >= 3 * row_blocks(s, c) * rows_per_block(c);
}

/// Fields of the kernel's configuration that update_state leaves as they are.
std::string scan_fields(const StageProblem& s) {
  if (!scans(s)) return "";
  return fmt::format(",\n      .scans = true, .initial_state = {}, .final_state = {}", s.problem.initial_state, s.problem.final_state);
}

std::vector<Knob> knobs() {
  return {
      {"warps", {4, 6, 8}, "warps per block, each with rows of its own"},
      {"m_tiles", {1, 2, 4}, "16-row tiles per warp"},
      {"token_tile", {32, 64, 128}, "tokens between barriers"},
      {"stages", {2, 3, 4}, "token tiles in shared memory"},
      {"unroll", {32, 64}, "tokens of the inner loop's body"},
      {"min_blocks", {1, 2, 3}, "blocks per multiprocessor that the registers must allow"},
  };
}

std::vector<Constraint> problem_constraints(const StageProblem& s) {
  return {
      {"an fp16 problem stores its states in fp32",
       {"warps"},
       [s](const Config&) { return s.problem.dtype == Dtype::bf16 || s.shape.state == Dtype::fp32; }},
      {"states are stored in bf16 or fp32", {"warps"}, [s](const Config&) { return s.shape.state != Dtype::fp16; }},
      {"b * hk exceeds 65535, the grid's second dimension",
       {"warps"},
       [s](const Config&) { return s.problem.b * s.problem.hk <= max_grid_y; }},
      {"row blocks * chunks exceed 2147483647, the grid's first dimension",
       {"warps", "m_tiles"},
       [s](const Config& c) { return grid_blocks(s, c) <= max_grid_x; }},
      {"more than a quarter of the warps would have no rows", {"warps", "m_tiles"}, [s](const Config& c) { return mostly_busy(s, c); }},
      {"a token tile is longer than the chunk",
       {"token_tile"},
       [s](const Config& c) { return c.at("token_tile") <= std::max<std::int64_t>(32, std::min(s.shape.chunk, s.problem.t)); }},
      {"more stages than token tiles",
       {"token_tile", "stages"},
       [s](const Config& c) { return c.at("stages") == 2 || (c.at("stages") - 1) * c.at("token_tile") < walked_tokens(s); }},
      {"the inner loop is longer than a token tile",
       {"token_tile", "unroll"},
       [](const Config& c) { return c.at("unroll") <= c.at("token_tile"); }},
  };
}

std::vector<Constraint> device_constraints(const StageProblem& s, const DeviceInfo& device) {
  return {
      {"accumulators and fragments exceed the registers of a thread",
       {"m_tiles", "unroll", "warps", "min_blocks"},
       [s, device](const Config& c) { return estimated_registers(s, c) <= register_limit(c, device); }},
      {fmt::format("shared memory exceeds {} KiB, the most that a block may have", device.shared_per_block / 1024),
       {"token_tile", "stages"},
       [s, device](const Config& c) { return dynamic_shared(s, c) <= device.shared_per_block; }},
      {fmt::format("shared memory of min_blocks blocks exceeds {} KiB of a multiprocessor", device.shared_per_multiprocessor / 1024),
       {"token_tile", "stages", "min_blocks"},
       [s, device](const Config& c) {
         return c.at("min_blocks") * (dynamic_shared(s, c) + reserved_shared) <= device.shared_per_multiprocessor;
       }},
  };
}

}  // namespace

Space UpdateStateTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Constraint> constraints = problem_constraints(s);
  for (Constraint& constraint : device_constraints(s, device)) constraints.push_back(std::move(constraint));
  return Space(knobs(), std::move(constraints));
}

std::string UpdateStateTemplate::source(const StageProblem& s, const Config& c) const {
  return fmt::format(
      "#include \"kernel_templates/sm80/{stage}.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::{stage}<phitune::UpdateStateConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile}, .rows = {rows},\n"
      "      .shared_bytes = {shared}, .dtype = phitune::Storage::{dtype}, .math = phitune::Math::{math},\n"
      "      .state = phitune::Storage::{state}, .gated = {gated}, .sum = {sum}, .warps = {warps}, .m_tiles = {m_tiles},\n"
      "      .token_tile = {token_tile}, .stages = {stages}, .unroll = {unroll}{scan}}}>(args);\n"
      "}}\n",
      fmt::arg("stage", to_string(s.stage)), fmt::arg("threads", threads(c)), fmt::arg("min_blocks", c.at("min_blocks")),
      fmt::arg("d", s.problem.d), fmt::arg("e", s.problem.e), fmt::arg("p", s.problem.p), fmt::arg("d_tile", s.shape.d_tile),
      fmt::arg("rows", s.rows()), fmt::arg("shared", tile_shared(s, c)), fmt::arg("dtype", to_string(s.problem.dtype)),
      fmt::arg("math", is_packed(s) ? "bf16" : "tf32"), fmt::arg("state", to_string(s.shape.state)), fmt::arg("gated", s.problem.gated),
      fmt::arg("sum", has_sum(s)), fmt::arg("warps", c.at("warps")), fmt::arg("m_tiles", c.at("m_tiles")),
      fmt::arg("token_tile", c.at("token_tile")), fmt::arg("stages", c.at("stages")), fmt::arg("unroll", c.at("unroll")),
      fmt::arg("scan", scan_fields(s)));
}

Launch UpdateStateTemplate::launch(const StageProblem& s, const Config& c) const {
  return {.grid = {static_cast<std::uint32_t>(grid_blocks(s, c)), static_cast<std::uint32_t>(s.problem.b * s.problem.hk), 1},
          .block = {static_cast<std::uint32_t>(threads(c)), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(dynamic_shared(s, c))};
}

const StageTemplate& update_state_template() {
  static const UpdateStateTemplate instance;
  return instance;
}

}  // namespace phitune
