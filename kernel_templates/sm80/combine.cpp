#include "kernel_templates/sm80/combine.hpp"

#include <fmt/format.h>

namespace phitune {

Space CombineTemplate::space(const StageProblem& s, const DeviceInfo&) const {
  std::vector<Knob> knobs = {
      {"threads", {128, 256, 512}, "threads per block"},
      {"unroll", {1, 2, 4}, "tokens of a thread"},
  };
  std::vector<Constraint> constraints = {
      {"b or hq exceeds 65535, a grid dimension",
       {"threads"},
       [s](const Config&) { return s.problem.b <= 65535 && s.problem.hq <= 65535; }},
      {"a thread has more tokens than there are", {"unroll"}, [s](const Config& c) { return c.at("unroll") <= s.problem.t; }},
  };
  return Space(std::move(knobs), std::move(constraints));
}

std::string CombineTemplate::source(const StageProblem& s, const Config& c) const {
  return fmt::format(
      "#include \"kernel_templates/sm80/combine.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}) phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::combine<phitune::CombineConfig{{.e = {e}, .output = phitune::Storage::{output}, .partial = phitune::Storage::{partial},\n"
      "      .gated = {gated}, .sum = {sum}, .threads = {threads}, .unroll = {unroll}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", c.at("threads")), fmt::arg("unroll", c.at("unroll")), fmt::arg("e", s.problem.e),
      fmt::arg("output", to_string(s.problem.dtype)), fmt::arg("partial", to_string(s.shape.partial)), fmt::arg("gated", s.problem.gated),
      fmt::arg("sum", s.problem.normalisation == Normalisation::sum));
}

Launch CombineTemplate::launch(const StageProblem& s, const Config& c) const {
  const std::int64_t tokens = c.at("threads") / (s.problem.e / 8) * c.at("unroll");
  return {.grid = {static_cast<std::uint32_t>((s.problem.t + tokens - 1) / tokens), static_cast<std::uint32_t>(s.problem.hq),
                   static_cast<std::uint32_t>(s.problem.b)},
          .block = {static_cast<std::uint32_t>(c.at("threads")), 1, 1},
          .dynamic_shared_bytes = 0};
}

const StageTemplate& combine_template() {
  static const CombineTemplate instance;
  return instance;
}

}  // namespace phitune
