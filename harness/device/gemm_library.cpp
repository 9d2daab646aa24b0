#include "harness/device/gemm_library.hpp"

#include "harness/device/cuda.hpp"
#include "harness/error.hpp"

namespace phitune::cuda {

struct GemmLibrary::State {};

GemmLibrary::GemmLibrary() : reason_("this build has no cuBLASLt support: library stages are not run") {}
GemmLibrary::~GemmLibrary() = default;

void GemmLibrary::run(const Gemm&, const GemmPointers&, cudaStream_t) const { throw Error(ExitCode::failed, reason_); }

}  // namespace phitune::cuda
