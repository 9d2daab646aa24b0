#include "kernel_templates/sm80/query_state.hpp"

#include <fmt/format.h>

#include "kernel_templates/sm80/query_state_config.cuh"
#include "kernel_templates/sm80/state_product.hpp"
#include "kernel_templates/storage.hpp"

namespace phitune {

namespace {

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

// With this many registers more than it needs at least, the compiler leaves nothing to be gained by asking for fewer blocks.
constexpr std::int64_t ample_registers = 48;

}  // namespace

Space QueryStateTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  const auto shared = [s](const Config& c) { return std::int64_t{query_state_layout(kernel_config(s, c)).shared_bytes}; };
  std::vector<Constraint> constraints = state_product_constraints(s, device, shared);
  constraints.push_back({"one block more per multiprocessor fits with registers to spare: its code is as good",
                         {"warps", "m_tiles", "steps", "stages", "min_blocks"},
                         [s, shared, limit = device.shared_per_multiprocessor](const Config& c) {
                           const std::int64_t more = c.at("min_blocks") + 1;
                           const bool offered =
                               more <= most_blocks && c.at("warps") * more <= most_warps && more * (shared(c) + reserved_shared) <= limit;
                           return !offered || state_product_registers(s, c) + ample_registers > register_budget(c, more);
                         }});
  return Space(state_product_knobs({1, 2, 4}), std::move(constraints));
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
  return {.grid = {static_cast<std::uint32_t>(query_blocks(s, c)), 1, 1},
          .block = {static_cast<std::uint32_t>(layout.product.threads), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(layout.shared_bytes)};
}

const StageTemplate& query_state_template() {
  static const QueryStateTemplate instance;
  return instance;
}

}  // namespace phitune
