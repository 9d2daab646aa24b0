// One candidate's verification, on whatever runs it: poison, run, compare, look over, run again. With what devices need around it.
// Internal to devices.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "harness/device/device.hpp"
#include "harness/verify/check.hpp"
#include "harness/verify/inputs.hpp"
#include "kernel_templates/common/utility_args.cuh"

namespace phitune {

/// What is run, how its outputs are seen, and how they are judged.
struct VerifiedRun {
  std::function<void(int round)> run;  // fills the outputs with NaN, then runs the candidate and waits; round is 0, then 1
  ReadElements read;
  std::function<Inspection(Buffer)> inspect;
  std::span<const Buffer> outputs;
  const std::vector<Check>& checks;
  /// Adversarial references may lie beyond the dtype, so infinities outside the sampled rows are not wrong.
  bool finite = true;
};

struct TrialledOutcome {
  Outcome outcome = Outcome::ok;
  std::string reason;
  Errors errors;
};

/// Outputs are compared row by row, looked over whole for elements that were not written or are not finite, and written a second time from
/// the same inputs: the checksums of both must agree, bit for bit over the whole of every output. Throws what `run` throws.
[[nodiscard]] TrialledOutcome verify_run(const VerifiedRun& trial);

/// The user's tensors that a plan of this problem reads, and those that it writes.
[[nodiscard]] std::vector<Buffer> plan_inputs(const Problem& problem);
[[nodiscard]] std::vector<Buffer> plan_outputs(const Problem& problem);

/// The full shape of a plan from its stages, each of which keeps only the fields it depends on.
[[nodiscard]] PlanShape shape_of(std::span<const ExecutableStage> stages);

/// A stage problem that gives the user's tensors of a whole problem their shapes.
[[nodiscard]] StageProblem whole_problem(const Problem& problem);

/// What verify_run found, as the candidate's result.
void judge(Result& result, TrialledOutcome trialled);

/// One set of inputs.
using VerifyOn = std::function<TrialledOutcome(InputKind kind, std::uint64_t seed)>;

/// Whole plans are checked on normal inputs of every seed and, if the policy says so, on every adversarial kind, up to the first that they
/// fail on; `verify` does it for one set. The stored errors are the worst over normal inputs, which the tolerance's relative l2 is about.
void verify_on_all_inputs(Result& result, const MeasurePolicy& policy, const VerifyOn& verify);

using Checks = std::shared_ptr<const std::vector<Check>>;

/// References computed before, by what they are references of; the oldest is forgotten. Not thread-safe.
class References {
 public:
  [[nodiscard]] Checks of_stage(const StageProblem& problem, std::uint64_t seed);
  [[nodiscard]] Checks of_plan(const Problem& problem, std::uint64_t seed, InputKind kind);

 private:
  [[nodiscard]] Checks get(const std::string& key, const std::function<std::vector<Check>()>& make);

  struct Kept {
    std::string key;
    Checks checks;
  };
  std::vector<Kept> kept_;
};

/// Wall time since it was made.
class Stopwatch {
 public:
  [[nodiscard]] double ms() const { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace phitune
