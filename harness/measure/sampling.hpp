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

/// How long the device rests before a sample, after one that took `last_ms`: the policy's share of it, at most a tenth of a second. So what
/// ran before, which in shuffled rounds is chance, does not slow what is timed: a power cap looks at the mean of many milliseconds.
[[nodiscard]] double rest_ms(const MeasurePolicy& policy, double last_ms);

/// Samples of one candidate until next_step says that they are enough. One that was taken while the device was slowed is thrown away and
/// taken again, at most max_discarded() times; later ones are kept, and the timing says how they came about.
[[nodiscard]] Timing sample_alone(const TakeSample& take, const MeasurePolicy& policy);

/// Rounds of one sample of each candidate, shuffled by the policy's seed, until settled() or max_samples. A round in which the device was
/// slowed is thrown away as a whole, so that pairs stay pairs. After min_samples, who is shown to be slower than the fastest by more than
/// 5 % takes no part in further rounds: the n-th samples of all who have one are of one round.
[[nodiscard]] std::vector<Timing> sample_in_rounds(std::size_t candidates, const TakeSample& take, const MeasurePolicy& policy);

[[nodiscard]] int max_discarded(const MeasurePolicy& policy);

}  // namespace phitune
