// One config of one stage, from its source to a verdict, without searching.
#pragma once

#include "harness/compile/compiler.hpp"
#include "harness/device/device.hpp"

namespace phitune {

/// Compiles the config (library stages have nothing to compile), applies the static gate, and runs it on the device. Failure is the trial's
/// outcome; throws only what the compiler and the device throw when they cannot go on.
[[nodiscard]] Trial verify_stage(Device& device, Compiler& compiler, const StageProblem& problem, const Config& config,
                                 const MeasurePolicy& policy = {});

}  // namespace phitune
