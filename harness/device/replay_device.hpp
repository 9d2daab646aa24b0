// A device that answers from the recorded trials of a real one, so that search, reports and exports run without a GPU.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "harness/device/device.hpp"
#include "harness/store/recording.hpp"

namespace phitune {

/// Runs nothing and makes up nothing: a candidate gets the result that the real device gave for exactly the same stage problem and config
/// (or the same stages of a whole plan), and one that was never recorded is Outcome::pruned, "not in the recording". info() is the recorded
/// device with `replayed` set. Where a config was recorded with several versions of a template, the one with the candidate's cubin answers,
/// else the latest.
class ReplayDevice : public Device {
 public:
  /// `name` is for messages: the file that the recording came from.
  ReplayDevice(Recording recording, std::string name);
  ReplayDevice(const ReplayDevice&) = delete;
  ReplayDevice& operator=(const ReplayDevice&) = delete;

  [[nodiscard]] const DeviceInfo& info() const override { return info_; }

  /// The policy does not matter, but for the regime: a recording of another one does not answer.
  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override;
  [[nodiscard]] std::optional<Trial> recall(const PlanStage& stage, const MeasurePolicy& policy) const override;
  std::vector<Result> run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                const MeasurePolicy& policy) override;

  [[nodiscard]] bool runs_machine_code() const override { return false; }

  /// The sweep that was recorded, with its suite, strategy and seed: asking for the same again finds every candidate recorded.
  [[nodiscard]] const SweepInfo& sweep() const { return recording_.sweep; }
  /// Whose plans were recorded.
  [[nodiscard]] std::vector<Problem> problems() const;

 private:
  Recording recording_;
  std::string name_;
  DeviceInfo info_;
  std::multimap<std::string, const Trial*> trials_;           // by stage problem and config
  std::multimap<std::string, const PlanTrial*> plan_trials_;  // by problem and the stages with their configs
};

/// Throws what read_recording throws.
[[nodiscard]] std::unique_ptr<ReplayDevice> open_replay(const std::filesystem::path& recording);

}  // namespace phitune
