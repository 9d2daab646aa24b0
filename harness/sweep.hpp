// One tuning run over a suite of problems on one device: the main path of phitune.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/compile/compiler.hpp"
#include "harness/device/device.hpp"
#include "harness/store/lessons.hpp"
#include "harness/store/store.hpp"
#include "harness/suite.hpp"
#include "harness/tune/evaluator.hpp"
#include "harness/tune/progress.hpp"
#include "harness/tune/stage_search.hpp"

namespace phitune {

struct SweepOptions {
  SearchPolicy search;
  MeasurePolicy stage_policy;  // of stage trials
  MeasurePolicy final_policy = {
      .warmup = 3, .min_samples = 15, .max_samples = 60, .target_relative_ci = 0.005, .regime = {}, .seeds = 3};  // of whole plans
  bool resume = false;  // go on with the last unfinished sweep of this suite, strategy and seed; begin one when there is none
  CompileScope compile = CompileScope::all;
  Reuse reuse = Reuse::any_sweep;
  // What strategies that heed such know beside the database's earlier sweeps, which count for more; so do later ones of these.
  std::vector<std::shared_ptr<const Lessons>> experience = {};
};

struct ProblemSummary {
  std::string name;
  Problem problem;
  std::optional<PlanTrial> winner;
  std::vector<PlanTrial> finalists;    // with their standings
  std::string reason;                  // why there is no winner
  std::size_t trials = 0;              // that its plans could use, those shared with other problems included
  std::optional<double> incumbent_ms;  // an earlier sweep's winner that is faster than `winner` and therefore stays
  double floor_ms = 0;                 // 0: the device's rates were not measured
  std::size_t spared = 0;              // trials not made because more was not worth it
  double spared_ms = 0;                // of device time: what they would have taken, each the mean of its group's others
};

/// What a search began with.
struct KnownBeforehand {
  std::string what;  // the name of lessons, or "database"
  std::size_t trials = 0;
};

struct SweepSummary {
  SweepInfo sweep;
  std::vector<KnownBeforehand> known;  // of strategies that heed such
  std::vector<ProblemSummary> problems;
  std::map<Outcome, std::int64_t> outcomes;  // of stage trials
  std::size_t trials = 0;                    // new stage trials of this run
  std::size_t resumed = 0;                   // answered by the run that this one goes on with
  std::size_t shared = 0;                    // answered by another problem's trial of the same stage
  std::size_t same_code = 0;                 // of the new ones: taken over from a trial of the same identity
  std::size_t plan_trials = 0;
  Compiler::Counters compiler;
  std::size_t spared = 0;  // trials not made because more was not worth it, and the device time that this spared
  double spared_ms = 0;
  double seconds = 0;
  bool interrupted = false;
};

/// The limits that decide which trials are made and how they are timed, and what was known beside the database, as they are stored with a
/// sweep (JSON).
[[nodiscard]] std::string policy_text(const SweepOptions& options);
/// Reads what policy_text writes into `options`, but for what was known; what the text does not name keeps its value. Throws Error(bad_input) when it is no JSON
/// object or has a value of the wrong type.
void read_policy(const std::string& text, SweepOptions& options);

/// Tunes every problem of the suite and stores every trial and the winners. `stop` is looked at between trials: once it is true the sweep
/// ends as interrupted, with everything so far in the store. Throws DeviceLost or Error when it cannot go on; the store then says `failed`.
SweepSummary sweep(const Suite& suite, Device& device, Compiler& compiler, Store& store, const SweepOptions& options, Progress& progress,
                   const std::atomic<bool>& stop);

}  // namespace phitune
