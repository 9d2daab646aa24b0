// The kernels of all cases, compiled for the CPU from the very text that NVRTC would get. The definitions are generated (generate.cpp).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernel_templates/common/args.cuh"

namespace phitune::kernel_test {

struct HostKernel {
  std::string_view source;
  void (*run)(Args);
};

/// Of all cases of plan_cases(host_kernel_seed()).
[[nodiscard]] const std::vector<HostKernel>& host_kernels();
[[nodiscard]] std::uint64_t host_kernel_seed();

}  // namespace phitune::kernel_test
