#include "harness/measure/measurement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "harness/error.hpp"
#include "harness/measure/rotation.hpp"

namespace phitune::cuda {

namespace {

constexpr double kReadOverL2 = 0.4;
constexpr int kColdnessSamples = 31;

std::size_t flush_bytes(std::int64_t l2_bytes) {
  const auto bytes = static_cast<std::size_t>(kEvictOverL2 * static_cast<double>(l2_bytes));
  return std::max<std::size_t>(bytes, std::size_t{64} << 20) / 256 * 256;
}

}  // namespace

void wait_for(const Event& event, double timeout_ms) {
  if (event.wait(timeout_ms)) return;
  const bool hung = !event.wait(timeout_ms);
  throw TimedOut(fmt::format("a launch took longer than {:.0f} ms{}", timeout_ms, hung ? ", and has not ended after twice that" : ""),
                 hung);
}

Measurement::Measurement(cudaStream_t stream, const Utilities& utilities, const Nvml& nvml, std::int64_t l2_bytes)
    : stream_(stream), utilities_(utilities), nvml_(nvml), l2_bytes_(l2_bytes), flush_(flush_bytes(l2_bytes)) {}

void Measurement::flush() const { check(cudaMemsetAsync(flush_.data(), 0, flush_.size(), stream_)); }

void Measurement::rest(const MeasurePolicy& policy) const {
  std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(rest_ms(policy, last_ms_)));
}

/// A candidate between two samples.
struct Measurement::Running {
  explicit Running(const Copies& its_copies) : copies(its_copies), turns(its_copies.size()) {}
  const Copies& copies;
  Turns turns;
  std::size_t leads = 1;
};

Sample Measurement::sample(Running& running, const MeasurePolicy& policy) {
  // While the device is busy with what comes before the events, the host queues the rest, so that no launch latency lies between them.
  if (policy.regime.cache == Regime::Cache::flush) flush();
  const Turn turn = running.turns.next(running.leads);
  for (const std::size_t copy : turn.leads) running.copies[copy](stream_);
  start_.record(stream_);
  running.copies[turn.timed](stream_);
  stop_.record(stream_);
  Sample sample;
  // Clocks are asked for while there is work, not when the device has gone idle.
  sample.state = nvml_.look();
  wait_for(stop_, policy.timeout_ms);
  sample.ms = last_ms_ = Event::elapsed_ms(start_, stop_);
  return sample;
}

void Measurement::warm_up(Running& running, const MeasurePolicy& policy) {
  double ms = sample(running, policy).ms;
  for (int i = 1; i < policy.warmup; ++i) ms = std::min(ms, sample(running, policy).ms);
  running.leads = lead_launches(policy.regime, ms);
}

Timing Measurement::measure(const Copies& candidate, const MeasurePolicy& policy) {
  require_cold(policy.regime);
  Running running(candidate);
  warm_up(running, policy);
  return sample_alone(
      [&](std::size_t) {
        rest(policy);
        return sample(running, policy);
      },
      policy);
}

std::vector<Timing> Measurement::measure_interleaved(std::span<const Copies> candidates, const MeasurePolicy& policy) {
  if (candidates.empty()) return {};
  require_cold(policy.regime);
  std::vector<Running> running;
  for (const Copies& candidate : candidates) warm_up(running.emplace_back(candidate), policy);
  return sample_in_rounds(
      candidates.size(),
      [&](std::size_t i) {
        rest(policy);
        return sample(running[i], policy);
      },
      policy);
}

std::vector<double> Measurement::time_reads(std::span<const DeviceBuffer> buffers, Regime::Cache cache) {
  std::vector<Graph> graphs;
  for (const DeviceBuffer& buffer : buffers) graphs.emplace_back(stream_, [&](cudaStream_t) { utilities_.read(buffer.data(), buffer.size()); });
  Copies reads;
  for (const Graph& graph : graphs) reads.push_back([&graph](cudaStream_t stream) { graph.launch(stream); });
  const MeasurePolicy policy{.warmup = 3, .timeout_ms = 1000, .regime = {.cache = cache}};
  Running running(reads);
  warm_up(running, policy);
  std::vector<double> samples;
  for (int i = 0; i < kColdnessSamples; ++i) samples.push_back(sample(running, policy).ms);
  return samples;
}

Coldness Measurement::test_coldness(Regime::Cache by) {
  // Less than half: large GPUs split the cache, and data of the far half is kept twice.
  const auto bytes = static_cast<std::size_t>(kReadOverL2 * static_cast<double>(l2_bytes_)) / 256 * 256;
  const std::size_t copies = by == Regime::Cache::rotation ? rotation_copies(static_cast<std::int64_t>(bytes), l2_bytes_).value() : 1;
  std::vector<DeviceBuffer> buffers;
  for (std::size_t i = 0; i < copies; ++i) {
    buffers.emplace_back(bytes);
    check(cudaMemsetAsync(buffers.back().data(), 0, bytes, stream_));
  }
  const std::vector<double> hot = time_reads({&buffers.front(), 1}, Regime::Cache::hot), cold = time_reads(buffers, by);
  return {.hot_ms = median(hot), .cold_ms = median(cold), .works = median_interval(cold)->low > median_interval(hot)->high};
}

void Measurement::require_cold(Regime regime) {
  if (!regime.cold()) return;
  if (!tested_.contains(regime.cache)) tested_[regime.cache] = test_coldness(regime.cache);
  const Coldness& seen = tested_[regime.cache];
  if (seen.works) return;
  throw Error(ExitCode::failed,
              fmt::format("the regime {} does not make the L2 cache cold: reading {:.1f} MiB takes {:.4f} ms hot and {:.4f} ms in it. Times "
                          "would be hot ones called cold; ask for --regime hot, or report the device.",
                          to_string(Regime{.cache = regime.cache}), kReadOverL2 * static_cast<double>(l2_bytes_) / (1 << 20), seen.hot_ms,
                          seen.cold_ms));
}

}  // namespace phitune::cuda
