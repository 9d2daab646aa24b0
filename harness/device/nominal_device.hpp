// The limits of a GPU that is not here.
#pragma once

#include <string>

#include "search/trial.hpp"

namespace phitune {

/// What NVRTC is asked for on this architecture name, and the limits that a space needs when there is no device ("sm_90a" -> H100-class).
/// Throws Error(bad_input) with the names it knows.
[[nodiscard]] DeviceInfo nominal_device(const std::string& architecture);

}  // namespace phitune
