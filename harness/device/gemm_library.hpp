// The matrix products of library stages, behind one function so that a device works without the library. Internal.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "kernel_templates/library/gemm.hpp"

namespace phitune::cuda {

/// Of one device context.
class GemmLibrary {
 public:
  GemmLibrary();
  ~GemmLibrary();
  GemmLibrary(const GemmLibrary&) = delete;
  GemmLibrary& operator=(const GemmLibrary&) = delete;

  /// Why there is no library; empty when there is.
  [[nodiscard]] const std::string& reason() const { return reason_; }

  /// Enqueues the product; may be captured in a graph once it has run outside of one. Throws Error with the library's reason when it
  /// refuses.
  void run(const Gemm& gemm, const GemmPointers& pointers, cudaStream_t stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string reason_;
};

}  // namespace phitune::cuda
