#include "harness/measure/measurement.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "harness/error.hpp"

namespace phitune::cuda {

namespace {

constexpr double kFlushOverL2 = 2.5;
constexpr int kColdnessSamples = 31;

std::size_t flush_bytes(std::int64_t l2_bytes) {
  const auto bytes = static_cast<std::size_t>(kFlushOverL2 * static_cast<double>(l2_bytes));
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

Sample Measurement::sample(const Graph& graph, bool cold, double timeout_ms) {
  // While the device is busy flushing, the host queues the rest, so that no launch latency lies between the events.
  if (cold) flush();
  start_.record(stream_);
  graph.launch(stream_);
  stop_.record(stream_);
  Sample sample;
  // Clocks are asked for while there is work, not when the device has gone idle.
  sample.state = nvml_.look();
  wait_for(stop_, timeout_ms);
  sample.ms = Event::elapsed_ms(start_, stop_);
  return sample;
}

void Measurement::warm_up(const Graph& graph, const MeasurePolicy& policy) {
  for (int i = 0; i < policy.warmup; ++i) static_cast<void>(sample(graph, false, policy.timeout_ms));
}

Timing Measurement::measure(const Graph& graph, const MeasurePolicy& policy) {
  if (policy.cold_l2) require_cold();
  warm_up(graph, policy);
  return sample_alone([&](std::size_t) { return sample(graph, policy.cold_l2, policy.timeout_ms); }, policy);
}

std::vector<Timing> Measurement::measure_interleaved(std::span<const Graph* const> graphs, const MeasurePolicy& policy) {
  if (graphs.empty()) return {};
  if (policy.cold_l2) require_cold();
  for (const Graph* graph : graphs) warm_up(*graph, policy);
  return sample_in_rounds(
      graphs.size(), [&](std::size_t i) { return sample(*graphs[i], policy.cold_l2, policy.timeout_ms); }, policy);
}

std::vector<double> Measurement::time_reads(const void* data, std::size_t bytes, bool cold) {
  const Graph graph(stream_, [&](cudaStream_t) { utilities_.read(data, bytes); });
  std::vector<double> samples;
  for (int i = 0; i < kColdnessSamples + 3; ++i) {
    const double ms = sample(graph, cold, 1000).ms;
    if (i >= 3) samples.push_back(ms);
  }
  return samples;
}

const Coldness& Measurement::coldness() {
  if (!tested_) coldness_ = test_coldness(true);
  tested_ = true;
  return coldness_;
}

Coldness Measurement::test_coldness(bool with_flush) {
  // Less than half: large GPUs split the cache, and data of the far half is kept twice.
  const auto bytes = static_cast<std::size_t>(0.4 * static_cast<double>(l2_bytes_)) / 256 * 256;
  const DeviceBuffer buffer(bytes);
  check(cudaMemsetAsync(buffer.data(), 0, bytes, stream_));
  const std::vector<double> hot = time_reads(buffer.data(), bytes, false), cold = time_reads(buffer.data(), bytes, with_flush);
  return {.hot_ms = median(hot), .cold_ms = median(cold), .works = median_interval(cold)->low > median_interval(hot)->high};
}

void Measurement::require_cold() {
  if (coldness().works) return;
  throw Error(
      ExitCode::failed,
      fmt::format("the L2 flush does not make the cache cold: reading {:.1f} MiB takes {:.4f} ms hot and {:.4f} ms after the flush. "
                  "Times would be hot ones called cold; ask for hot measurements, or report the device.",
                  0.4 * static_cast<double>(l2_bytes_) / (1 << 20), coldness_.hot_ms, coldness_.cold_ms));
}

}  // namespace phitune::cuda
