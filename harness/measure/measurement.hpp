// Timing graphs on a device: cold L2, events around each sample, as many samples as the policy asks for. Internal: CUDA types.
#pragma once

#include <span>
#include <vector>

#include "harness/device/cuda.hpp"
#include "harness/device/utilities.hpp"
#include "harness/measure/nvml.hpp"
#include "harness/measure/sampling.hpp"
#include "harness/measure/statistics.hpp"
#include "search/trial.hpp"

namespace phitune::cuda {

/// A launch took longer than the policy allows. `hung`: it had not ended after a grace period either.
class TimedOut : public std::runtime_error {
 public:
  TimedOut(const std::string& what, bool hung) : std::runtime_error(what), hung_(hung) {}
  [[nodiscard]] bool hung() const { return hung_; }

 private:
  bool hung_;
};

/// Waits for everything on the stream; throws TimedOut after `timeout_ms`, hung when the stream is still busy as long again.
void wait_for(const Event& event, double timeout_ms);

/// Whether the flush makes the L2 cache cold, measured: a read of a buffer that fits it, straight after itself and after the flush.
struct Coldness {
  double hot_ms = 0, cold_ms = 0;
  bool works = false;  // the intervals of the two medians do not touch and cold is slower
};

class Measurement {
 public:
  /// All must outlive it. Allocates the flush buffer, more than twice the L2 cache.
  Measurement(cudaStream_t stream, const Utilities& utilities, const Nvml& nvml, std::int64_t l2_bytes);

  /// Samples by events around one graph launch each, flushed before (outside the events) when the policy says cold.
  /// Throws TimedOut, CudaError, and Error when coldness is asked for and the self-test found that the flush does not work.
  Timing measure(const Graph& graph, const MeasurePolicy& policy);

  /// Several graphs in shuffled rounds, so that drift meets all alike: equally many samples each.
  std::vector<Timing> measure_interleaved(std::span<const Graph* const> graphs, const MeasurePolicy& policy);

  /// Runs once, on first use; the answer is kept.
  const Coldness& coldness();
  /// The same with the flush switched on, or off, when it must find that the cache is not cold.
  Coldness test_coldness(bool with_flush);

 private:
  Sample sample(const Graph& graph, bool cold, double timeout_ms);
  void warm_up(const Graph& graph, const MeasurePolicy& policy);
  void require_cold();
  void flush() const;
  std::vector<double> time_reads(const void* data, std::size_t bytes, bool cold);

  cudaStream_t stream_;
  const Utilities& utilities_;
  const Nvml& nvml_;
  std::int64_t l2_bytes_;
  DeviceBuffer flush_;
  Event start_, stop_;
  Coldness coldness_;
  bool tested_ = false;
};

}  // namespace phitune::cuda
