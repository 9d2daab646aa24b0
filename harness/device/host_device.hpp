// The CPU as a device: the same templates, compiled by the host's C++ compiler and run thread by thread in the emulator
// (kernel_templates/common/host/executor.hpp), checked by the same oracle.
#pragma once

#include <memory>
#include <string>

#include "harness/device/device.hpp"

namespace phitune {

/// The contract is Device's. Every candidate runs twice, each time in a process of its own and the second time with another schedule of
/// warps and lanes, so that a race shows as `unstable`; a crash is launch_failed with the buffer that was overrun. info() has `emulated`
/// set: times are those of the emulation and say nothing about any GPU. Only one device may be in use by a process at a time.
class HostDevice : public Device {
 public:
  /// Throws Error: no_device when there is no C++ compiler, bad_input for an architecture that it does not know.
  explicit HostDevice(const std::string& architecture, const HostOptions& options, Use use = Use::measure);
  ~HostDevice() override;

  [[nodiscard]] const DeviceInfo& info() const override;
  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override;
  [[nodiscard]] bool runs_machine_code() const override { return false; }
  /// A stage that is too large for emulation, pruned with the estimate and the mend; such a stage need not be compiled.
  [[nodiscard]] std::optional<Trial> recall(const PlanStage& stage, const MeasurePolicy& policy) const override;
  std::vector<Result> run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                const MeasurePolicy& policy) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What the emulation of one launch takes on this machine, roughly: by the operations of the matrix units, by bytes, and by threads.
[[nodiscard]] double emulation_s(const PlanStage& stage);

/// The CPU as `phitune devices` lists it; its name is "host".
[[nodiscard]] DeviceInfo host_info(const std::string& architecture);

}  // namespace phitune
