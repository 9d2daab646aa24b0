#include "kernel_templates/sm80/expand.hpp"

#include <limits>

#include <fmt/format.h>

#include "kernel_templates/sm80/expand_config.cuh"
#include "kernel_templates/storage.hpp"

namespace phitune {

namespace {

ExpandConfig kernel_config(const StageProblem& s, const Config& c, bool key) {
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .d_tile = static_cast<int>(s.shape.d_tile),
          .input = storage_of(s.problem.dtype),
          .state = storage_of(s.shape.state),
          .key = key,
          .gated = key && s.problem.gated,
          .normalised = key && s.problem.normalisation == Normalisation::sum,
          .threads = static_cast<int>(c.at("threads")),
          .tokens = static_cast<int>(c.at("tokens"))};
}

std::int64_t blocks(const StageProblem& s, const Config& c, bool key) {
  const std::int64_t heads = s.problem.b * (key ? s.problem.hk : s.problem.hq);
  const std::int64_t tiles = (s.chunks() * s.shape.chunk + c.at("tokens") - 1) / c.at("tokens");
  return heads * tiles * expand_layout(kernel_config(s, c, key)).row_blocks;
}

}  // namespace

Space ExpandTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Knob> knobs = {{"threads", {128, 256}, "threads per block"}, {"tokens", {8, 16, 32, 64}, "tokens per block"}};
  std::vector<Constraint> constraints = {
      {"states are stored in bf16 or fp32", {"threads"}, [s](const Config&) { return s.shape.state != Dtype::fp16; }},
      {"fewer tokens than threads side by side: some would have nothing to write",
       {"threads", "tokens"},
       [s, key = key_](const Config& c) {
         return c.at("tokens") == 64 || c.at("tokens") >= c.at("threads") / expand_layout(kernel_config(s, c, key)).row_threads;
       }},
      {fmt::format("shared memory exceeds {} bytes per block of the device", device.shared_per_block),
       {"threads", "tokens"},
       [s, key = key_, limit = device.shared_per_block](const Config& c) {
         return expand_layout(kernel_config(s, c, key)).shared_bytes <= limit;
       }},
      {"more than 2^31 - 1 blocks", {"threads", "tokens"}, [s, key = key_](const Config& c) {
         return blocks(s, c, key) <= std::numeric_limits<std::int32_t>::max();
       }}};
  return Space(std::move(knobs), std::move(constraints));
}

std::string ExpandTemplate::source(const StageProblem& s, const Config& c) const {
  const ExpandConfig k = kernel_config(s, c, key_);
  return fmt::format(
      "#include \"kernel_templates/sm80/expand.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}) phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::expand<phitune::ExpandConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile},\n"
      "      .input = phitune::Storage::{input}, .state = phitune::Storage::{state}, .key = {key}, .gated = {gated},\n"
      "      .normalised = {normalised}, .threads = {threads}, .tokens = {tokens}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", k.threads), fmt::arg("d", k.d), fmt::arg("e", k.e), fmt::arg("p", k.p), fmt::arg("d_tile", k.d_tile),
      fmt::arg("input", to_string(s.problem.dtype)), fmt::arg("state", to_string(s.shape.state)), fmt::arg("key", k.key),
      fmt::arg("gated", k.gated), fmt::arg("normalised", k.normalised), fmt::arg("tokens", k.tokens));
}

Launch ExpandTemplate::launch(const StageProblem& s, const Config& c) const {
  const ExpandConfig k = kernel_config(s, c, key_);
  return {.grid = {static_cast<std::uint32_t>(blocks(s, c, key_)), 1, 1},
          .block = {static_cast<std::uint32_t>(k.threads), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(expand_layout(k).shared_bytes)};
}

const StageTemplate& expand_key_template() {
  static const ExpandTemplate instance(true);
  return instance;
}

const StageTemplate& expand_query_template() {
  static const ExpandTemplate instance(false);
  return instance;
}

}  // namespace phitune
