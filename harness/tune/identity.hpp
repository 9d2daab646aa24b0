// What a result depends on, as one hash: two trials with the same identity would measure the same thing.
#pragma once

#include <string>

#include "harness/device/device.hpp"

namespace phitune {

/// SHA-256, hex, over the machine code, the launch, the stage problem (which with the seed makes the inputs), the device's model and its driver,
/// the regime and the effort of measuring, and the version of how phitune measures. How a config is called, and the text that its code was
/// compiled from, are no part of it. Empty for stages without machine code, and for devices that do not run it.
[[nodiscard]] std::string identity_of(const ExecutableStage& stage, const Device& device, const MeasurePolicy& policy);

}  // namespace phitune
