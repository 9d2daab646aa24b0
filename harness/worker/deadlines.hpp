// How long a worker may be silent about a trial before it is taken for dead, from what has been seen. Pure C++.
#pragma once

#include <map>
#include <string>

namespace phitune::worker {

/// A launch that never ends is found by the worker itself (MeasurePolicy::timeout_ms). These deadlines are for a worker that is stuck in a
/// call of the driver, or on the CPU, and need not be tight: wrongly ended workers cost more than late ones.
class Deadlines {
 public:
  /// `fixed_ms` > 0: every trial's deadline, whatever was seen.
  explicit Deadlines(double fixed_ms = 0) : fixed_ms_(fixed_ms) {}

  /// `kind`: trials of one kind take about as long as each other (a stage problem). `launch_ms`: the time limit of one launch.
  [[nodiscard]] double of(const std::string& kind, double launch_ms) const;
  void saw(const std::string& kind, double ms);

  static constexpr double kFirstMs = 600000;  // nothing of its kind was seen; the reference is computed on the CPU
  static constexpr double kLeastMs = 10000;
  static constexpr double kTimes = 20;  // the longest that was seen

 private:
  double fixed_ms_;
  std::map<std::string, double> longest_ms_;
};

}  // namespace phitune::worker
