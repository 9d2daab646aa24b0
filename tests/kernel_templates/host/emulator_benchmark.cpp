// Speed of the CPU emulator: items are threads x instructions.
#include <benchmark/benchmark.h>

#include "kernel_templates/common/host/executor.hpp"
#include "kernel_templates/common/instructions.cuh"

namespace phitune {
namespace {

constexpr int threads = 256, repeats = 256;

template <class Step>
void run(benchmark::State& state, Step step) {
  const auto blocks = static_cast<unsigned>(state.range(0));
  for (auto _ : state) {
    host::launch({blocks, 1, 1}, {threads, 1, 1}, 16 * threads, [&] {
      for (int i = 0; i < repeats; ++i) step();
    });
  }
  state.SetItemsProcessed(state.iterations() * blocks * threads * repeats);
}

void shuffle_lanes(benchmark::State& state) {
  run(state, [] { benchmark::DoNotOptimize(shuffle_xor(1u, 1)); });
}
void load_matrices(benchmark::State& state) {
  run(state, [] {
    u32 r[4];
    ldmatrix_x4(r, shared_memory() + 16 * thread_index());
  });
}
void multiply_bf16(benchmark::State& state) {
  run(state, [] {
    float c[4] = {};
    const u32 a[4] = {}, b[2] = {};
    mma_m16n8k16_bf16(c, a, b);
  });
}
void multiply_tf32(benchmark::State& state) {
  run(state, [] {
    float c[4] = {};
    const u32 a[4] = {}, b[2] = {};
    mma_m16n8k8_tf32(c, a, b);
  });
}
void wait_for_block(benchmark::State& state) {
  run(state, [] { block_barrier(); });
}

// One block runs on one CPU thread, eight on as many as there are.
BENCHMARK(shuffle_lanes)->Arg(1)->Arg(8)->UseRealTime();
BENCHMARK(load_matrices)->Arg(1)->Arg(8)->UseRealTime();
BENCHMARK(multiply_bf16)->Arg(1)->Arg(8)->UseRealTime();
BENCHMARK(multiply_tf32)->Arg(1)->Arg(8)->UseRealTime();
BENCHMARK(wait_for_block)->Arg(1)->Arg(8)->UseRealTime();

}  // namespace
}  // namespace phitune

BENCHMARK_MAIN();
