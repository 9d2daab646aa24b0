#include "kernel_templates/sm80/gates.hpp"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "kernel_templates/sm80/gates_config.cuh"

namespace phitune {

namespace {

GatesConfig gates_config(const Config& c) {
  return {.threads = static_cast<int>(c.at("threads")),
          .items = static_cast<int>(c.at("items")),
          .heads = static_cast<int>(c.at("heads")),
          .segments = static_cast<int>(c.at("segments"))};
}
std::int64_t tokens_of(const Config& c) { return c.at("threads") / c.at("heads") * c.at("items"); }

std::int64_t chunk_of(const StageProblem& s) { return s.shape.chunk == 0 ? s.problem.t : s.shape.chunk; }

}  // namespace

Space GatesTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  const std::int64_t length = std::min(chunk_of(s), s.problem.t);
  const auto covering = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(length)));
  std::vector<Knob> knobs = {
      {"threads", {64, 128, 256, 512, 1024}, "threads per block"},
      {"items", {1, 2, 4, 8}, "consecutive tokens of a thread"},
      {"heads", {1, 2, 4, 8}, "kv heads per block: several are read as they lie side by side, and turned in shared memory"},
      {"segments", {1, 2, 4, 8, 16, 32}, "blocks of a chunk, each of which adds up what lies before its own tokens"},
  };
  std::vector<Constraint> constraints = {
      {"b or hk exceeds 65535, a grid dimension",
       {"threads"},
       [s](const Config&) { return s.problem.b <= 65535 && s.problem.hk <= 65535; }},
      {"heads does not divide hk", {"heads"}, [s](const Config& c) { return s.problem.hk % c.at("heads") == 0; }},
      {fmt::format("shared memory exceeds {} KiB per block", device.shared_per_block / 1024),
       {"threads", "items", "heads", "segments"},
       [device](const Config& c) { return gates_layout(gates_config(c)).shared_bytes <= device.shared_per_block; }},
      {"a head has no whole warps", {"threads", "heads"}, [](const Config& c) { return c.at("threads") >= 32 * c.at("heads"); }},
      {"the block's tokens exceed the chunk twice over",
       {"threads", "items", "heads"},
       [covering](const Config& c) { return tokens_of(c) <= std::max<std::int64_t>(64, covering); }},
      {"a segment is shorter than the block's tokens",
       {"threads", "items", "heads", "segments"},
       [length](const Config& c) { return c.at("segments") == 1 || tokens_of(c) * c.at("segments") <= length; }},
      {"whole chunks are blocks enough for every multiprocessor",
       {"heads", "segments"},
       [s, device](const Config& c) {
         return c.at("segments") == 1 || s.chunks() * (s.problem.hk / c.at("heads")) * s.problem.b < device.multiprocessors;
       }},
      {"a segment takes more than 32 passes of the block",
       {"threads", "items", "heads", "segments"},
       [length](const Config& c) { return tokens_of(c) * c.at("segments") * 32 >= std::min<std::int64_t>(length, 32 * 8192); }},
  };
  return Space(std::move(knobs), std::move(constraints));
}

std::string GatesTemplate::source(const StageProblem&, const Config& c) const {
  return fmt::format(
      "#include \"kernel_templates/sm80/gates.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}) phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::gates<phitune::GatesConfig{{.threads = {threads}, .items = {items}, .heads = {heads}, .segments = {segments}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", c.at("threads")), fmt::arg("items", c.at("items")), fmt::arg("heads", c.at("heads")),
      fmt::arg("segments", c.at("segments")));
}

Launch GatesTemplate::launch(const StageProblem& s, const Config& c) const {
  const GatesConfig config = gates_config(c);
  return {.grid = {static_cast<std::uint32_t>(s.chunks() * config.segments), static_cast<std::uint32_t>(s.problem.hk / config.heads),
                   static_cast<std::uint32_t>(s.problem.b)},
          .block = {static_cast<std::uint32_t>(config.threads), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(gates_layout(config).shared_bytes)};
}

const StageTemplate& gates_template() {
  static const GatesTemplate instance;
  return instance;
}

}  // namespace phitune
