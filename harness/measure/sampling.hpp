// How many samples of what, in which order, and which of them count. Pure C++: a device only takes the samples.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "harness/device/device.hpp"
#include "harness/measure/nvml.hpp"

namespace phitune {

struct Sample {
  double ms = 0;
  DeviceState state;  // while it ran
};
/// Runs candidate number `index` once.
using TakeSample = std::function<Sample(std::size_t index)>;

/// Samples of one candidate until next_step says that they are enough. One that was taken while the device was slowed is thrown away and
/// taken again, at most max_discarded() times; later ones are kept, and the timing says how they came about.
[[nodiscard]] Timing sample_alone(const TakeSample& take, const MeasurePolicy& policy);

/// Rounds of one sample of each candidate, shuffled by the policy's seed, until settled() or max_samples. A round in which the device was
/// slowed is thrown away as a whole, so that pairs stay pairs.
[[nodiscard]] std::vector<Timing> sample_in_rounds(std::size_t candidates, const TakeSample& take, const MeasurePolicy& policy);

[[nodiscard]] int max_discarded(const MeasurePolicy& policy);

}  // namespace phitune
