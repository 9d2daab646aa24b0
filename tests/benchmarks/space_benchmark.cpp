// How long it takes to enumerate spaces and to work with them: sweeps make one space per stage problem, thousands in all.
#include <benchmark/benchmark.h>

#include <ctime>
#include <random>

#include "search/constraints.hpp"
#include "search/plan.hpp"
#include "search/space.hpp"
#include "search/strategy.hpp"

namespace phitune {
namespace {

// A product of values^6 points; shared memory and registers of a made-up kernel leave a part of it.
std::vector<Knob> knobs(std::int64_t values) {
  std::vector<Knob> out;
  for (const char* name : {"warps", "m_tiles", "key_tile", "stages", "steps", "min_blocks"}) {
    Knob knob{name, {}, ""};
    for (std::int64_t v = 1; v <= values; ++v) knob.values.push_back(v);
    out.push_back(std::move(knob));
  }
  return out;
}

std::vector<Constraint> constraints(std::int64_t values) {
  return {{"registers", {"warps", "m_tiles"}, [values](const Config& c) { return c.at("warps") * c.at("m_tiles") <= values * values / 2; }},
          {"shared memory",
           {"key_tile", "stages"},
           [values](const Config& c) { return c.at("key_tile") * c.at("stages") <= values * values / 2; }},
          {"steps fit the tile", {"steps", "key_tile"}, [](const Config& c) { return c.at("steps") <= c.at("key_tile"); }}};
}

void enumerate_space(benchmark::State& state) {
  const auto made = [&] { return Space(knobs(state.range(0)), constraints(state.range(0))); };
  for (auto _ : state) {
    const Space space = made();
    benchmark::DoNotOptimize(space.size());
  }
  const Space space = made();
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(space.product_size()));
  state.counters["product"] = static_cast<double>(space.product_size());
  state.counters["configs"] = static_cast<double>(space.size());
}
BENCHMARK(enumerate_space)->Arg(2)->Arg(3)->Arg(4)->Arg(8)->Arg(10)->Unit(benchmark::kMicrosecond);

// A product of 10^9 points and more under the rules of a tiled kernel: threads, registers, shared memory over five knobs, divisors, a
// conditional knob. `wide` gives the rules more to remember: the shared memory depends on seven.
Space space_of_a_billion(bool wide) {
  std::vector<Knob> knobs = {whole_numbers("block_x", 16, 256, 16),
                             powers_of_two("block_y", 1, 16),
                             whole_numbers("tile_x", 1, 16),
                             whole_numbers("tile_y", 1, 16),
                             whole_numbers("stages", 1, 8),
                             powers_of_two("vector", 1, 8),
                             whole_numbers("unroll", 1, 16),
                             one_of("cache", {"none", "l1", "shared"}),
                             whole_numbers("pad", 0, 7),
                             whole_numbers("split", 1, 5)};
  std::vector<Constraint> rules = product_at_most("threads", {knobs[0], knobs[1]}, 1024);
  for (auto& rule : product_at_most("registers", {knobs[2], knobs[3]}, 48)) rules.push_back(rule);
  for (auto& rule : product_at_most("shared memory", {knobs[0], knobs[1], knobs[2], knobs[3], knobs[4]}, 232448, 16)) rules.push_back(rule);
  if (wide) {
    const std::vector<std::string> read = {"block_x", "block_y", "tile_x", "tile_y", "stages", "cache", "pad"};
    rules.push_back({"padded tiles fit", read, [](const Config& c) {
                       const auto row = c.at("block_x") * c.at("tile_x") + (c.at("cache") == 2 ? c.at("pad") : 0);
                       return 4 * row * c.at("block_y") * c.at("tile_y") * c.at("stages") <= 65536;
                     }});
  }
  rules.push_back(divides("unrolled loops have no rest", "unroll", "tile_x"));
  rules.push_back(divides("vectors fill the row", "vector", "block_x"));
  rules.push_back(only_when("padding is of shared memory", knobs[8], {"cache"}, [](const Config& c) { return c.at("cache") == 2; }));
  return {std::move(knobs), std::move(rules)};
}

void make_space_of_a_billion(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(space_of_a_billion(state.range(0) == 1).size());
  const Space space = space_of_a_billion(state.range(0) == 1);
  state.counters["product"] = static_cast<double>(space.product_size());
  state.counters["configs"] = static_cast<double>(space.size());
  state.counters["nodes"] = static_cast<double>(space.nodes());
}
BENCHMARK(make_space_of_a_billion)->ArgName("wide")->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void sample_of_a_billion(benchmark::State& state) {
  const Space space = space_of_a_billion(false);
  std::mt19937_64 rng(1);
  for (auto _ : state)
    for (const std::size_t index : space.sample(100, rng)) benchmark::DoNotOptimize(space.at(index));
}
BENCHMARK(sample_of_a_billion)->Unit(benchmark::kMicrosecond);

void neighbours_of_a_billion(benchmark::State& state) {
  const Space space = space_of_a_billion(false);
  for (auto _ : state) benchmark::DoNotOptimize(space.neighbours(space.size() / 2));
}
BENCHMARK(neighbours_of_a_billion)->Unit(benchmark::kMicrosecond);

// One ask, and the tells that follow it, of a strategy that has been told so many trials already.
void ask_and_tell(benchmark::State& state, const std::string& name) {
  const Space space = space_of_a_billion(false);
  const auto time_of = [&](std::size_t index) {
    return 1 + static_cast<double>(index % 9973) / 9973 + static_cast<double>(index) / static_cast<double>(space.size());
  };
  for (auto _ : state) {
    const auto strategy = make_strategy(name, space, 1);
    for (std::size_t told = 0; told < static_cast<std::size_t>(state.range(0));)
      for (const std::size_t index : strategy->ask(16)) strategy->tell(index, Outcome::ok, time_of(index)), ++told;
    constexpr int asks = 20;
    const std::clock_t start = std::clock();  // CPU time: a busy machine does not count
    for (int i = 0; i < asks; ++i)
      for (const std::size_t index : strategy->ask(16)) strategy->tell(index, Outcome::ok, time_of(index));
    state.SetIterationTime(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC / asks);
  }
}
#define ASK_AND_TELL(name) \
  BENCHMARK_CAPTURE(ask_and_tell, name, #name)->ArgName("told")->Arg(1000)->Iterations(1)->UseManualTime()->Unit(benchmark::kMillisecond)
ASK_AND_TELL(informed);
ASK_AND_TELL(forest);
ASK_AND_TELL(genetic);
ASK_AND_TELL(evolution);
ASK_AND_TELL(local);
ASK_AND_TELL(annealing);
ASK_AND_TELL(random);

void find_config(benchmark::State& state) {
  const Space space(knobs(4), constraints(4));
  const Config config = space.at(space.size() / 2);
  for (auto _ : state) benchmark::DoNotOptimize(space.find(config));
}
BENCHMARK(find_config);

void hash_space(benchmark::State& state) {
  const Space space(knobs(4), constraints(4));
  for (auto _ : state) benchmark::DoNotOptimize(space.hash());
}
BENCHMARK(hash_space)->Unit(benchmark::kMicrosecond);

void ask_random(benchmark::State& state) {
  const Space space(knobs(4), constraints(4));
  for (auto _ : state) benchmark::DoNotOptimize(make_strategy("random", space, 1)->ask(16));
}
BENCHMARK(ask_random)->Unit(benchmark::kMicrosecond);

void stages_of_every_plan(benchmark::State& state) {
  const Problem problem = Problem::parse("b1 t65536 h8 d64 p2 bf16 gated");
  for (auto _ : state) {
    for (const PlanShape& shape : plan_shapes(problem).shapes) benchmark::DoNotOptimize(stages_of(problem, shape));
  }
}
BENCHMARK(stages_of_every_plan)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace phitune

BENCHMARK_MAIN();
