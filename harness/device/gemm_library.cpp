#include "harness/device/gemm_library.hpp"

#include "harness/device/cublas_lt.hpp"
#include "harness/device/cuda.hpp"

namespace phitune::cuda {

struct GemmLibrary::State {
  CublasLt blas;
  DeviceBuffer workspace;
};

GemmLibrary::GemmLibrary() : state_(std::make_unique<State>()), reason_(state_->blas.reason()) {
  if (reason_.empty()) state_->workspace = DeviceBuffer(CublasLt::workspace_bytes);
}

GemmLibrary::~GemmLibrary() = default;

void GemmLibrary::run(const Gemm& gemm, const GemmPointers& pointers, cudaStream_t stream) const {
  state_->blas.run(gemm, pointers, stream, state_->workspace.data(), state_->workspace.size());
}

}  // namespace phitune::cuda
