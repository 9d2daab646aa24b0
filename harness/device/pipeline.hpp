// Loaded kernels of one or more stages, ready to be put on a stream. Internal.
#pragma once

#include <span>
#include <vector>

#include "harness/device/cuda.hpp"
#include "harness/device/device.hpp"
#include "harness/device/gemm_library.hpp"

namespace phitune::cuda {

/// A candidate cannot be prepared on this device: failure that is data.
class NotRunnable : public std::runtime_error {
 public:
  NotRunnable(Outcome outcome, const std::string& reason) : std::runtime_error(reason), outcome_(outcome) {}
  [[nodiscard]] Outcome outcome() const { return outcome_; }

 private:
  Outcome outcome_;
};

/// Zeroes what must be zero when the stage begins (counters_of). To be put on the stream before the first stage of a plan: between two
/// kernels it would keep them from overlapping.
void clear_counters(const StageProblem& stage, const Args& args, cudaStream_t stream);

class Pipeline {
 public:
  /// Loads every kernel. `gemms` must outlive it. Throws CudaError when one cannot be loaded, NotRunnable(pruned) when the
  /// GEMM library is needed and absent.
  Pipeline(std::span<const ExecutableStage> stages, const GemmLibrary& gemms);

  /// Puts all stages on the stream, in order, working on the tensors of `args`. Throws NotRunnable(launch_failed) when the GEMM library
  /// refuses one.
  void enqueue(cudaStream_t stream, const Args& args) const;

 private:
  struct Step {
    StageProblem problem;
    Kernel kernel;  // empty for library stages
    Launch launch;
  };
  std::vector<Step> steps_;
  const GemmLibrary& gemms_;
};

}  // namespace phitune::cuda
