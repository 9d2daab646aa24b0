#include "kernel_templates/sm90/half_attention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "kernel_templates/sm90/attention_kernel.hpp"
#include "kernel_templates/sm90/hopper.hpp"

namespace phitune::sm90 {

namespace {

bool halves(const Config& c) { return c.at("halves") != 0; }

// Scores, weights of two steps, two query tiles' accumulators and queries, those of the scores in flight, addresses.
std::int64_t needed_registers(const StageProblem& s) { return 32 + 2 * 32 + (s.problem.e + 8) + 3 * s.problem.d / 4 + 24; }

}  // namespace

std::vector<Constraint> half_attention_constraints(const StageProblem& s, const DeviceInfo& device) {
  return {{"in fp16 are sums of the quadratic form, of degree 2 or 4, with d and e of 16 or 32",
           {"halves"},
           [s](const Config& c) { return !halves(c) || has_weighed_keys(s.problem, s.shape.fusion, s.path); }},
          {"in fp16 warpgroups have two query tiles, one set of scores and keys of their own, and all blocks run at once",
           {"halves", "key_groups", "m_tiles", "score_sets", "min_blocks", "blocks"},
           [](const Config& c) {
             return !halves(c) || (c.at("key_groups") == 1 && c.at("m_tiles") == 2 && c.at("score_sets") == 1 && c.at("min_blocks") == 1 &&
                                   c.at("blocks") != 0);
           }},
          {"in fp16 the next tile is waited for before the last one is given back: the ring has three stages or more",
           {"halves", "stages"},
           [](const Config& c) { return !halves(c) || c.at("stages") >= 3; }},
          {"in fp16, scores, weights and accumulators exceed the registers of a thread",
           {"halves", "warpgroups", "min_blocks"},
           [s](const Config& c) { return !halves(c) || needed_registers(s) <= attention_consumer_registers(c); }},
          {fmt::format("in fp16, shared memory exceeds {} KiB per block", device.shared_per_block / 1024),
           {"halves", "warpgroups", "min_blocks", "stages", "query_tiles"},
           [s, device](const Config& c) {
             return !halves(c) || half_attention_layout(half_attention_config(s, c)).shared_bytes <= device.shared_per_block;
           }}};
}

HalfAttentionConfig half_attention_config(const StageProblem& s, const Config& c) {
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .gated = s.problem.gated,
          .warpgroups = static_cast<int>(c.at("warpgroups")),
          .stages = static_cast<int>(c.at("stages")),
          .query_tiles = static_cast<int>(c.at("query_tiles")),
          .consumer_registers = static_cast<int>(attention_consumer_registers(c)),
          .loader_registers = static_cast<int>(attention_loader_registers)};
}

std::string half_attention_source(const StageProblem& s, const Config& c) {
  const HalfAttentionConfig k = half_attention_config(s, c);
  const std::optional<AttentionDeal> dealt = attention_deal(s, c);
  return fmt::format(
      "#include \"kernel_templates/sm90/half_attention.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, 1)\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "{dealt}"
      "  phitune::sm90::half_attention<phitune::sm90::HalfAttentionConfig{{.d = {d}, .e = {e}, .p = {p}, .gated = {gated},\n"
      "      .warpgroups = {warpgroups}, .stages = {stages}, .query_tiles = {query_tiles}, .consumer_registers = {consumer},\n"
      "      .loader_registers = {loader}}}{deal}>(args);\n"
      "}}\n",
      fmt::arg("threads", half_attention_layout(k).threads), fmt::arg("d", k.d), fmt::arg("e", k.e), fmt::arg("p", k.p), fmt::arg("gated", k.gated),
      fmt::arg("warpgroups", k.warpgroups), fmt::arg("stages", k.stages), fmt::arg("query_tiles", k.query_tiles),
      fmt::arg("consumer", k.consumer_registers), fmt::arg("loader", k.loader_registers), fmt::arg("dealt", dealt ? dealt->source("Dealt") : ""),
      fmt::arg("deal", dealt ? ", phitune::sm90::Exchanged<Dealt>" : ""));
}

Launch half_attention_launch(const StageProblem& s, const Config& c) {
  const HalfAttentionLayout layout = half_attention_layout(half_attention_config(s, c));
  Launch launch = attention_launch(s, c);
  launch.block[0] = static_cast<std::uint32_t>(layout.threads);
  launch.dynamic_shared_bytes = static_cast<std::uint32_t>(layout.shared_bytes);
  launch.cooperative = true;
  return launch;
}

}  // namespace phitune::sm90
