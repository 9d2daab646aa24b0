// Whole plans out of the best trial of each stage. Stage times nearly add up, so their sum ranks plans; only the finalists are run end to
// end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "search/plan.hpp"
#include "search/trial.hpp"

namespace phitune {

/// A config of a stage problem that gave the right result, and what decides between it and others.
struct StageCandidate {
  Config config;
  double median_ms = 0;
  double error = 0;            // relative_l2; 0 when it was not verified
  std::int64_t registers = 0;  // per thread; 0 for library stages
  std::string identity;        // of the trial: configs of one identity are one kernel; empty where nothing was compiled
};

/// The trials of a search, as far as composing needs them. Not thread-safe.
/// Differences in time that say nothing of which config is faster: a share of the time, and so many ms whatever it is.
struct Ties {
  double share = 0, ms = 0;
};
/// Of stages timed alone: what two sweeps on one GPU differ by.
inline constexpr Ties kStageTies{.share = 0.005, .ms = 0.0003};

class StageResults {
 public:
  /// A later trial of the same config replaces the earlier one, whatever its outcome.
  void add(const Trial& trial);

  /// The fastest candidate. Those within `ties` of its time are as good: of them the one with the lower error, then with fewer registers,
  /// then with the lexicographically smaller config text. Null when no trial was ok. Does not depend on the order of the trials.
  [[nodiscard]] const StageCandidate* best(const StageProblem& stage, const Ties& ties = {}) const;

  /// Every config of the stage that was right and timed, in order of their text.
  [[nodiscard]] std::vector<const StageCandidate*> candidates(const StageProblem& stage) const;

  /// Why there is no best: "3 trials of scan: 2 compile_failed, 1 wrong_result (first: ...)", "scan was not tried".
  [[nodiscard]] std::string why_none(const StageProblem& stage) const;

 private:
  struct Failure {
    Outcome outcome;
    std::string reason;
  };
  struct Tried {
    std::map<std::string, StageCandidate> ok;  // by config text
    std::map<std::string, Failure> failed;     // likewise
  };
  std::map<StageProblem, Tried> tried_;
};

struct Composition {
  Plan plan;
  std::vector<double> stage_ms;  // same order as plan.stages
  double sum_ms = 0;
};

struct Composed {
  std::vector<Composition> ranked;             // least sum first; ties by fewer stages, then by the shape's text
  std::vector<PlanShapes::Pruned> impossible;  // and which stage is missing, and why
};

/// Composes every given shape of the problem; each appears once, in `ranked` or in `impossible`.
[[nodiscard]] Composed compose(const Problem& problem, std::span<const PlanShape> shapes, const StageResults& results,
                               const Ties& ties = {});

inline constexpr std::size_t kRivalsOfAStage = 2;

/// What else may be as fast as the best of `chosen`: for every composition within `near` of the least sum, and for each of its stages, the plan
/// with another kernel for that stage, those of the nearest times that keep the sum within `near`, at most kRivalsOfAStage. Trials of stages, measured one after
/// another, put such kernels in an order that may be chance; whole plans in paired rounds, and the rule for those that cannot be told apart,
/// do not. At most `most`, those of the best composition first, and of it the stage that takes longest.
[[nodiscard]] std::vector<Composition> rivals(std::span<const Composition> chosen, const StageResults& results, double near, std::size_t most);

/// The best `count` of `ranked`, and beyond them the best of every fusion strategy that they leave out; least sum first.
[[nodiscard]] std::vector<Composition> finalists(std::span<const Composition> ranked, std::size_t count);

}  // namespace phitune
