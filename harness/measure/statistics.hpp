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

/// A 95 % confidence interval of the ratio of a's times to b's, taken at different moments: by the ranks of the ratios of every sample of
/// one to every sample of the other (Hodges and Lehmann 1963, on Mann and Whitney's statistic). No assumption on the distribution but that
/// both scatter alike. Absent where even the widest has less confidence: two samples need eight others, three need five.
[[nodiscard]] std::optional<Interval> ratio_interval(std::span<const double> a, std::span<const double> b);

/// Who is shown to be slower by more, which neither drift nor clocks explain, is measured no further.
inline constexpr double kBeatenBeyond = 0.05;

/// What proves, so far, that the candidate is slower than the samples to beat by more than 5 %, which neither drift nor clocks explain;
/// nothing when that is not proven.
[[nodiscard]] std::optional<Beaten> beaten(std::span<const double> samples, const MeasurePolicy& policy);

/// a[i] / b[i] - 1 for samples that were taken in pairs. Throws std::invalid_argument unless both are equally long.
[[nodiscard]] std::vector<double> paired_differences(std::span<const double> a, std::span<const double> b);

/// Of rounds of paired samples (equally many of each candidate, one candidate at least): the 95 % interval of the median difference of each
/// to the fastest, where there are enough for one. That of the fastest itself is [0, 0].
[[nodiscard]] std::vector<std::optional<Interval>> differences_to_fastest(std::span<const std::vector<double>> candidates);

/// Times that differ by less cannot be told apart by what they are for, whatever the statistics say.
inline constexpr double kTieShare = 0.005;

/// Whether rounds of paired samples (equally many of each candidate) say who is tied with the fastest: of every candidate the 95 % interval
/// of the median difference to it lies beyond kTieShare, or within it and is narrower than `target`. Of one alone: the interval of its median
/// is narrower than that share.
[[nodiscard]] bool settled(std::span<const std::vector<double>> candidates, double target);

/// What to do after a sample.
enum class Next { sample, stop, abandon };

/// abandon: beaten().
/// stop: the median's interval is narrower than target_relative_ci, with at least 10 samples for a contender (a median within 10 % of
/// the time to beat, or nothing to beat yet), min_samples otherwise; or max_samples are there.
[[nodiscard]] Next next_step(std::span<const double> samples, const MeasurePolicy& policy);

/// Why samples scatter too much to rank by, or nothing: an interquartile range above a quarter of the median and above 3 us.
[[nodiscard]] std::optional<std::string> unstable(std::span<const double> samples);

}  // namespace phitune
