// A real GPU: loads candidates, checks them against the oracle and times them, in this process.
#pragma once

#include <memory>
#include <string>

#include "harness/device/device.hpp"

namespace phitune {

/// The contract is Device's. A kernel that breaks the CUDA context (an illegal address) is launch_failed, one that never ends timed_out.
/// Neither can be got rid of from this process: damaged() is true from then on and every later call throws DeviceLost. To go on after such
/// a candidate is what SupervisedDevice (harness/worker) is for.
class GpuDevice : public Device {
 public:
  /// Measures the device's rates, unless it is only to verify. Throws Error(no_device) when there is no such GPU.
  explicit GpuDevice(int ordinal, Use use = Use::measure);
  ~GpuDevice() override;

  [[nodiscard]] const DeviceInfo& info() const override;
  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override;
  std::vector<Result> run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                const MeasurePolicy& policy) override;
  [[nodiscard]] bool damaged() const override;

  /// The cold-cache self-test: a read of a buffer that fits the L2 cache, straight after itself and in a regime, in ms.
  struct Coldness {
    double hot_ms = 0, cold_ms = 0;
    bool works = false;
  };
  /// `works` must be true for flush and rotation, and false for hot, which is the flush switched off.
  [[nodiscard]] Coldness coldness(Regime::Cache by);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace phitune
