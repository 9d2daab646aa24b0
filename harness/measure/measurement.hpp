// Timing graphs on a device: cold L2, events around each sample, as many samples as the policy asks for. Internal: CUDA types.
#pragma once

#include <functional>
#include <map>
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

/// Whether a regime makes the L2 cache cold, measured: a read of a buffer that fits it, straight after itself and in the regime.
struct Coldness {
  double hot_ms = 0, cold_ms = 0;
  bool works = false;  // the intervals of the two medians do not touch and cold is slower
};

/// Puts a candidate on the stream, working on one copy of its tensors.
using Enqueue = std::function<void(cudaStream_t)>;
/// A candidate with as many copies of its tensors as its regime needs (rotation.hpp).
using Copies = std::vector<Enqueue>;

class Measurement {
 public:
  /// All must outlive it. Allocates the flush buffer, more than twice the L2 cache.
  Measurement(cudaStream_t stream, const Utilities& utilities, const Nvml& nvml, std::int64_t l2_bytes);

  /// Samples by events around one launch each; what the policy's regime asks for is done before, outside the events.
  /// Throws TimedOut, CudaError, and Error when the regime is a cold one and the self-test found that it does not make the cache cold.
  Timing measure(const Copies& candidate, const MeasurePolicy& policy);

  /// Several candidates in shuffled rounds, so that drift meets all alike (sample_in_rounds).
  std::vector<Timing> measure_interleaved(std::span<const Copies> candidates, const MeasurePolicy& policy);

  /// Measured anew. For `hot` it must find that the cache is not cold.
  Coldness test_coldness(Regime::Cache by);

 private:
  struct Running;
  Sample sample(Running& running, const MeasurePolicy& policy);
  void rest(const MeasurePolicy& policy) const;
  void warm_up(Running& running, const MeasurePolicy& policy);
  void require_cold(Regime regime);
  void flush() const;
  std::vector<double> time_reads(std::span<const DeviceBuffer> buffers, Regime::Cache cache);

  cudaStream_t stream_;
  const Utilities& utilities_;
  const Nvml& nvml_;
  std::int64_t l2_bytes_;
  DeviceBuffer flush_;
  Event start_, stop_;
  double last_ms_ = 0;  // what the last sample took
  std::map<Regime::Cache, Coldness> tested_;
};

}  // namespace phitune::cuda
