// Arguments of the harness's own kernels for a tensor or an output; whoever runs them, a GPU or the CPU emulator, passes these.
#pragma once

#include "harness/verify/inputs.hpp"
#include "kernel_templates/common/utility_args.cuh"

namespace phitune {

/// The source that NVRTC compiles them from: one kernel for all of them.
[[nodiscard]] std::string utility_source();

[[nodiscard]] UtilityArgs fill_call(const InputTensor& tensor, void* data);

/// One block for each of b * hk * chunks.
[[nodiscard]] UtilityArgs gates_call(const StageProblem& problem, const void* log_g, void* gates);

/// `results` has room for an Inspection per block.
[[nodiscard]] UtilityArgs inspect_call(const StageProblem& problem, Buffer buffer, const void* data, void* results);

}  // namespace phitune
