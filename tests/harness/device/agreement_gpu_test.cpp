// Every stage of every strategy and path on a GPU and on the CPU: the same source, config and inputs are judged by the same oracle, and
// their errors, which are made of the roundings that a kernel does, must be those of one another.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>

#include "harness/device/gpu_device.hpp"
#include "harness/device/host_device.hpp"
#include "harness/tune/candidate.hpp"
#include "harness/tune/stage_search.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

// Products are summed in another order by tensor cores than by the emulator, and exp2 differs by 2 ulp: far below the roundings to bf16.
constexpr double kRelative = 0.05, kAbsolute = 1e-6;

class Agreement : public testing::Test {
 protected:
  void SetUp() override {
    const DeviceList list = list_devices();
    if (list.devices.empty()) GTEST_SKIP() << "needs a GPU: " << list.reason;
    gpu = std::make_unique<GpuDevice>(0, Use::verify);
    cache = std::filesystem::temp_directory_path() / ("phitune_agreement_" + std::to_string(::getpid()));
    host = std::make_unique<HostDevice>(gpu->info().architecture, HostOptions{.cache_directory = cache, .limit_s = 60}, Use::verify);
    compiler = std::make_unique<Compiler>(CompilerOptions{.architecture = gpu->info().architecture, .cache_directory = {}, .threads = 0});
  }
  void TearDown() override {
    compiler.reset(), host.reset(), gpu.reset();
    if (!cache.empty()) std::filesystem::remove_all(cache);
  }

  void compare(const StageProblem& stage, const Config& config) {
    SCOPED_TRACE(testing::Message() << stage.key() << " [" << config.text() << "]");
    const Result on_gpu = try_candidate(*gpu, *compiler, stage, config).result,
                 on_cpu = try_candidate(*host, *compiler, stage, config).result;
    ASSERT_EQ(on_gpu.outcome, Outcome::ok) << on_gpu.reason;
    ASSERT_EQ(on_cpu.outcome, Outcome::ok) << on_cpu.reason;
    ASSERT_TRUE(on_gpu.errors && on_cpu.errors);
    const double a = on_gpu.errors->relative_l2, b = on_cpu.errors->relative_l2;
    std::printf("%-13s %-5s error %.4e on the GPU, %.4e on the CPU  [%s]\n", std::string(to_string(stage.stage)).c_str(),
                std::string(to_string(stage.path)).c_str(), a, b, config.text().c_str());
    EXPECT_EQ(on_gpu.errors->rows_checked, on_cpu.errors->rows_checked);
    EXPECT_LE(std::abs(a - b), kRelative * std::max(a, b) + kAbsolute);
  }

  std::unique_ptr<GpuDevice> gpu;
  std::unique_ptr<HostDevice> host;
  std::unique_ptr<Compiler> compiler;
  std::filesystem::path cache;
};

// Two and a half chunks, a ragged end, two query heads for one kv head, states handed in and back; configs are drawn by a printed seed.
TEST_F(Agreement, EveryStageErrsOnAGpuAsOnTheCpu) {
  const std::uint64_t seed = std::random_device{}();
  std::printf("configs drawn by seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  std::size_t stages = 0;
  for (const char* text : {"b1 t170 hq2 hk1 d64 p2 bf16 gated", "b1 t170 hq2 hk1 d32 p3 fp16 gated none initial final"}) {
    const Problem problem = Problem::parse(text);
    for (const PlanShape& shape : plan_shapes(problem).shapes) {
      // One chunk size and one feature tile of each strategy and path: the others run the same lines.
      const bool state = shape.fusion != Fusion::quadratic;
      if (device_refuses(shape, gpu->info()) || shape.fusion == Fusion::materialized || (state && (shape.chunk != 64 || shape.d_tile != 8)))
        continue;
      for (const StageProblem& stage : stages_of(problem, shape)) {
        if (stage.path == Path::library) continue;
        const Space space = stage_template(stage.stage, stage.path).space(stage, gpu->info());
        if (space.size() == 0) continue;
        compare(stage, space.at(space.sample(1, rng).front()));
        ++stages;
      }
    }
  }
  EXPECT_GE(stages, 12u) << "too few stages to speak of all";
}

}  // namespace
}  // namespace phitune
