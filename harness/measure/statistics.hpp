// From samples to a time: median, spread, confidence, and when to stop sampling. Pure C++.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "harness/device/device.hpp"

namespace phitune {

/// Linear interpolation between order statistics (type 7 of Hyndman and Fan, 1996). Throws std::invalid_argument without samples.
[[nodiscard]] double quantile(std::span<const double> samples, double share);
[[nodiscard]] double median(std::span<const double> samples);
[[nodiscard]] double interquartile_range(std::span<const double> samples);

/// A 95 % confidence interval of the median by order statistics: no assumption on the distribution. Absent below 6 samples, where not even
/// the range reaches 95 %.
struct Interval {
  double low = 0, high = 0;
};
[[nodiscard]] std::optional<Interval> median_interval(std::span<const double> samples);

/// a[i] / b[i] - 1 for samples that were taken in pairs. Throws std::invalid_argument unless both are equally long.
[[nodiscard]] std::vector<double> paired_differences(std::span<const double> a, std::span<const double> b);

/// Whether rounds of paired samples (equally many of each candidate) say enough: of every candidate the 95 % interval of the median
/// difference to the fastest is narrower than `target`, or excludes 0. Of one alone: the interval of its median is narrower than that
/// share.
[[nodiscard]] bool settled(std::span<const std::vector<double>> candidates, double target);

/// What to do after a sample.
enum class Next { sample, stop, abandon };

/// abandon: one sample above 3x the time to beat (policy.abandon_above_ms), or, with min_samples, all above 1.25x.
/// stop: the median's interval is narrower than target_relative_ci, with at least 10 samples for a contender (a median within 10 % of
/// the time to beat, or nothing to beat yet), min_samples otherwise; or max_samples are there.
[[nodiscard]] Next next_step(std::span<const double> samples, const MeasurePolicy& policy);

/// Why samples scatter too much to rank by, or nothing: an interquartile range above a quarter of the median and above 3 us.
[[nodiscard]] std::optional<std::string> unstable(std::span<const double> samples);

}  // namespace phitune
