#include "kernel_templates/sm80/attention.hpp"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "kernel_templates/sm80/attention_config.cuh"

namespace phitune {

namespace {

// The driver reserves this much shared memory per resident block.
constexpr std::int64_t reserved_shared = 1024;

Storage storage(Dtype dtype) { return dtype == Dtype::bf16 ? Storage::bf16 : dtype == Dtype::fp16 ? Storage::fp16 : Storage::fp32; }

bool is_quadratic(const StageProblem& s) { return s.shape.fusion == Fusion::quadratic; }
Dtype output_dtype(const StageProblem& s) { return is_quadratic(s) ? s.problem.dtype : s.shape.partial; }
std::int64_t chunk_of(const StageProblem& s) { return is_quadratic(s) ? s.problem.t : s.shape.chunk; }

/// Tokens of the longest chunk, rounded up to a power of two.
std::int64_t covering(const StageProblem& s) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::min(chunk_of(s), s.problem.t))));
}

AttentionConfig kernel_config(const StageProblem& s, const Config& c) {
  const auto knob = [&c](std::string_view name) { return static_cast<int>(c.at(name)); };
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .input = storage(s.problem.dtype),
          .output = storage(output_dtype(s)),
          .gated = s.problem.gated,
          .sum = s.problem.normalisation == Normalisation::sum,
          .complete = is_quadratic(s),
          .warps = knob("warps"),
          .m_tiles = knob("m_tiles"),
          .key_tile = knob("key_tile"),
          .stages = knob("stages"),
          .q_registers = c.at("q_registers") != 0};
}

std::int64_t shared_bytes(const StageProblem& s, const Config& c) { return attention_shared(kernel_config(s, c)).bytes; }

/// Registers a thread cannot do without: output, Q, scores (twice when they run ahead), weights, sums, gates, V and addresses.
std::int64_t registers(const StageProblem& s, const Config& c) {
  const std::int64_t m = c.at("m_tiles"), output = m * s.problem.e / 2;
  const std::int64_t q = c.at("q_registers") ? m * s.problem.d / 4 : 4 * m;
  const std::int64_t scores = output < 128 ? 16 * m : 8 * m;
  const std::int64_t operands = s.problem.dtype == Dtype::bf16 ? 4 * m + 4 : 8 * m + 8;
  const std::int64_t rows = (s.problem.normalisation == Normalisation::sum ? 2 * m : 0) + (s.problem.gated ? 4 * m : 0);
  return output + q + scores + operands + rows + 40;
}

}  // namespace

std::vector<Knob> key_knobs(const std::string& stages) {
  return {{"key_tile", {32, 64, 128}, "keys per pipeline stage"},
          {stages, {1, 2, 3}, "pipeline stages of keys and values in shared memory"},
          {"q_registers", {0, 1}, "whether a warp keeps its queries in registers", {"reread", "held"}}};
}

std::vector<Constraint> key_constraints(const StageProblem& s, const DeviceInfo& device, const std::string& stages,
                                        const std::function<std::int64_t(const Config&)>& shared) {
  return {{"the key tile exceeds the chunk twice over",
           {"key_tile"},
           [s](const Config& c) { return c.at("key_tile") <= std::max<std::int64_t>(32, covering(s)); }},
          {"more pipeline stages than the chunk has key tiles",
           {"key_tile", stages},
           [s, stages](const Config& c) { return c.at(stages) == 1 || (c.at(stages) - 1) * c.at("key_tile") < covering(s); }},
          {"queries this narrow fit in registers: reading them again only costs",
           {"m_tiles", "q_registers"},
           [s](const Config& c) { return c.at("q_registers") != 0 || c.at("m_tiles") * s.problem.d >= 128; }},
          {"output, scores and queries exceed 255 registers per thread",
           {"m_tiles", "q_registers"},
           [s](const Config& c) { return registers(s, c) <= 255; }},
          {"the resident blocks asked for exceed the multiprocessor's registers",
           {"warps", "m_tiles", "q_registers", "min_blocks"},
           [s, device](const Config& c) {
             return registers(s, c) * c.at("warps") * 32 * c.at("min_blocks") <= device.registers_per_multiprocessor;
           }},
          {"shared memory exceeds what the device gives a block",
           {"warps", "m_tiles", "key_tile", stages, "q_registers"},
           [shared, device](const Config& c) { return shared(c) <= device.shared_per_block; }},
          {"the resident blocks asked for exceed the multiprocessor's shared memory",
           {"warps", "m_tiles", "key_tile", stages, "q_registers", "min_blocks"},
           [shared, device](const Config& c) {
             return (shared(c) + reserved_shared) * c.at("min_blocks") <= device.shared_per_multiprocessor;
           }}};
}

Space AttentionTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Knob> knobs = {{"warps", {4, 8}, "warps per block"}, {"m_tiles", {1, 2}, "16-row tiles of queries per warp"}};
  std::ranges::move(key_knobs("stages"), std::back_inserter(knobs));
  knobs.push_back({"min_blocks", {1, 2, 3}, "resident blocks per multiprocessor that the compiler leaves registers for"});
  std::vector<Constraint> constraints = {
      {"b * hq exceeds 65535, the grid's third dimension", {"warps"}, [s](const Config&) { return s.problem.b * s.problem.hq <= 65535; }},
      {"the block's query rows exceed the chunk twice over", {"warps", "m_tiles"}, [s](const Config& c) {
         return c.at("warps") * c.at("m_tiles") * 16 <= std::max<std::int64_t>(64, covering(s));
       }}};
  std::ranges::move(key_constraints(s, device, "stages", [s](const Config& c) { return shared_bytes(s, c); }),
                    std::back_inserter(constraints));
  return Space(std::move(knobs), std::move(constraints));
}

std::string AttentionTemplate::source(const StageProblem& s, const Config& c) const {
  return fmt::format(
      "#include \"kernel_templates/sm80/attention.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks}) phitune_kernel(const __grid_constant__ phitune::Args args) "
      "{{\n"
      "  phitune::attention<phitune::AttentionConfig{{.d = {d}, .e = {e}, .p = {p}, .input = phitune::Storage::{input},\n"
      "      .output = phitune::Storage::{output}, .gated = {gated}, .sum = {sum}, .complete = {complete}, .warps = {warps},\n"
      "      .m_tiles = {m_tiles}, .key_tile = {key_tile}, .stages = {stages}, .q_registers = {q_registers}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", c.at("warps") * 32), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", s.problem.d),
      fmt::arg("e", s.problem.e), fmt::arg("p", s.problem.p), fmt::arg("input", to_string(s.problem.dtype)),
      fmt::arg("output", to_string(output_dtype(s))), fmt::arg("gated", s.problem.gated),
      fmt::arg("sum", s.problem.normalisation == Normalisation::sum), fmt::arg("complete", is_quadratic(s)),
      fmt::arg("warps", c.at("warps")), fmt::arg("m_tiles", c.at("m_tiles")), fmt::arg("key_tile", c.at("key_tile")),
      fmt::arg("stages", c.at("stages")), fmt::arg("q_registers", c.at("q_registers") != 0));
}

Launch AttentionTemplate::launch(const StageProblem& s, const Config& c) const {
  const std::int64_t rows = attention_rows(kernel_config(s, c));
  const std::int64_t tiles = (chunk_of(s) + rows - 1) / rows;
  return {.grid = {static_cast<std::uint32_t>(tiles * s.chunks()), 1, static_cast<std::uint32_t>(s.problem.b * s.problem.hq)},
          .block = {static_cast<std::uint32_t>(c.at("warps") * 32), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(shared_bytes(s, c))};
}

const StageTemplate& attention_template() {
  static const AttentionTemplate instance;
  return instance;
}

}  // namespace phitune
