// A recording of a sweep of one tiny problem on the synthetic device: few kernels, each compiled for real in a moment.
#pragma once

#include <atomic>
#include <filesystem>

#include "harness/store/recording.hpp"
#include "harness/sweep.hpp"
#include "tests/harness/tune/synthetic_device.hpp"

namespace phitune::testing_support {

inline const std::string tiny_problem = "b1 t512 h1 d16 p1 bf16 ungated none";

/// Sweeps in this process and leaves FOLDER/tiny.jsonl.gz and FOLDER/made.db.
inline SweepSummary make_tiny_recording(const std::filesystem::path& folder) {
  SyntheticDevice device;
  Compiler compiler({device.info().architecture, PHITUNE_TEST_CACHE, 0});
  Store store(folder / "made.db");
  SweepOptions options;
  options.search.trials = 3;
  options.search.carried = 1;
  options.search.lesser_trials = 1;
  options.search.plan_bound = 1.2;
  options.search.seed = 5;
  Progress silent(Progress::Style::silent);
  const std::atomic<bool> stop{false};
  SweepSummary summary = sweep(suite_of({tiny_problem}), device, compiler, store, options, silent, stop);
  write_recording(folder / "tiny.jsonl.gz", recording_of(store, summary.sweep.id));
  return summary;
}

}  // namespace phitune::testing_support
