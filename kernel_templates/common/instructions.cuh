// The instructions templates are written in: one function each, the same names for the GPU and for the CPU emulator. See
// cuda/instructions.cuh for what each does; host/instructions.hpp has their twins.
#pragma once

#include "kernel_templates/common/numeric.cuh"

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#include "kernel_templates/common/cuda/instructions.cuh"
#else
#include "kernel_templates/common/host/instructions.hpp"
#endif
