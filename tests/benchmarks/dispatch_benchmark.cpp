// The dispatcher's look-up, the only part of it on the hot path: exact, nearest and not found, by the size of the table, and by threads.
#include <benchmark/benchmark.h>

#include <vector>

#include "harness/dispatch/tuned_table.hpp"

namespace {

using phitune::Problem;
using phitune::TunedPlan;
using phitune::TunedTable;

// Families of twenty shapes each, as suites with axes leave them.
std::vector<TunedPlan> tuned_plans(std::int64_t count) {
  std::vector<TunedPlan> plans;
  for (std::int64_t i = 0; i < count; ++i) {
    TunedPlan plan;
    plan.plan.shape = phitune::PlanShape::parse("expand_mma c256 d_tile8 state_bf16 partial_bf16");
    Problem& problem = plan.plan.problem;
    problem.t = 1024 << (i % 5);
    problem.b = 1 + (i / 5) % 4;
    problem.hk = problem.hq = 8;
    const std::int64_t family = i / 20;
    problem.d = 16 << (family % 4);
    problem.e = 16 << (family / 4 % 4);
    problem.gated = family / 16 % 2 == 0;
    problem.layout = family / 32 % 2 == 0 ? phitune::Layout::bthd : phitune::Layout::bhtd;
    problem.dtype = family / 64 % 2 == 0 ? phitune::Dtype::bf16 : phitune::Dtype::fp16;
    plans.push_back(plan);
  }
  return plans;
}

void look_up(benchmark::State& state, phitune::Why expected, void (*change)(Problem&)) {
  const TunedTable table(tuned_plans(state.range(0)));
  std::vector<Problem> asked;
  for (const TunedPlan& plan : table.plans()) {
    asked.push_back(plan.plan.problem);
    change(asked.back());
    if (table.find(asked.back()).why != expected) {
      state.SkipWithError("the table does not answer as this benchmark expects");
      return;
    }
  }
  // Sizes are powers of two, so the next problem costs a mask.
  std::size_t i = 0;
  const std::size_t mask = asked.size() - 1;
  for (auto _ : state) benchmark::DoNotOptimize(table.find(asked[i++ & mask]));
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK_CAPTURE(look_up, exact, phitune::Why::exact, [](Problem&) {})->Arg(16)->Arg(128)->Arg(1024);
BENCHMARK_CAPTURE(look_up, nearest, phitune::Why::nearest, [](Problem& problem) { problem.t += 3; })->Arg(16)->Arg(128)->Arg(1024);
BENCHMARK_CAPTURE(look_up, none, phitune::Why::builtin, [](Problem& problem) { problem.p = 4; })->Arg(16)->Arg(128)->Arg(1024);
BENCHMARK_CAPTURE(look_up, exact_threads, phitune::Why::exact, [](Problem&) {})->Arg(128)->ThreadRange(1, 4);

}  // namespace

BENCHMARK_MAIN();
