// The life of one candidate, a config of a stage: source, compile, static gate, verify, time. Nothing is stored here.
#pragma once

#include <string>

#include "harness/compile/compiler.hpp"
#include "harness/device/device.hpp"
#include "search/trial.hpp"

namespace phitune {

/// The text that NVRTC compiles; empty for library stages, which have nothing to compile.
[[nodiscard]] std::string source_of(const StageProblem& problem, const Config& config);

/// A candidate on its way. `trial` says what became of it: once its outcome is not ok, it goes no further.
struct Candidate {
  Trial trial;
  ExecutableStage executable;
};

/// Compiles (waits for the compiler) and applies the static gate. Failure is the trial's outcome.
[[nodiscard]] Candidate prepare_candidate(Compiler& compiler, const DeviceInfo& device, const StageProblem& problem, const Config& config);

/// The whole life: prepares, and lets the device verify and time what is left. Throws only what the compiler and the device throw when they
/// cannot go on.
[[nodiscard]] Trial try_candidate(Device& device, Compiler& compiler, const StageProblem& problem, const Config& config,
                                  const MeasurePolicy& policy = {});

}  // namespace phitune
