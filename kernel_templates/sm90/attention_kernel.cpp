#include "kernel_templates/sm90/attention_kernel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "kernel_templates/sm90/hopper.hpp"
#include "kernel_templates/storage.hpp"

namespace phitune::sm90 {

namespace {

// Constraints are shown a part of a config, and each stage lacks knobs of the others.
std::int64_t knob(const Config& c, std::string_view name, std::int64_t otherwise) { return c.has(name) ? c.at(name) : otherwise; }

bool has_keys(const StageProblem& s) { return s.stage != Stage::query_state; }
bool adds_state(const StageProblem& s) { return s.stage != Stage::attention; }
bool has_knob(const StageProblem& s, std::string_view name) {
  if (name == "key_groups") return !adds_state(s);
  if (name == "steps" || name == "batch") return adds_state(s);
  return name != "score_sets" || has_keys(s);
}
bool is_complete(const StageProblem& s) { return adds_state(s) || s.shape.fusion == Fusion::quadratic; }
std::int64_t tokens(const StageProblem& s) { return s.shape.fusion == Fusion::quadratic ? s.problem.t : std::min(s.shape.chunk, s.problem.t); }
std::int64_t threads(const Config& c) { return (c.at("warpgroups") + 1) * 128; }
std::int64_t block_rows(const Config& c) { return c.at("warpgroups") / knob(c, "key_groups", 1) * c.at("m_tiles") * 64; }

std::int64_t row_blocks(const StageProblem& s, const Config& c) {
  const std::int64_t chunk = s.shape.fusion == Fusion::quadratic ? s.problem.t : s.shape.chunk;
  return (chunk + block_rows(c) - 1) / block_rows(c);
}
std::int64_t works(const StageProblem& s, const Config& c) { return s.problem.b * s.problem.hq * s.chunks() * row_blocks(s, c); }

constexpr std::int64_t loader_registers = attention_loader_registers;

// e, then eight for the denominator.
std::int64_t accumulated_columns(const StageProblem& s) { return s.problem.e + (s.problem.normalisation == Normalisation::sum ? 8 : 0); }

// What ptxas asks for to compile a product at all.
std::int64_t product_registers(const StageProblem& s) {
  const std::int64_t abreast = adds_state(s) && has_wide_rows(s) ? s.shape.d_tile : 1;
  return abreast * accumulated_columns(s) / 2 + 30;
}

// The larger of what the two phases need beside the accumulators. With the state: two batches of fragments, features of this group's last
// tile and the next's, scalars. With keys: scores, weights of two steps, queries. (Partial outputs are added when the products are done.)
std::int64_t needed_registers(const StageProblem& s, const Config& c, bool held_queries) {
  const std::int64_t m_tiles = c.at("m_tiles"), batch = knob(c, "batch", 1), score_sets = knob(c, "score_sets", 0);
  const std::int64_t accumulators = m_tiles * accumulated_columns(s) / 2;
  const std::int64_t keys =
      has_keys(s) ? score_sets * tile_keys / 2 + 2 * tile_keys / 4 + (held_queries ? m_tiles : 1) * s.problem.d / 4 : 0;
  if (!adds_state(s)) return accumulators + keys + 24;
  // (With wide rows the sums for all features of a tile instead of that many features.)
  const std::int64_t state = has_wide_rows(s) ? m_tiles * (s.shape.d_tile * s.problem.e / 2 + 16)
                                              : m_tiles * (2 * batch * 4 + 2 * s.shape.d_tile + 2 * (2 + s.problem.p - 1));
  // (Beside addresses: what ptxas was seen to need more.)
  const std::int64_t others = 20 + (score_sets == 2 ? 12 + 8 * batch : score_sets == 1 ? 2 * batch : 2 * batch * m_tiles);
  // The product with the denominator matrix, and the queries, behind the last batch.
  const std::int64_t denominators =
      has_denominator_matrix(s.problem, s.shape.path) ? m_tiles * (s.problem.d / 2 + s.problem.d / 4 + 4 * batch) + 20 - others : 0;
  return accumulators + std::max({state, keys, denominators}) + others;
}

// How long a piece of work takes, in cycles of the tensor cores: what its query tiles' products with the state cost, and with tiles of keys.
// (A product with A in registers takes 20 at least.)
std::int64_t cost(const StageProblem& s, const Config& c, AttentionPlace place) {
  constexpr std::int64_t end_of_work = 2000;
  const std::int64_t chunk = place.group / (s.problem.hq / s.problem.hk) % s.chunks();
  const std::int64_t length = s.shape.fusion == Fusion::quadratic ? s.problem.t : std::min(s.shape.chunk, s.problem.t - chunk * s.shape.chunk);
  const std::int64_t first = place.tile * block_rows(c), rows = std::min(block_rows(c), length - first);
  if (rows <= 0) return 0;
  const std::int64_t product = std::max<std::int64_t>(20, accumulated_columns(s) / 2);
  const std::int64_t state = adds_state(s) && (chunk > 0 || s.problem.initial_state) ? s.rows() / 16 * product : 0;
  const std::int64_t keys = has_keys(s) ? s.problem.d / 16 * 32 + tile_keys / 16 * product : 0;
  std::int64_t out = end_of_work;
  for (std::int64_t row = 0; row < rows; row += 64) out += state + keys * ((first + row) / tile_keys + 1);
  return out;
}

std::int64_t grid_blocks(const StageProblem& s, const Config& c) {
  return c.at("blocks") == 0 ? works(s, c) : std::min(works(s, c), c.at("blocks") * c.at("min_blocks"));
}

}  // namespace

std::int64_t attention_consumer_registers(const Config& c) {
  const std::int64_t pool = (c.at("warpgroups") + 1) * register_budget(threads(c), c.at("min_blocks"));
  return std::min(most_registers, (pool - loader_registers) / c.at("warpgroups") / 8 * 8);
}

std::optional<AttentionDeal> attention_deal(const StageProblem& s, const Config& c) {
  const auto grid = static_cast<u32>(grid_blocks(s, c));
  // (Of more rounds one is too little to matter; of several blocks on one multiprocessor the longest has it for itself in the end.)
  constexpr std::int64_t most_rounds = 100;
  if (c.at("blocks") == 0 || c.at("min_blocks") > 1 || works(s, c) > most_rounds * grid) return std::nullopt;
  const auto row_count = static_cast<u32>(row_blocks(s, c));
  std::vector<std::int64_t> costs;
  for (u32 work = 0; work < works(s, c); ++work) costs.push_back(cost(s, c, attention_place(work, row_count, grid)));
  return deal_last_rounds(costs, grid);
}

std::vector<Knob> attention_knobs(const StageProblem& s, const DeviceInfo& device) {
  std::vector<Knob> knobs = {
      {"warpgroups", {1, 2, 3}, "warpgroups that multiply; one more loads"},
      {"key_groups", {1, 2, 3}, "groups of warpgroups that share out the keys of the same rows"},
      {"m_tiles", {1, 2}, "64-row query tiles per warpgroup"},
      {"steps", {4, 8, 12, 16}, "k16 steps of the state per stage of the ring"},
      {"batch", {1, 2, 4}, "k16 steps of phi(q) that are formed while the batch before is multiplied"},
      {"stages", {2, 3, 4, 6, 8}, "stages of the ring in shared memory"},
      {"score_sets", {1, 2}, "with 2, the next scores are computed while weights are formed of these"},
      {"query_tiles", {1, 2}, "tiles of queries in shared memory: with 2, the next work's come while this one's are used"},
      {"min_blocks", {1, 2, 3}, "blocks per multiprocessor that the registers must allow; as many share the works"},
      {"blocks", {0, std::max(1, device.multiprocessors)}, "0: a block for every piece of work; else that many times min_blocks share them"}};
  std::erase_if(knobs, [s](const Knob& knob) { return !has_knob(s, knob.name); });
  return knobs;
}

std::vector<Constraint> attention_constraints(const StageProblem& s, const DeviceInfo& device) {
  std::vector<Constraint> constraints = {{"a group of warpgroups holds two tiles of keys when it waits for a third",
           {"m_tiles", "stages", "key_groups"},
           [s](const Config& c) { return !has_keys(s) || c.at("m_tiles") > 1 || c.at("stages") > 2 * knob(c, "key_groups", 1); }},
          {"a block has more query rows than a chunk has tokens",
           {"warpgroups", "key_groups", "m_tiles"},
           [s](const Config& c) { return block_rows(c) <= std::max<std::int64_t>(64, tokens(s)); }},
          {"more than 2^30 pieces of work",  // a block's next one must still be a number
           {"warpgroups", "key_groups", "m_tiles"},
           [s](const Config& c) { return works(s, c) <= std::int64_t{1} << 30; }},
          {"there is no more work than blocks",
           {"warpgroups", "key_groups", "m_tiles", "min_blocks", "blocks"},
           [s](const Config& c) { return c.at("blocks") == 0 || works(s, c) > c.at("blocks") * c.at("min_blocks"); }},
          {"a block with one piece of work has no next queries",
           {"query_tiles", "blocks"},
           [](const Config& c) { return c.at("query_tiles") == 1 || c.at("blocks") != 0; }},
          {"the loading threads, or one product, need more registers than the kernel starts with",
           {"warpgroups", "min_blocks"},
           [s](const Config& c) {
             return std::max(loader_registers, product_registers(s)) <= register_budget(threads(c), c.at("min_blocks"));
           }},
          {has_keys(s) ? "accumulators, and fragments or scores and weights, exceed the registers of a thread"
                       : "accumulators, fragments and query features exceed the registers of a thread",
           {"warpgroups", "m_tiles", "score_sets", "batch", "min_blocks"},
           [s](const Config& c) { return needed_registers(s, c, false) <= attention_consumer_registers(c); }},
          {fmt::format("shared memory of min_blocks blocks exceeds {} KiB of a multiprocessor, or {} KiB per block",
                       device.shared_per_multiprocessor / 1024, device.shared_per_block / 1024),
           {"warpgroups", "key_groups", "m_tiles", "steps", "stages", "query_tiles", "min_blocks"},
           [s, device](const Config& c) {
             const std::int64_t bytes = attention_layout(attention_config(s, c)).shared_bytes;
             return bytes <= device.shared_per_block && c.at("min_blocks") * (bytes + reserved_shared) <= device.shared_per_multiprocessor;
           }}};
  for (Constraint& constraint : constraints)
    std::erase_if(constraint.knobs, [s](const std::string& name) { return !has_knob(s, name); });
  return constraints;
}

AttentionConfig attention_config(const StageProblem& s, const Config& c) {
  return {.d = static_cast<int>(s.problem.d),
          .e = static_cast<int>(s.problem.e),
          .p = static_cast<int>(s.problem.p),
          .gated = s.problem.gated,
          .sum = s.problem.normalisation == Normalisation::sum,
          .keys = has_keys(s),
          .complete = is_complete(s),
          .partial = storage_of(s.shape.partial),
          .state = {.added = adds_state(s),
                    .d_tile = static_cast<int>(adds_state(s) ? s.shape.d_tile : 0),
                    .steps = static_cast<int>(knob(c, "steps", 0)),
                    .batch = static_cast<int>(knob(c, "batch", adds_state(s) ? 1 : 0))},
          .warpgroups = static_cast<int>(c.at("warpgroups")),
          .key_groups = static_cast<int>(knob(c, "key_groups", 1)),
          .m_tiles = static_cast<int>(c.at("m_tiles")),
          .stages = static_cast<int>(c.at("stages")),
          .score_sets = static_cast<int>(knob(c, "score_sets", 1)),
          .held_queries = c.has("score_sets") && c.has("min_blocks") && needed_registers(s, c, true) <= attention_consumer_registers(c),
          .query_tiles = static_cast<int>(c.at("query_tiles")),
          .consumer_registers = static_cast<int>(c.has("min_blocks") ? attention_consumer_registers(c) : 0),
          .loader_registers = static_cast<int>(loader_registers)};
}

std::string attention_source(const StageProblem& s, const Config& c) {
  const AttentionConfig k = attention_config(s, c);
  const std::optional<AttentionDeal> dealt = attention_deal(s, c);
  return fmt::format(
      "#include \"kernel_templates/sm90/attention.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({threads}, {min_blocks})\n"
      "    phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "{dealt}"
      "  phitune::sm90::attention<phitune::sm90::AttentionConfig{{.d = {d}, .e = {e}, .p = {p}, .gated = {gated}, .sum = {sum},\n"
      "      .keys = {keys}, .complete = {complete}, .partial = phitune::Storage::{partial},\n"
      "      .state = {{.added = {added}, .d_tile = {d_tile}, .steps = {steps}, .batch = {batch}}}, .warpgroups = {warpgroups},\n"
      "      .key_groups = {key_groups}, .m_tiles = {m_tiles}, .stages = {stages}, .score_sets = {score_sets}, .held_queries = {held},\n"
      "      .query_tiles = {query_tiles}, .consumer_registers = {consumer}, .loader_registers = {loader}}}{deal}>(args);\n"
      "}}\n",
      fmt::arg("threads", threads(c)), fmt::arg("min_blocks", c.at("min_blocks")), fmt::arg("d", k.d), fmt::arg("e", k.e),
      fmt::arg("p", k.p), fmt::arg("gated", k.gated), fmt::arg("sum", k.sum), fmt::arg("keys", k.keys),
      fmt::arg("complete", k.complete), fmt::arg("partial", to_string(s.shape.partial)), fmt::arg("added", k.state.added),
      fmt::arg("d_tile", k.state.d_tile), fmt::arg("steps", k.state.steps), fmt::arg("batch", k.state.batch), fmt::arg("warpgroups", k.warpgroups),
      fmt::arg("key_groups", k.key_groups), fmt::arg("m_tiles", k.m_tiles), fmt::arg("stages", k.stages),
      fmt::arg("score_sets", k.score_sets), fmt::arg("held", k.held_queries), fmt::arg("query_tiles", k.query_tiles),
      fmt::arg("consumer", k.consumer_registers), fmt::arg("loader", k.loader_registers), fmt::arg("dealt", dealt ? dealt->source("Dealt") : ""),
      fmt::arg("deal", dealt ? ", phitune::sm90::Exchanged<Dealt>" : ""));
}

Launch attention_launch(const StageProblem& s, const Config& c) {
  const AttentionLayout layout = attention_layout(attention_config(s, c));
  return {.grid = {static_cast<std::uint32_t>(grid_blocks(s, c)), 1, 1},
          .block = {static_cast<std::uint32_t>(layout.threads), 1, 1},
          .dynamic_shared_bytes = static_cast<std::uint32_t>(layout.shared_bytes)};
}

}  // namespace phitune::sm90
