#include "kernel_templates/sm80/gates.hpp"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

namespace phitune {

namespace {

std::int64_t chunk_of(const StageProblem& s) { return s.shape.chunk == 0 ? s.problem.t : s.shape.chunk; }

}  // namespace

Space GatesTemplate::space(const StageProblem& s, const DeviceInfo&) const {
  const std::int64_t length = std::min(chunk_of(s), s.problem.t);
  const auto covering = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(length)));
  std::vector<Knob> knobs = {
      {"threads", {64, 128, 256, 512, 1024}, "threads per block"},
      {"items", {1, 2, 4, 8}, "consecutive tokens of a thread"},
  };
  std::vector<Constraint> constraints = {
      {"b or hk exceeds 65535, a grid dimension",
       {"threads"},
       [s](const Config&) { return s.problem.b <= 65535 && s.problem.hk <= 65535; }},
      {"the block's tokens exceed the chunk twice over",
       {"threads", "items"},
       [covering](const Config& c) { return c.at("threads") * c.at("items") <= std::max<std::int64_t>(64, covering); }},
      {"a chunk takes more than 32 passes of the block",
       {"threads", "items"},
       [length](const Config& c) { return c.at("threads") * c.at("items") * 32 >= std::min<std::int64_t>(length, 32 * 8192); }},
  };
  return Space(std::move(knobs), std::move(constraints));
}

std::string GatesTemplate::source(const StageProblem&, const Config& c) const {
  return fmt::format(
      "#include \"kernel_templates/sm80/gates.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}) phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::gates<phitune::GatesConfig{{.threads = {threads}, .items = {items}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", c.at("threads")), fmt::arg("items", c.at("items")));
}

Launch GatesTemplate::launch(const StageProblem& s, const Config& c) const {
  const auto threads = static_cast<std::uint32_t>(c.at("threads"));
  return {
      .grid = {static_cast<std::uint32_t>(s.chunks()), static_cast<std::uint32_t>(s.problem.hk), static_cast<std::uint32_t>(s.problem.b)},
      .block = {threads, 1, 1},
      .dynamic_shared_bytes = 2 * (threads / 32) * 8};
}

const StageTemplate& gates_template() {
  static const GatesTemplate instance;
  return instance;
}

}  // namespace phitune
