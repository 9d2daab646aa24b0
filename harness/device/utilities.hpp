// The harness's own kernels on the device: filling tensors, making gates, looking outputs over. Internal.
#pragma once

#include <memory>

#include "harness/device/cuda.hpp"
#include "harness/verify/utility_calls.hpp"

namespace phitune::cuda {

/// Needs no device. Throws Error when it does not compile.
[[nodiscard]] std::shared_ptr<const Binary> compile_utilities(const std::string& architecture);

/// Of one device and one stream; everything is enqueued on it.
class Utilities {
 public:
  Utilities(std::shared_ptr<const Binary> binary, int multiprocessors, cudaStream_t stream);

  void fill(const InputTensor& tensor, void* data) const;
  /// Cumulative gates of `log_g` (filled, the problem's layout) for the stage's chunks.
  void gates(const StageProblem& problem, const void* log_g, void* gates) const;
  /// Looks `buffer` over, as the stage must have written it. Waits for the stream.
  [[nodiscard]] Inspection inspect(const StageProblem& problem, Buffer buffer, const void* data) const;
  /// Reads `bytes` (a multiple of 16) once.
  void read(const void* data, std::size_t bytes) const;

 private:
  void launch(const UtilityArgs& args, std::int64_t blocks) const;

  cudaStream_t stream_;
  std::int64_t blocks_;
  std::shared_ptr<const Binary> binary_;
  Kernel kernel_;
  DeviceBuffer results_;
};

}  // namespace phitune::cuda
