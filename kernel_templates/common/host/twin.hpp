// What comes before a kernel's generated source when it is compiled for the CPU apart from the emulator: the words of CUDA that mean
// nothing there, and the way in for the emulator's table.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/host/runtime.hpp"

#define __global__
#define __launch_bounds__(...)
#define __grid_constant__

#define PHITUNE_TWIN_ENTRY extern "C" __attribute__((visibility("default")))

namespace phitune::host {
const Runtime* runtime = nullptr;
}

/// To be called once, before anything else.
PHITUNE_TWIN_ENTRY void phitune_twin_attach(const phitune::host::Runtime* table) { phitune::host::runtime = table; }
