// The instructions that only Hopper templates use; see instructions.cuh. cuda/instructions_sm90.cuh says what each does.
#pragma once

#include "kernel_templates/common/instructions.cuh"

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#include "kernel_templates/common/cuda/instructions_sm90.cuh"
#else
#include "kernel_templates/common/host/instructions_sm90.hpp"
#endif
