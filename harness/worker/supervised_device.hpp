// A device in a process of its own: a candidate that crashes, hangs or damages it ends that process, never the sweep.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "harness/device/device.hpp"

namespace phitune {

struct WorkerOptions {
  std::filesystem::path program = "/proc/self/exe";  // understands `worker` as the phitune binary does
  std::vector<std::string> arguments = {"worker"};
  double deadline_ms = 0;       // > 0: how long any trial may take; 0: from what has been seen
  int openings = 9;             // tries to open a device that was there before, 0.2, 0.4, 0.8 ... s apart, until it is given up
  double first_pause_ms = 200;  // before the second try
};

/// The contract is Device's, and this: whatever ends the worker process, or leaves its device in doubt, is the outcome of the trial in
/// flight (launch_failed; timed_out when it was silent too long), and the next trial runs in a new process.
///
/// A verdict that came from a process which had run other candidates before is only a suspicion: an earlier candidate may have damaged
/// memory silently, or used something up. So a trial that ended its process, damaged its device, gave a wrong result or was refused by the
/// driver there is run again, alone in a fresh process, and that verdict counts. take_incidents() tells who was guilty and who was not.
///
/// Throws DeviceLost when the device cannot be opened again.
class SupervisedDevice : public Device {
 public:
  /// Starts the first worker and opens `name` in it. Throws what open_device throws there.
  SupervisedDevice(std::string name, Use use, WorkerOptions options = {});
  ~SupervisedDevice() override;

  [[nodiscard]] const DeviceInfo& info() const override;
  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override;
  std::vector<Result> run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                const MeasurePolicy& policy) override;
  [[nodiscard]] std::vector<Incident> take_incidents() override;

  /// Processes started so far.
  [[nodiscard]] int workers() const;
  /// Of the process that is there now; -1 when there is none. For tests, which kill it.
  [[nodiscard]] int worker_id() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace phitune
