#include "kernel_templates/sm90/attend_query.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kernel_templates/sm90/attend_query_config.cuh"
#include "kernel_templates/sm90/hopper.hpp"

namespace phitune::sm90 {

namespace {

bool has_sum(const StageProblem& s) { return s.problem.normalisation == Normalisation::sum; }
std::int64_t threads(const Config& c) { return (c.at("warpgroups") + 1) * 128; }
std::int64_t block_rows(const Config& c) { return c.at("warpgroups") * c.at("m_tiles") * 64; }

std::int64_t works(const StageProblem& s, const Config& c) {
  return s.problem.b * s.problem.hq * s.chunks() * ((s.shape.chunk + block_rows(c) - 1) / block_rows(c));
}

// Addresses of the copies of a tile of keys, which are unrolled, and loop state.
std::int64_t loader_registers(const StageProblem& s) {
  return std::max<std::int64_t>(40, (8 + (s.problem.d + s.problem.e) * 3 / 8 + 7) / 8 * 8);
}

// What the warpgroups that multiply may have once the loading one has given its share away.
std::int64_t consumer_registers(const StageProblem& s, const Config& c) {
  const std::int64_t pool = (c.at("warpgroups") + 1) * register_budget(threads(c), c.at("min_blocks"));
  return std::min(most_registers, (pool - loader_registers(s)) / c.at("warpgroups") / 8 * 8);
}

// The larger of what the two phases need beside the accumulators. With the state: two batches of fragments, features of this group's last
// tile and the next's, scalars. With keys: scores, packed weights, and the queries' fragments where they stay in registers.
std::int64_t needed_registers(const StageProblem& s, const Config& c) {
  const std::int64_t m_tiles = c.at("m_tiles");
  const std::int64_t state = m_tiles * (2 * c.at("batch") * 4 + 2 * s.shape.d_tile + 2 * (2 + s.problem.p - 1));
  const std::int64_t keys = m_tiles * (tile_keys / 2 + tile_keys / 4 + s.problem.d / 4);
  // Addresses, scalars and loop state; the more fragments, the fewer of them are kept twice.
  const std::int64_t others = m_tiles > 1 ? 20 + 2 * c.at("batch") : 32;
  return m_tiles * state_columns(s.problem) / 2 + std::max(state, keys) + others;
}

// What decides about shared memory; the rest of a config may not be known yet.
AttendQueryConfig layout_config(const StageProblem& s, const Config& c) {
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .d_tile = static_cast<int>(s.shape.d_tile),
          .gated = s.problem.gated,
          .normalised = has_sum(s),
          .warpgroups = static_cast<int>(c.at("warpgroups")),
          .m_tiles = static_cast<int>(c.at("m_tiles")),
          .steps = static_cast<int>(c.at("steps")),
          .batch = 1,
          .stages = static_cast<int>(c.at("stages")),
          .overlap = false,
          .query_tiles = static_cast<int>(c.at("query_tiles")),
          .consumer_registers = 0,
          .loader_registers = 0};
}

AttendQueryConfig kernel_config(const StageProblem& s, const Config& c) {
  AttendQueryConfig k = layout_config(s, c);
  k.batch = static_cast<int>(c.at("batch"));
  k.overlap = c.at("overlap") != 0;
  k.consumer_registers = static_cast<int>(consumer_registers(s, c));
  k.loader_registers = static_cast<int>(loader_registers(s));
  return k;
}

std::vector<Knob> knobs() {
  return {{"warpgroups", {1, 2, 3}, "warpgroups that multiply; one more loads"},
          {"m_tiles", {1, 2}, "64-row query tiles per warpgroup"},
          {"steps", {4, 8, 12, 16}, "k16 steps of the state per stage of the ring"},
          {"batch", {1, 2, 4}, "k16 steps of phi(q) that are formed while the batch before is multiplied"},
          {"stages", {2, 3, 4, 6}, "stages of the ring in shared memory"},
          {"overlap", {0, 1}, "whether a tile's product with V and the scores of the next tile are in flight together"},
          {"query_tiles", {1, 2}, "tiles of queries in shared memory: with 2, the next work's come while this one's are used"},
          {"min_blocks", {1, 2, 3}, "blocks per multiprocessor that the registers must allow; as many share the works"}};
}

std::vector<Constraint> problem_constraints(const StageProblem& s) {
  return {{"a walk that overlaps holds two tiles of keys when it waits for a third",
           {"stages", "overlap"},
           [](const Config& c) { return c.at("overlap") == 0 || c.at("stages") >= 3; }},
          {"a block has more query rows than a chunk has tokens",
           {"warpgroups", "m_tiles"},
           [s](const Config& c) { return block_rows(c) <= std::max<std::int64_t>(64, std::min(s.shape.chunk, s.problem.t)); }},
          {"two query tiles of a warpgroup overlap each other, not their tiles of keys",
           {"m_tiles", "overlap"},
           [](const Config& c) { return c.at("m_tiles") == 1 || c.at("overlap") == 0; }},
          {"more than 2^31 - 1 pieces of work", {"warpgroups", "m_tiles"}, [s](const Config& c) {
             return works(s, c) <= std::numeric_limits<std::int32_t>::max();
           }}};
}

std::vector<Constraint> device_constraints(const StageProblem& s, const DeviceInfo& device) {
  return {{"the loading threads need more registers than the kernel starts with",
           {"warpgroups", "min_blocks"},
           [s](const Config& c) { return loader_registers(s) <= register_budget(threads(c), c.at("min_blocks")); }},
          {"accumulators, and fragments or weights, exceed the registers of a thread",
           {"warpgroups", "m_tiles", "batch", "overlap", "min_blocks"},
           [s](const Config& c) { return needed_registers(s, c) <= consumer_registers(s, c); }},
          {fmt::format("shared memory of min_blocks blocks exceeds {} KiB of a multiprocessor, or {} KiB per block",
                       device.shared_per_multiprocessor / 1024, device.shared_per_block / 1024),
           {"warpgroups", "m_tiles", "steps", "stages", "query_tiles", "min_blocks"},
           [s, device](const Config& c) {
             const std::int64_t bytes = attend_query_layout(layout_config(s, c)).shared_bytes;
             return bytes <= device.shared_per_block && c.at("min_blocks") * (bytes + reserved_shared) <= device.shared_per_multiprocessor;
           }}};
}

}  // namespace

Space AttendQueryTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Constraint> constraints = hopper_constraints(s, device, "warpgroups");
  for (Constraint& constraint : state_product_constraints(s)) constraints.push_back(std::move(constraint));
  for (Constraint& constraint : problem_constraints(s)) constraints.push_back(std::move(constraint));
  for (Constraint& constraint : device_constraints(s, device)) constraints.push_back(std::move(constraint));
  std::vector<Knob> all = knobs();
  all.push_back({"blocks",
                 {0, std::max(1, device.multiprocessors)},
                 "0: a block for every piece of work; else that many times min_blocks share them"});
  constraints.push_back({"there is no more work than blocks", {"warpgroups", "m_tiles", "min_blocks", "blocks"}, [s](const Config& c) {
                           return c.at("blocks") == 0 || works(s, c) > c.at("blocks") * c.at("min_blocks");
                         }});
  constraints.push_back({"a block with one piece of work has no next queries", {"query_tiles", "blocks"}, [](const Config& c) {
                           return c.at("query_tiles") == 1 || c.at("blocks") != 0;
                         }});
  return Space(std::move(all), std::move(constraints));
}

std::string AttendQueryTemplate::source(const StageProblem& s, const Config& c) const {
  const AttendQueryConfig k = kernel_config(s, c);
  return fmt::format(
      "#include \"kernel_templates/sm90/attend_query.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "  phitune::sm90::attend_query<phitune::sm90::AttendQueryConfig{{.d = {d}, .e = {e}, .p = {p}, .d_tile = {d_tile},\n"
      "      .gated = {gated}, .normalised = {normalised}, .warpgroups = {warpgroups}, .m_tiles = {m_tiles}, .steps = {steps}, .batch = {batch},\n"
      "      .stages = {stages}, .overlap = {overlap}, .query_tiles = {query_tiles},\n"
      "      .consumer_registers = {consumer}, .loader_registers = {loader}}}>(args);\n"
      "}}\n",
      fmt::arg("threads", threads(c)), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", k.d), fmt::arg("e", k.e),
      fmt::arg("p", k.p), fmt::arg("d_tile", k.d_tile), fmt::arg("gated", k.gated), fmt::arg("normalised", k.normalised),
      fmt::arg("warpgroups", k.warpgroups), fmt::arg("m_tiles", k.m_tiles), fmt::arg("steps", k.steps), fmt::arg("batch", k.batch), fmt::arg("stages", k.stages),
      fmt::arg("overlap", k.overlap), fmt::arg("query_tiles", k.query_tiles), fmt::arg("consumer", k.consumer_registers),
      fmt::arg("loader", k.loader_registers));
}

Launch AttendQueryTemplate::launch(const StageProblem& s, const Config& c) const {
  const AttendQueryLayout layout = attend_query_layout(kernel_config(s, c));
  const std::int64_t blocks = c.at("blocks") == 0 ? works(s, c) : std::min(works(s, c), c.at("blocks") * c.at("min_blocks"));
  return {.grid = {static_cast<std::uint32_t>(blocks), 1, 1},
          .block = {static_cast<std::uint32_t>(layout.threads), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(layout.shared_bytes)};
}

const StageTemplate& attend_query_template() {
  static const AttendQueryTemplate instance;
  return instance;
}

}  // namespace phitune::sm90
