#include "harness/device/verification.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "harness/verify/oracle.hpp"

namespace phitune {
namespace {

constexpr std::size_t kKeptReferences = 64;

std::vector<Inspection> inspect_all(const VerifiedRun& trial) {
  std::vector<Inspection> seen;
  for (const Buffer output : trial.outputs) seen.push_back(trial.inspect(output));
  return seen;
}

std::string blemish(const VerifiedRun& trial, Buffer output, const Inspection& seen) {
  if (seen.unwritten > 0)
    return fmt::format("{} elements of {} were not written, the first at {}", seen.unwritten, to_string(output), seen.first_bad);
  if (trial.finite && seen.nonfinite > 0)
    return fmt::format("{} elements of {} are NaN or infinite, the first at {}", seen.nonfinite, to_string(output), seen.first_bad);
  return {};
}

Errors worst_of(const Errors& a, const Errors& b) {
  return {.relative_l2 = std::max(a.relative_l2, b.relative_l2),
          .worst_row = std::max(a.worst_row, b.worst_row),
          .worst_element = std::max(a.worst_element, b.worst_element),
          .tolerance = std::min(a.tolerance, b.tolerance),
          .rows_checked = a.rows_checked + b.rows_checked,
          .bitwise_repeatable = a.bitwise_repeatable && b.bitwise_repeatable};
}

}  // namespace

TrialledOutcome verify_run(const VerifiedRun& trial) {
  trial.run(0);
  TrialledOutcome result;
  // A stage that has nothing to write for this problem has nothing that could be wrong.
  if (!trial.checks.empty()) {
    Verdict verdict = compare(trial.checks, trial.read);
    result.errors = verdict.errors;
    if (!verdict.ok) result = {.outcome = Outcome::wrong_result, .reason = std::move(verdict.reason), .errors = verdict.errors};
  }
  const std::vector<Inspection> first = inspect_all(trial);
  for (std::size_t i = 0; i < first.size() && result.outcome == Outcome::ok; ++i) {
    if (std::string wrong = blemish(trial, trial.outputs[i], first[i]); !wrong.empty()) {
      result.outcome = Outcome::wrong_result;
      result.reason = std::move(wrong);
    }
  }
  if (result.outcome != Outcome::ok) return result;

  trial.run(1);
  const std::vector<Inspection> second = inspect_all(trial);
  result.errors.bitwise_repeatable = true;
  for (std::size_t i = 0; i < second.size(); ++i) {
    if (first[i].checksum == second[i].checksum) continue;
    result.errors.bitwise_repeatable = false;
    result.outcome = Outcome::unstable;
    result.reason = fmt::format("two runs on the same inputs differ in {}", to_string(trial.outputs[i]));
  }
  return result;
}

std::vector<Buffer> plan_inputs(const Problem& problem) {
  std::vector<Buffer> inputs{Buffer::q, Buffer::k, Buffer::v};
  if (problem.gated) inputs.push_back(Buffer::log_g);
  if (problem.initial_state) inputs.push_back(Buffer::initial_state);
  return inputs;
}

std::vector<Buffer> plan_outputs(const Problem& problem) {
  if (problem.final_state) return {Buffer::y, Buffer::final_state};
  return {Buffer::y};
}

StageProblem whole_problem(const Problem& problem) {
  return {.problem = problem, .shape = {.fusion = Fusion::quadratic}, .stage = Stage::attention};
}

PlanShape shape_of(std::span<const ExecutableStage> stages) {
  PlanShape shape{.fusion = Fusion::quadratic};
  for (const ExecutableStage& stage : stages) {
    const PlanShape& part = stage.stage.problem.shape;
    switch (stage.stage.problem.stage) {
      case Stage::attention:
        shape.partial = part.partial;
        shape.chunk = part.chunk;
        shape.path = stage.stage.problem.path;
        break;
      // The scan keeps all there is to know of the states, and which strategy it belongs to: expand_mma for those that share its stages.
      case Stage::scan:
      case Stage::update_scan:
        shape.fusion = part.fusion;
        shape.chunk = part.chunk;
        shape.d_tile = part.d_tile;
        shape.state = part.state;
        shape.path = part.path;
        break;
      // Comes last, and has all there is but how its states were made.
      case Stage::attend_query: {
        const bool fused_scan = shape.fusion == Fusion::update_scan;
        shape = part;
        if (fused_scan) shape.fusion = Fusion::two_kernels;
        break;
      }
      default:
        break;
    }
  }
  return shape;
}

void judge(Result& result, TrialledOutcome trialled) {
  result.outcome = trialled.outcome;
  result.reason = std::move(trialled.reason);
  result.errors = trialled.errors;
}

void verify_on_all_inputs(Result& result, const MeasurePolicy& policy, const VerifyOn& verify) {
  const auto passes = [&](InputKind kind, std::uint64_t seed) {
    TrialledOutcome outcome = verify(kind, seed);
    result.checks.push_back({.inputs = std::string(to_string(kind)), .seed = seed, .outcome = outcome.outcome, .errors = outcome.errors});
    if (outcome.outcome == Outcome::ok) {
      if (kind == InputKind::normal) result.errors = result.errors ? worst_of(*result.errors, outcome.errors) : outcome.errors;
      return true;
    }
    if (kind != InputKind::normal || seed != policy.seed)
      outcome.reason = fmt::format("with {} inputs of seed {}: {}", to_string(kind), seed, outcome.reason);
    judge(result, std::move(outcome));
    return false;
  };
  for (int n = 0; n < std::max(1, policy.seeds); ++n)
    if (!passes(InputKind::normal, policy.seed + static_cast<std::uint64_t>(n))) return;
  if (!policy.adversarial) return;
  for (const InputKind kind : adversarial_kinds())
    if (!passes(kind, policy.seed)) return;
}

Checks References::of_stage(const StageProblem& problem, std::uint64_t seed) {
  return get(fmt::format("{} {}", problem.key(), seed), [&] { return stage_checks(problem, seed); });
}

Checks References::of_plan(const Problem& problem, std::uint64_t seed, InputKind kind) {
  return get(fmt::format("{} {} {}", problem.key(), to_string(kind), seed), [&] { return plan_checks(problem, seed, kind); });
}

Checks References::get(const std::string& key, const std::function<std::vector<Check>()>& make) {
  const auto found = std::ranges::find(kept_, key, &Kept::key);
  if (found != kept_.end()) return found->checks;
  if (kept_.size() >= kKeptReferences) kept_.erase(kept_.begin());
  kept_.push_back({key, std::make_shared<const std::vector<Check>>(make())});
  return kept_.back().checks;
}

}  // namespace phitune
