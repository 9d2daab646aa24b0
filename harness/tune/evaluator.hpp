// A candidate's trial within a sweep: each is tried once, and stored before anyone sees it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "harness/compile/compiler.hpp"
#include "harness/device/device.hpp"
#include "harness/store/store.hpp"
#include "harness/tune/candidate.hpp"
#include "search/trial.hpp"

namespace phitune {

/// Which candidates a recording's answers are compiled for. A device that runs them needs all of them.
enum class CompileScope {
  all,      // every candidate that is in the recording
  leading,  // those that were the best of their stage when their turn came, and what the finalists are made of
};

/// Whose measurements answer for a candidate of the same identity (harness/tune/identity.hpp). Within a sweep it is always measured once.
enum class Reuse {
  any_sweep,   // of the database: editing a space measures only what changed
  this_sweep,  // measure anew what an earlier sweep has measured
};

/// Not thread-safe: it drives the one thread that owns the device. Every trial it returns is in the store already.
class Evaluator {
 public:
  /// All must outlive it. Trials of the sweep that are in the store already (a resumed sweep) are answered from there.
  Evaluator(Device& device, Compiler& compiler, Store& store, std::int64_t sweep, MeasurePolicy policy,
            CompileScope scope = CompileScope::all, Reuse reuse = Reuse::any_sweep);

  /// Queues what evaluate() will want compiled when it is asked about these in this order: after everything queued so far, or before.
  void compile_ahead(const StageProblem& stage, std::span<const Config> configs, Compiler::Turn turn = Compiler::Turn::later);

  struct Evaluated {
    Trial trial;
    bool fresh = true;  // false: another problem of the sweep, or the sweep before it was resumed, had it tried already
  };
  /// `best_ms` > 0: the time to beat; a candidate that is clearly slower is not measured to the end.
  Evaluated evaluate(const StageProblem& stage, const Config& config, double best_ms = 0);

  /// The two halves of evaluate(), for devices that run several at once: exactly one of the three is so.
  struct Begun {
    std::optional<Evaluated> answer;     // no run was needed
    std::optional<Candidate> candidate;  // to be run under `policy`, and its result to be given to finish()
    bool wait = false;                   // the same candidate, or the same machine code, is being run: begin again when that is finished
    MeasurePolicy policy = {};
  };
  [[nodiscard]] Begun begin(const StageProblem& stage, const Config& config, double best_ms = 0);
  Evaluated finish(Candidate candidate, Result result);

  /// The stages of each plan as the device runs them, their binaries from the compiler's memory or cache.
  struct ExecutablePlan {
    std::vector<ExecutableStage> stages;
    std::string does_not_compile;  // which stage and why; empty when all is well
  };
  [[nodiscard]] std::vector<ExecutablePlan> executables(std::span<const Plan> plans);

  /// What became of this candidate and machine code when it ended or damaged a process on this device, which is why it is not run again;
  /// nothing when it may be. `subject` is its candidate_name(), `code` its cubin hashes joined by commas.
  [[nodiscard]] std::optional<Result> quarantined(const std::string& subject, const std::string& code) const;
  /// Stores what the device has seen of such candidates since the last call.
  void store_incidents();

  [[nodiscard]] Compiler& compiler() { return compiler_; }
  [[nodiscard]] std::size_t resumed() const { return resumed_; }      // answers that the store had from before
  [[nodiscard]] std::size_t same_code() const { return same_code_; }  // answers that another config or sweep with the same identity gave
  [[nodiscard]] std::size_t shared() const { return shared_; }        // answers that this run had from before

 private:
  struct Known {
    Trial trial;
    bool stored_before = false;  // by the run that this one resumes
  };

  [[nodiscard]] std::optional<Trial> answer_without_code(const StageProblem& stage, const Config& config, double lead_ms) const;
  [[nodiscard]] const Trial* find_known(const StageProblem& stage, const Config& config, const std::string& source_hash);
  void quarantine(const Incident& incident);
  [[nodiscard]] Begun begin_run(Candidate candidate, double best_ms);
  [[nodiscard]] bool take_over(Trial& trial, double best_ms);
  Evaluated conclude(Trial trial, bool fresh);
  Evaluated remember(Trial trial);
  [[nodiscard]] double lead_of(const StageProblem& stage) const;  // 0: nothing was right so far

  Device& device_;
  Compiler& compiler_;
  Store& store_;
  std::int64_t sweep_;
  MeasurePolicy policy_;
  CompileScope scope_;
  Reuse reuse_;
  std::map<std::string, Known> known_;  // by stage problem, config and source: what makes a trial the same trial
  std::map<std::pair<std::string, std::string>, Incident> quarantine_;  // by subject and code
  std::map<std::string, Timing> leads_;                                 // the fastest of each stage problem so far
  std::set<std::string> running_;                                       // names and identities of what was begun and is not finished
  std::size_t resumed_ = 0, shared_ = 0, same_code_ = 0;
};

}  // namespace phitune
