// A device that times by arithmetic instead of running anything: every stage is right, and its time follows from its config alone.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness/device/device.hpp"
#include "search/text.hpp"

namespace phitune::testing_support {

inline DeviceInfo synthetic_info() {
  DeviceInfo info;
  info.name = "NVIDIA Synthetic";
  info.uuid = "GPU-synthetic";
  info.compute_capability = 90;
  info.architecture = "sm_90a";
  info.multiprocessors = 132;
  info.memory_bytes = 80'000'000'000;
  info.l2_bytes = 50'000'000;
  info.shared_per_block = 227 * 1024;
  info.shared_per_multiprocessor = 228 * 1024;
  info.copy_tbps = 4;
  info.matrix_tflops = 700;
  return info;
}

inline Result timed(double ms, double error = 1e-3) {
  Result result;
  result.timing = Timing{.samples_ms = std::vector<double>(10, ms), .median_ms = ms, .throttle_reasons = {}, .sm_clocks_mhz = {}};
  result.errors = Errors{.relative_l2 = error, .worst_row = error, .tolerance = 1e-2, .rows_checked = 10, .bitwise_repeatable = true};
  return result;
}

/// Between 1 and 2 ms; equal on every machine.
inline double synthetic_ms(const PlanStage& stage) {
  return 1 + static_cast<double>(fnv1a(stage.problem.key() + stage.config.text()) % 1000) / 1000;
}

class SyntheticDevice : public Device {
 public:
  [[nodiscard]] const DeviceInfo& info() const override { return info_; }

  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override {
    stages_run.push_back(stage.stage);
    policies.push_back(policy);
    return answer ? answer(stage) : timed(synthetic_ms(stage.stage));
  }

  std::vector<Result> run_plans(const Problem& /*problem*/, std::span<const std::vector<ExecutableStage>> plans,
                                const MeasurePolicy& /*policy*/) override {
    ++rounds;
    std::vector<Result> results;
    for (const std::vector<ExecutableStage>& plan : plans) {
      double ms = 0;
      for (const ExecutableStage& stage : plan) ms += synthetic_ms(stage.stage);
      results.push_back(timed(ms));
    }
    return results;
  }

  std::function<Result(const ExecutableStage&)> answer;  // instead of the arithmetic
  std::vector<PlanStage> stages_run;
  std::vector<MeasurePolicy> policies;
  int rounds = 0;

 private:
  DeviceInfo info_ = synthetic_info();
};

}  // namespace phitune::testing_support
