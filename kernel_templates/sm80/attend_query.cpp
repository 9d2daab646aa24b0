#include "kernel_templates/sm80/attend_query.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "kernel_templates/sm80/attend_query_config.cuh"
#include "kernel_templates/sm80/attention.hpp"
#include "kernel_templates/sm80/state_product.hpp"
#include "kernel_templates/storage.hpp"

namespace phitune {

namespace {

AttendQueryConfig kernel_config(const StageProblem& s, const Config& c) {
  // Constraints are shown a part of a config: of one of the two parts of the kernel.
  const auto knob = [&c](std::string_view name) { return c.has(name) ? static_cast<int>(c.at(name)) : 0; };
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .d_tile = static_cast<int>(s.shape.d_tile),
          .input = storage_of(s.problem.dtype),
          .state = storage_of(s.shape.state),
          .gated = s.problem.gated,
          .normalised = s.problem.normalisation == Normalisation::sum,
          .warps = knob("warps"),
          .m_tiles = knob("m_tiles"),
          .steps = knob("steps"),
          .stages = knob("stages"),
          .key_tile = knob("key_tile"),
          .key_stages = knob("key_stages"),
          .q_registers = knob("q_registers") != 0};
}

}  // namespace

// Shared memory and registers are taken by turns, so each part's constraints are what it asks for by itself.
Space AttendQueryTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Knob> knobs = state_product_knobs({1, 2});
  std::ranges::move(key_knobs("key_stages"), std::back_inserter(knobs));
  std::vector<Constraint> constraints = state_product_constraints(
      s, device, [s](const Config& c) { return std::int64_t{state_product_layout(state_part(kernel_config(s, c))).shared_bytes}; });
  std::ranges::move(key_constraints(s, device, "key_stages",
                                    [s](const Config& c) { return std::int64_t{attention_shared(key_part(kernel_config(s, c))).bytes}; }),
                    std::back_inserter(constraints));
  return Space(std::move(knobs), std::move(constraints));
}

std::string AttendQueryTemplate::source(const StageProblem& s, const Config& c) const {
  const AttendQueryConfig k = kernel_config(s, c);
  return fmt::format(
      "#include \"kernel_templates/sm80/attend_query.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::attend_query<phitune::AttendQueryConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile},\n"
      "      .input = phitune::Storage::{input}, .state = phitune::Storage::{state}, .gated = {gated}, .normalised = {normalised},\n"
      "      .warps = {warps}, .m_tiles = {m_tiles}, .steps = {steps}, .stages = {stages},\n"
      "      .key_tile = {key_tile}, .key_stages = {key_stages}, .q_registers = {q_registers}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", k.warps * 32), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", k.d), fmt::arg("e", k.e),
      fmt::arg("p", k.p), fmt::arg("d_tile", k.d_tile), fmt::arg("input", to_string(s.problem.dtype)),
      fmt::arg("state", to_string(s.shape.state)), fmt::arg("gated", k.gated), fmt::arg("normalised", k.normalised),
      fmt::arg("warps", k.warps), fmt::arg("m_tiles", k.m_tiles), fmt::arg("steps", k.steps), fmt::arg("stages", k.stages),
      fmt::arg("key_tile", k.key_tile), fmt::arg("key_stages", k.key_stages), fmt::arg("q_registers", k.q_registers));
}

Launch AttendQueryTemplate::launch(const StageProblem& s, const Config& c) const {
  const AttendQueryConfig k = kernel_config(s, c);
  return {.grid = {static_cast<std::uint32_t>(query_blocks(s, c)), 1, 1},
          .block = {static_cast<std::uint32_t>(k.warps * 32), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(attend_query_shared(k))};
}

const StageTemplate& attend_query_template() {
  static const AttendQueryTemplate instance;
  return instance;
}

}  // namespace phitune
