// One candidate's verification on a GPU. Internal.
#pragma once

#include <span>
#include <vector>

#include "harness/device/gpu_session.hpp"
#include "harness/device/pipeline.hpp"
#include "harness/device/verification.hpp"

namespace phitune::cuda {

/// What a run writes and how it is judged. `problem` gives the outputs their shapes.
struct Trialled {
  const Pipeline& pipeline;
  const Args& args;
  const StageProblem& problem;
  std::span<const Buffer> outputs;
  const std::vector<Check>& checks;
  double timeout_ms;
  /// Adversarial references may lie beyond the dtype, so infinities outside the sampled rows are not wrong.
  bool finite = true;
};

/// verify_run (harness/device/verification.hpp) on this device. Throws CudaError and TimedOut.
[[nodiscard]] TrialledOutcome verify_on_device(GpuSession& session, const Trialled& trial);

}  // namespace phitune::cuda
