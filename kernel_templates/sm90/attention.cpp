#include "kernel_templates/sm90/attention.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernel_templates/sm90/attention_config.cuh"
#include "kernel_templates/sm90/hopper.hpp"
#include "kernel_templates/storage.hpp"

namespace phitune::sm90 {

namespace {

bool is_quadratic(const StageProblem& s) { return s.shape.fusion == Fusion::quadratic; }
std::int64_t chunk_of(const StageProblem& s) { return is_quadratic(s) ? s.problem.t : s.shape.chunk; }
std::int64_t threads(const Config& c) { return (c.at("warpgroups") + 1) * 128; }

// Addresses of the copies of a tile, which are unrolled, and loop state.
std::int64_t loader_registers(const StageProblem& s) { return (40 + (s.problem.d + s.problem.e) / 4 + 7) / 8 * 8; }

// What the warpgroups that multiply may have once the loading one has given its share away.
std::int64_t consumer_registers(const StageProblem& s, const Config& c) {
  const std::int64_t pool = (c.at("warpgroups") + 1) * register_budget(threads(c), c.at("min_blocks"));
  return std::min(most_registers, (pool - loader_registers(s)) / c.at("warpgroups") / 8 * 8);
}

// Output, scores, queries, packed weights; weights being formed, gates and addresses.
std::int64_t needed_registers(const StageProblem& s) {
  return s.problem.e / 2 + attention_keys / 2 + s.problem.d / 4 + attention_keys / 4 + 48;
}

AttentionConfig kernel_config(const StageProblem& s, const Config& c) {
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .output = is_quadratic(s) ? Storage::bf16 : storage_of(s.shape.partial),
          .gated = s.problem.gated,
          .sum = s.problem.normalisation == Normalisation::sum,
          .quadratic = is_quadratic(s),
          .warpgroups = static_cast<int>(c.at("warpgroups")),
          .stages = static_cast<int>(c.at("stages")),
          .consumer_registers = static_cast<int>(consumer_registers(s, c)),
          .loader_registers = static_cast<int>(loader_registers(s))};
}

}  // namespace

Space AttentionTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Knob> knobs = {{"warpgroups", {1, 2, 3}, "warpgroups of 64 query rows; one more loads"},
                             {"stages", {2, 3, 4, 6}, "tiles of 64 keys in shared memory"},
                             {"min_blocks", {1, 2, 3}, "blocks per multiprocessor that the registers must allow"}};
  std::vector<Constraint> constraints = {
      {"wgmma and setmaxnreg need a GPU of compute capability 9.0 (sm_90a)",
       {"warpgroups"},
       [capability = device.compute_capability](const Config&) { return capability / 10 == 9; }},
      {"the sm90 path multiplies in bf16", {"warpgroups"}, [s](const Config&) { return s.problem.dtype == Dtype::bf16; }},
      {"b * hq exceeds 65535, the grid's third dimension",
       {"warpgroups"},
       [s](const Config&) { return s.problem.b * s.problem.hq <= 65535; }},
      {"a block has more query rows than a chunk has tokens",
       {"warpgroups"},
       [s](const Config& c) { return c.at("warpgroups") == 1 || (c.at("warpgroups") - 1) * 64 < std::min(chunk_of(s), s.problem.t); }},
      {"more stages than the chunk has tiles of keys",
       {"stages"},
       [s](const Config& c) { return c.at("stages") == 2 || (c.at("stages") - 1) * attention_keys < std::min(chunk_of(s), s.problem.t); }},
      {"the loading threads need more registers than the kernel starts with",
       {"warpgroups", "min_blocks"},
       [s](const Config& c) { return loader_registers(s) <= register_budget(threads(c), c.at("min_blocks")); }},
      {"output, scores, queries and weights exceed the registers of a thread",
       {"warpgroups", "min_blocks"},
       [s](const Config& c) { return needed_registers(s) <= consumer_registers(s, c); }},
      {fmt::format("shared memory of min_blocks blocks exceeds {} KiB of a multiprocessor, or {} KiB per block",
                   device.shared_per_multiprocessor / 1024, device.shared_per_block / 1024),
       {"warpgroups", "stages", "min_blocks"},
       [s, device](const Config& c) {
         const std::int64_t bytes = attention_layout(kernel_config(s, c)).shared_bytes;
         return bytes <= device.shared_per_block && c.at("min_blocks") * (bytes + reserved_shared) <= device.shared_per_multiprocessor;
       }}};
  return Space(std::move(knobs), std::move(constraints));
}

std::string AttentionTemplate::source(const StageProblem& s, const Config& c) const {
  const AttentionConfig k = kernel_config(s, c);
  const Dtype output = is_quadratic(s) ? s.problem.dtype : s.shape.partial;
  return fmt::format(
      "#include \"kernel_templates/sm90/attention.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::sm90::attention<phitune::sm90::AttentionConfig{{.d = {d}, .e = {e}, .p = {p},\n"
      "      .output = phitune::Storage::{output}, .gated = {gated}, .sum = {sum}, .quadratic = {quadratic},\n"
      "      .warpgroups = {warpgroups}, .stages = {stages}, .consumer_registers = {consumer}, .loader_registers = {loader}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", threads(c)), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", k.d), fmt::arg("e", k.e),
      fmt::arg("p", k.p), fmt::arg("output", to_string(output)), fmt::arg("gated", k.gated), fmt::arg("sum", k.sum),
      fmt::arg("quadratic", k.quadratic), fmt::arg("warpgroups", k.warpgroups), fmt::arg("stages", k.stages),
      fmt::arg("consumer", k.consumer_registers), fmt::arg("loader", k.loader_registers));
}

Launch AttentionTemplate::launch(const StageProblem& s, const Config& c) const {
  const AttentionConfig k = kernel_config(s, c);
  const std::int64_t rows = attention_rows(k), tiles = (chunk_of(s) + rows - 1) / rows;
  return {.grid = {static_cast<std::uint32_t>(tiles * s.chunks()), 1, static_cast<std::uint32_t>(s.problem.b * s.problem.hq)},
          .block = {static_cast<std::uint32_t>(threads(c)), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(attention_layout(k).shared_bytes)};
}

const StageTemplate& attention_template() {
  static const AttentionTemplate instance;
  return instance;
}

}  // namespace phitune::sm90
