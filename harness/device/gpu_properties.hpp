// What the CUDA runtime says about a GPU. Internal.
#pragma once

#include <string>

#include "search/trial.hpp"

namespace phitune::cuda {

/// Number of GPUs; throws Error(no_device) with the reason and the mend when there is none or the driver does not work.
[[nodiscard]] int device_count();

/// Throws Error(no_device) when `ordinal` is not below device_count().
[[nodiscard]] DeviceInfo device_info(int ordinal);

/// "0000:3B:00.0"
[[nodiscard]] std::string pci_bus_id(int ordinal);

/// What NVRTC compiles for: "sm_90a" where the architecture has instructions of its own, else "sm_80".
[[nodiscard]] std::string architecture_name(int compute_capability);

/// "13.0" from 13000.
[[nodiscard]] std::string version_text(int version);

}  // namespace phitune::cuda
