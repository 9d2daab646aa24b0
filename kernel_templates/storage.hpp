// How the host's dtypes are called in kernels.
#pragma once

#include "kernel_templates/common/numeric.cuh"
#include "search/problem.hpp"

namespace phitune {

[[nodiscard]] constexpr Storage storage_of(Dtype dtype) {
  return dtype == Dtype::bf16 ? Storage::bf16 : dtype == Dtype::fp16 ? Storage::fp16 : Storage::fp32;
}

}  // namespace phitune
