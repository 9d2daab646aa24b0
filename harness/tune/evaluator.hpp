// The life of one candidate: source, compile, static gate, verify, time, store.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "harness/compile/compiler.hpp"
#include "harness/device/device.hpp"
#include "harness/store/store.hpp"
#include "search/trial.hpp"

namespace phitune {

/// Not thread-safe: it drives the one thread that owns the device. Every trial it returns is in the store already.
class Evaluator {
 public:
  /// All must outlive it. Trials of the sweep that are in the store already (a resumed sweep) are answered from there.
  Evaluator(Device& device, Compiler& compiler, Store& store, std::int64_t sweep, MeasurePolicy policy);

  /// Queues the compilation so that it is done when evaluate() asks.
  void compile_ahead(const StageProblem& stage, const Config& config);

  /// `best_ms` > 0: the time to beat; a candidate that is clearly slower is not measured to the end.
  Trial evaluate(const StageProblem& stage, const Config& config, double best_ms = 0);

  /// The stage as the device runs it, its binary from the compiler's memory or cache. Throws Error when it does not compile.
  [[nodiscard]] ExecutableStage executable(const PlanStage& stage);

  [[nodiscard]] std::size_t resumed() const { return resumed_; }

 private:
  Trial try_candidate(const StageProblem& stage, const Config& config, double best_ms);

  Device& device_;
  Compiler& compiler_;
  Store& store_;
  std::int64_t sweep_;
  MeasurePolicy policy_;
  std::map<std::string, Trial> recorded_;  // by stage problem, config and source
  std::size_t resumed_ = 0;
};

}  // namespace phitune
