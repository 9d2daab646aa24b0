// Runs a candidate in a process of its own, so that one that crashes or never ends is a result like any other.
#pragma once

#include <functional>
#include <string>

#include "search/trial.hpp"

namespace phitune {

/// How it ended. `value` is what the work returned, when the outcome is ok.
struct IsolatedResult {
  Outcome outcome = Outcome::ok;
  std::string reason;
  double value = 0;
};

/// Calls `work` in a forked child and waits for it. launch_failed: it threw, with what() as the reason, or it crashed; a fault of memory is
/// described by `describe_fault(address)`, which is called in the dying child and must not allocate from a broken heap. timed_out: it ran
/// for longer than `timeout_ms` and was killed. What the child writes is seen only in memory that both share (HostMemory). The caller's
/// other threads do not exist in the child.
[[nodiscard]] IsolatedResult run_isolated(const std::function<double()>& work,
                                          const std::function<std::string(const void*)>& describe_fault, double timeout_ms);

}  // namespace phitune
