// Several devices of one model as one: each runs stages on a thread of its own, whole plans run on one of them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "harness/device/device.hpp"

namespace phitune {

/// The contract is Device's. All configs of a stage problem run on one board, so that comparing them does not depend on the boards being equally
/// fast: the one that was free when the first was asked for, until it is lost. A member that is lost is left out from then on and its trial runs on another; a candidate that was running on
/// two of them when they were lost is launch_failed and in quarantine. Throws DeviceLost when none is left. A result says which board it
/// comes from, unless it is the first one's.
class DeviceGroup : public Device {
 public:
  using Open = std::function<std::unique_ptr<Device>(const std::string& name)>;

  /// Opens each in the thread that will own it. Throws what `open` throws, and Error(usage) when they are not of one model, or one board
  /// is named twice.
  DeviceGroup(const std::vector<std::string>& names, const Open& open);
  ~DeviceGroup() override;

  [[nodiscard]] const DeviceInfo& info() const override { return info_; }
  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override;
  void run_stages(const NextRun& next, const RunDone& done) override;
  /// On the first device that is left, so that plans which are compared ran on one board.
  std::vector<Result> run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                const MeasurePolicy& policy) override;
  [[nodiscard]] std::vector<Incident> take_incidents() override;

  /// One sentence for each member that is gone.
  [[nodiscard]] std::vector<std::string> losses() const;

 private:
  class Member;
  class Running;
  [[nodiscard]] std::size_t left() const;
  void require_one_model(const std::vector<std::string>& names) const;

  std::vector<std::unique_ptr<Member>> members_;
  DeviceInfo info_;
  std::vector<Incident> incidents_;
  std::map<StageProblem, std::size_t> owners_;  // the member that has run it
};

}  // namespace phitune
