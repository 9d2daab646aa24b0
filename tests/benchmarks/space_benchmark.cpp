// How long it takes to enumerate spaces and to work with them: sweeps make one space per stage problem, thousands in all.
#include <benchmark/benchmark.h>

#include <random>

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
