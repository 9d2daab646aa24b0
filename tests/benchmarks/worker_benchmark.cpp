// What the worker process costs a trial: the same instant device asked directly and through its worker, with machine code of a usual size.
#include <benchmark/benchmark.h>

#include "harness/device/simulated_device.hpp"
#include "harness/worker/supervised_device.hpp"
#include "tests/harness/store/random_trials.hpp"

#include <fstream>

namespace {

phitune::ExecutableStage stage_of(std::size_t bytes) {
  const phitune::Problem problem = phitune::Problem::parse("b1 t65536 h8 d64 p2 bf16 gated");
  auto binary = std::make_shared<phitune::Binary>();
  binary->cubin.assign(bytes, 'x');
  binary->cubin_hash = std::string(64, 'a');
  const phitune::PlanShape shape = phitune::PlanShape::parse("expand_mma c1024 d_tile8 state_bf16 partial_bf16");
  return {.stage = {phitune::make_stage_problem(problem, shape, phitune::Stage::query_state), phitune::Config{}},
          .binary = std::move(binary)};
}

void run(benchmark::State& state, phitune::Device& device) {
  const phitune::ExecutableStage stage = stage_of(static_cast<std::size_t>(state.range(0)));
  phitune::MeasurePolicy policy;
  policy.target_relative_ci = 0;  // the most samples that a trial sends back
  for (auto _ : state) benchmark::DoNotOptimize(device.run_stage(stage, policy));
}

void direct(benchmark::State& state) {
  phitune::SimulatedDevice device{phitune::Simulation{}};
  run(state, device);
}

void in_worker(benchmark::State& state) {
  const phitune::testing_support::TemporaryFolder folder;
  std::ofstream(folder / "gpu.toml") << "";
  phitune::SupervisedDevice device("sim:" + (folder / "gpu.toml").string(), phitune::Use::measure, {.program = PHITUNE_BINARY});
  run(state, device);
}

BENCHMARK(direct)->Arg(50'000)->Arg(500'000)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(in_worker)->Arg(50'000)->Arg(500'000)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
