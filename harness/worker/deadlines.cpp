#include "harness/worker/deadlines.hpp"

#include <algorithm>

namespace phitune::worker {

double Deadlines::of(const std::string& kind, double launch_ms) const {
  if (fixed_ms_ > 0) return fixed_ms_;
  const auto seen = longest_ms_.find(kind);
  const double expected = seen == longest_ms_.end() ? kFirstMs : std::max(kLeastMs, kTimes * seen->second);
  // A launch over its limit is given as long again to end, and the worker then says so itself.
  return expected + 2 * launch_ms;
}

void Deadlines::saw(const std::string& kind, double ms) {
  double& longest = longest_ms_[kind];
  longest = std::max(longest, ms);
}

}  // namespace phitune::worker
