#include "harness/measure/sampling.hpp"

#include <algorithm>
#include <numeric>
#include <random>

#include "harness/measure/statistics.hpp"
#include "search/random.hpp"

namespace phitune {
namespace {

constexpr double kLongestRestMs = 100;

/// What was seen of one candidate.
class Seen {
 public:
  void keep(const Sample& sample) {
    samples_.push_back(sample.ms);
    look(sample);
    clocks_.push_back(sample.state.sm_clock_mhz);
    temperature_ = std::max(temperature_, sample.state.temperature_c);
  }
  void discard(const Sample& sample) {
    ++discarded_;
    look(sample);
  }

  [[nodiscard]] const std::vector<double>& samples() const { return samples_; }
  [[nodiscard]] int discarded() const { return discarded_; }

  [[nodiscard]] Timing timing(const MeasurePolicy& policy) const {
    Timing timing;
    timing.samples_ms = samples_;
    timing.median_ms = median(samples_);
    timing.iqr_ms = interquartile_range(samples_);
    timing.regime = policy.regime;
    timing.temperature_c = temperature_;
    timing.throttle_reasons = reasons_;
    timing.discarded = discarded_;
    if (std::ranges::any_of(clocks_, [](double mhz) { return mhz > 0; })) {
      timing.sm_clock_mhz = median(clocks_);
      timing.sm_clocks_mhz = clocks_;
    }
    return timing;
  }

 private:
  void look(const Sample& sample) {
    const std::string& reasons = sample.state.throttle_reasons;
    if (reasons.empty() || reasons_.find(reasons) != std::string::npos) return;
    reasons_ += (reasons_.empty() ? "" : "; ") + reasons;
  }

  std::vector<double> samples_, clocks_;
  double temperature_ = 0;
  std::string reasons_;
  int discarded_ = 0;
};

}  // namespace

double rest_ms(const MeasurePolicy& policy, double last_ms) { return std::min(policy.rest * last_ms, kLongestRestMs); }

int max_discarded(const MeasurePolicy& policy) { return std::max(10, policy.max_samples); }

Timing sample_alone(const TakeSample& take, const MeasurePolicy& policy) {
  Seen seen;
  while (next_step(seen.samples(), policy) == Next::sample) {
    const Sample sample = take(0);
    if (sample.state.slowed && seen.discarded() < max_discarded(policy))
      seen.discard(sample);
    else
      seen.keep(sample);
  }
  Timing timing = seen.timing(policy);
  timing.beaten = beaten(timing.samples_ms, policy);
  return timing;
}

std::vector<Timing> sample_in_rounds(std::size_t candidates, const TakeSample& take, const MeasurePolicy& policy) {
  std::vector<Seen> seen(candidates);
  std::vector<std::size_t> order(candidates);  // of those still in it
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::mt19937_64 rng(policy.seed);
  const auto least = static_cast<std::size_t>(std::max(1, policy.min_samples)),
             most = static_cast<std::size_t>(std::max(1, policy.max_samples));
  std::vector<Sample> round(candidates);
  int discarded = 0;
  for (std::size_t rounds = 0; !order.empty() && rounds < most;) {
    shuffle_front(order, order.size(), rng);
    for (const std::size_t i : order) round[i] = take(i);
    const bool slowed = std::ranges::any_of(order, [&](std::size_t i) { return round[i].state.slowed; });
    if (slowed && discarded < max_discarded(policy)) {
      for (const std::size_t i : order) seen[i].discard(round[i]);
      ++discarded;
      continue;
    }
    for (const std::size_t i : order) seen[i].keep(round[i]);
    if (++rounds < least) continue;
    std::vector<std::vector<double>> samples;
    for (const std::size_t i : order) samples.push_back(seen[i].samples());
    if (settled(samples, policy.target_relative_ci)) break;
    const auto differences = differences_to_fastest(samples);
    std::vector<std::size_t> still;
    for (std::size_t n = 0; n < order.size(); ++n)
      if (!differences[n] || differences[n]->low <= kBeatenBeyond) still.push_back(order[n]);
    order = std::move(still);
  }
  std::vector<Timing> timings;
  for (const Seen& one : seen) timings.push_back(one.timing(policy));
  return timings;
}

}  // namespace phitune
