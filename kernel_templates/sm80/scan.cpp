#include "kernel_templates/sm80/scan.hpp"

#include <fmt/format.h>

namespace phitune {

namespace {

constexpr std::int64_t max_grid_y = 65535;

bool has_sum(const StageProblem& s) { return s.problem.normalisation == Normalisation::sum; }
/// Threads of a head, as scan_items counts them.
std::int64_t items(const StageProblem& s, const Config& c) {
  const std::int64_t entries = has_denominator_matrix(s.problem, s.shape.path) ? s.problem.d * s.problem.d : 0;
  return s.rows() * (state_columns(s.problem, s.shape.path) / c.at("vector")) + entries / 4;
}
bool is_materialized(const StageProblem& s) { return s.shape.fusion == Fusion::materialized; }
bool in_cores(const StageProblem& s) { return s.shape.path == Path::sm90; }
Dtype update_dtype(const StageProblem& s) { return is_materialized(s) ? Dtype::fp32 : s.shape.state; }

// 32-bit registers of one batch of updates; the kernel holds two.
std::int64_t batch_registers(const StageProblem& s, const Config& c) {
  return c.at("unroll") * (c.at("vector") * bytes(update_dtype(s)) / 4 + (s.problem.gated ? 2 : 0));
}

}  // namespace

Space ScanTemplate::space(const StageProblem& s, const DeviceInfo&) const {
  std::vector<Knob> knobs = {
      {"threads", {128, 256}, "threads per block"},
      {"unroll", {1, 2, 4, 8}, "chunks whose updates are loaded at once"},
      {"vector", {4, 8}, "columns of a row per thread"},
  };
  std::vector<Constraint> constraints = {
      {"states are stored in bf16 or fp32", {"threads"}, [s](const Config&) { return s.shape.state != Dtype::fp16; }},
      {"b * hk exceeds 65535, the grid's second dimension",
       {"threads"},
       [s](const Config&) { return s.problem.b * s.problem.hk <= max_grid_y; }},
      {"two batches of updates in flight need more than 128 registers",
       {"unroll", "vector"},
       [s](const Config& c) { return 2 * batch_registers(s, c) <= 128; }},
      {"more chunks loaded at once than there are",
       {"unroll"},
       [s](const Config& c) { return c.at("unroll") == 1 || c.at("unroll") <= s.chunks(); }},
  };
  return Space(std::move(knobs), std::move(constraints));
}

std::string ScanTemplate::source(const StageProblem& s, const Config& c) const {
  return fmt::format(
      "#include \"kernel_templates/sm80/scan.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}) phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::scan<phitune::ScanConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile}, .rows = {rows},\n"
      "      .state = phitune::Storage::{state}, .update = phitune::Storage::{update}, .gated = {gated}, .sum = {sum},\n"
      "      .z_in_update = {z_in_update}, .initial_state = {initial}, .final_state = {final},\n"
      "      .threads = {threads}, .unroll = {unroll}, .vector = {vector}{cores}}}>(args);\n"
      "}}\n",
      fmt::arg("d", s.problem.d), fmt::arg("e", s.problem.e), fmt::arg("p", s.problem.p), fmt::arg("d_tile", s.shape.d_tile),
      fmt::arg("rows", s.rows()), fmt::arg("state", to_string(s.shape.state)), fmt::arg("update", to_string(update_dtype(s))),
      fmt::arg("gated", s.problem.gated), fmt::arg("sum", has_sum(s)), fmt::arg("z_in_update", is_materialized(s)),
      fmt::arg("initial", s.problem.initial_state), fmt::arg("final", s.problem.final_state), fmt::arg("threads", c.at("threads")),
      fmt::arg("unroll", c.at("unroll")), fmt::arg("vector", c.at("vector")), fmt::arg("cores", in_cores(s) ? ", .cores = true" : ""));
}

Launch ScanTemplate::launch(const StageProblem& s, const Config& c) const {
  const std::int64_t threads = c.at("threads");
  return {.grid = {static_cast<std::uint32_t>((items(s, c) + threads - 1) / threads), static_cast<std::uint32_t>(s.problem.b * s.problem.hk), 1},
          .block = {static_cast<std::uint32_t>(threads), 1, 1},
          .dynamic_shared_bytes = 0};
}

const StageTemplate& scan_template() {
  static const ScanTemplate instance;
  return instance;
}

}  // namespace phitune
