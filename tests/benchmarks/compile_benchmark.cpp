// How many real stage kernels per second NVRTC gives with 1 and 2 threads, and how many the cache on disk serves.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "harness/compile/compiler.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

constexpr std::uint64_t kSeed = 1;
constexpr std::size_t kConfigsPerStage = 2;

/// Limits of an H100-class device: what the spaces need when there is none.
DeviceInfo h100_class() {
  DeviceInfo device;
  device.name = "H100 class";
  device.compute_capability = 90;
  device.architecture = "sm_90a";
  device.multiprocessors = 132;
  device.shared_per_block = 232448;
  device.shared_per_multiprocessor = 233472;
  return device;
}

/// A few configs of every template that the headline problem's plans use.
std::vector<std::string> stage_sources() {
  const Problem problem = Problem::parse("b1 t65536 h8 d64 p2 bf16 gated");
  std::mt19937_64 rng(kSeed);
  std::vector<std::string> sources;
  for (const char* shape : {"expand_mma c1024 d_tile8 state_bf16 partial_bf16", "quadratic"}) {
    for (const StageProblem& stage : stages_of(problem, PlanShape::parse(shape))) {
      if (stage.path == Path::library) continue;
      const StageTemplate& kernel = stage_template(stage.stage, stage.path);
      const Space space = kernel.space(stage, h100_class());
      for (const std::size_t index : space.sample(kConfigsPerStage, rng)) sources.push_back(kernel.source(stage, space.at(index)));
    }
  }
  return sources;
}

void compile_all(Compiler& compiler, const std::vector<std::string>& sources, benchmark::State& state) {
  std::vector<std::shared_future<Compiled>> futures;
  for (const std::string& source : sources) futures.push_back(compiler.compile(source));
  for (const auto& future : futures)
    if (future.get().outcome != Outcome::ok) return state.SkipWithError(future.get().reason.c_str());
}

void compile_stages(benchmark::State& state) {
  const auto sources = stage_sources();
  for (auto _ : state) {
    Compiler compiler({"sm_90a", {}, static_cast<int>(state.range(0))});
    compile_all(compiler, sources, state);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(sources.size()));
}
BENCHMARK(compile_stages)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

void serve_from_disk(benchmark::State& state) {
  std::string pattern = (std::filesystem::temp_directory_path() / "phitune-compile-benchmark-XXXXXX").string();
  const std::filesystem::path directory = mkdtemp(pattern.data());
  const auto sources = stage_sources();
  {
    Compiler fill({"sm_90a", directory, 0});
    compile_all(fill, sources, state);
  }
  for (auto _ : state) {
    Compiler compiler({"sm_90a", directory, static_cast<int>(state.range(0))});
    compile_all(compiler, sources, state);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(sources.size()));
  std::filesystem::remove_all(directory);
}
BENCHMARK(serve_from_disk)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace phitune

BENCHMARK_MAIN();
