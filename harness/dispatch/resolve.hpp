// From a selection to a plan that this build can make for its problem on its device. Internal to the dispatcher.
#pragma once

#include <string>
#include <vector>

#include "harness/dispatch/dispatcher.hpp"

namespace phitune {

struct Resolved {
  Plan plan;
  std::vector<std::string> notes;  // what is not as it was tuned
  bool is_builtin = false;         // nothing of the tuned plan is left
};

/// Throws Error(bad_input) when no plan computes the problem.
[[nodiscard]] Resolved resolve(const Selection& selection, const DeviceInfo& device);

}  // namespace phitune
