#include "harness/measure/statistics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace phitune {

namespace {

constexpr std::size_t kContenderSamples = 10;
constexpr double kContenderShare = 1.1;
constexpr double kUnstableShare = 0.25;
constexpr double kUnstableMs = 0.003;

std::vector<double> sorted(std::span<const double> samples) {
  std::vector<double> out(samples.begin(), samples.end());
  std::ranges::sort(out);
  return out;
}

bool is_contender(std::span<const double> samples, const MeasurePolicy& policy) {
  return policy.time_to_beat_ms <= 0 || median(samples) <= kContenderShare * policy.time_to_beat_ms;
}

bool is_narrow(std::span<const double> samples, double target) {
  const std::optional<Interval> interval = median_interval(samples);
  return interval && interval->high - interval->low <= target * median(samples);
}

// The most pairs that may lie the wrong way round before "both are alike" is believed with more than 2.5 %; nothing when none may. Of m and
// n samples of the same distribution, u pairs do in as many orders as q^u has in the Gaussian binomial coefficient (Mann and Whitney 1947).
std::optional<std::size_t> pairs_allowed(std::size_t m, std::size_t n) {
  std::vector<double> orders(m * n + 1, 0);
  orders[0] = 1;
  for (std::size_t i = 1; i <= n; ++i) {
    for (std::size_t u = orders.size(); u-- > m + i;) orders[u] -= orders[u - m - i];
    for (std::size_t u = i; u < orders.size(); ++u) orders[u] += orders[u - i];
  }
  const double all = std::accumulate(orders.begin(), orders.end(), 0.0);
  double tail = 0;
  for (std::size_t u = 0; u < orders.size(); ++u) {
    tail += orders[u] / all;
    if (tail > 0.025) return u > 0 ? std::optional(u - 1) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

double quantile(std::span<const double> samples, double share) {
  if (samples.empty()) throw std::invalid_argument("a quantile of no samples");
  const std::vector<double> ordered = sorted(samples);
  const double position = share * static_cast<double>(ordered.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, ordered.size() - 1);
  return ordered[below] + (position - static_cast<double>(below)) * (ordered[above] - ordered[below]);
}

double median(std::span<const double> samples) { return quantile(samples, 0.5); }

double interquartile_range(std::span<const double> samples) { return quantile(samples, 0.75) - quantile(samples, 0.25); }

std::optional<Interval> median_interval(std::span<const double> samples) {
  // The median lies below the l-th smallest of n samples when fewer than l of them fall below it: a binomial tail with share 1/2.
  const std::size_t n = samples.size();
  double probability = std::pow(0.5, static_cast<double>(n)), tail = probability;
  std::size_t l = 0;
  while (tail <= 0.025 && l < n) {
    ++l;
    probability *= static_cast<double>(n - l + 1) / static_cast<double>(l);
    tail += probability;
  }
  if (l == 0) return std::nullopt;
  const std::vector<double> ordered = sorted(samples);
  return Interval{.low = ordered[l - 1], .high = ordered[n - l]};
}

std::optional<Interval> ratio_interval(std::span<const double> a, std::span<const double> b) {
  if (a.empty() || b.empty()) return std::nullopt;
  const auto allowed = pairs_allowed(a.size(), b.size());
  if (!allowed) return std::nullopt;
  std::vector<double> ratios;
  for (const double of_a : a)
    for (const double of_b : b) ratios.push_back(of_a / of_b);
  std::ranges::sort(ratios);
  return Interval{.low = ratios[*allowed], .high = ratios[ratios.size() - 1 - *allowed]};
}

std::optional<Beaten> beaten(std::span<const double> samples, const MeasurePolicy& policy) {
  const auto ratio = ratio_interval(samples, policy.samples_to_beat);
  if (!ratio || ratio->low <= 1 + kBeatenBeyond) return std::nullopt;
  return Beaten{.by_ms = policy.time_to_beat_ms, .low = ratio->low, .high = ratio->high};
}

std::vector<double> paired_differences(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size()) throw std::invalid_argument("paired samples must be equally many");
  std::vector<double> differences(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) differences[i] = a[i] / b[i] - 1;
  return differences;
}

std::vector<std::optional<Interval>> differences_to_fastest(std::span<const std::vector<double>> candidates) {
  const auto by_median = [](const std::vector<double>& a, const std::vector<double>& b) { return median(a) < median(b); };
  const std::vector<double>& fastest = *std::ranges::min_element(candidates, by_median);
  std::vector<std::optional<Interval>> differences;
  for (const std::vector<double>& candidate : candidates)
    differences.push_back(&candidate == &fastest ? Interval{} : median_interval(paired_differences(candidate, fastest)));
  return differences;
}

bool settled(std::span<const std::vector<double>> candidates, double target) {
  if (candidates.empty()) return true;
  if (candidates.size() == 1) return is_narrow(candidates.front(), target);
  return std::ranges::all_of(differences_to_fastest(candidates), [target](const std::optional<Interval>& interval) {
    return interval && (interval->low > kTieShare || (interval->high <= kTieShare && interval->high - interval->low <= target));
  });
}

Next next_step(std::span<const double> samples, const MeasurePolicy& policy) {
  if (samples.empty()) return Next::sample;
  if (beaten(samples, policy)) return Next::abandon;
  if (samples.size() >= static_cast<std::size_t>(std::max(1, policy.max_samples))) return Next::stop;
  std::size_t needed = static_cast<std::size_t>(std::max(1, policy.min_samples));
  if (is_contender(samples, policy)) needed = std::max(needed, kContenderSamples);
  return samples.size() >= needed && is_narrow(samples, policy.target_relative_ci) ? Next::stop : Next::sample;
}

std::optional<std::string> unstable(std::span<const double> samples) {
  const double middle = median(samples), spread = interquartile_range(samples);
  if (spread <= kUnstableShare * middle || spread <= kUnstableMs) return std::nullopt;
  return fmt::format("samples scatter: interquartile range {:.4g} ms around a median of {:.4g} ms, {} samples", spread, middle,
                     samples.size());
}

}  // namespace phitune
