// One candidate's verification: poison, run, compare, run again. Internal.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "harness/device/gpu_session.hpp"
#include "harness/device/pipeline.hpp"
#include "harness/verify/check.hpp"

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

struct TrialledOutcome {
  Outcome outcome = Outcome::ok;
  std::string reason;
  Errors errors;
};

/// Outputs are filled with NaN, written, compared row by row, looked over whole for elements that were not written or are not finite, and
/// written a second time from the same inputs: the checksums of both must agree, bit for bit over the whole of every output.
/// Throws CudaError and TimedOut.
[[nodiscard]] TrialledOutcome verify_on_device(GpuSession& session, const Trialled& trial);

}  // namespace phitune::cuda
