#include "harness/cli/records.hpp"

#include "harness/suite.hpp"

namespace phitune::cli {

Records records_of(Store& store, const std::string& suite) {
  Records records;
  records.source = store.path().filename().string();
  for (const SweepInfo& info : store.sweeps()) {
    SweepRecord record;
    record.uid = info.uid;
    record.suite = info.suite;
    record.strategy = info.strategy;
    record.policy = info.policy;
    record.seed = info.seed;
    record.status = to_string(info.status);
    record.reason = info.reason;
    record.started_at = info.started_at;
    record.ended_at = info.ended_at;
    record.phitune_version = info.phitune_version;
    record.nvrtc_version = info.nvrtc_version;
    record.device = info.device;
    TrialFilter of_sweep;
    of_sweep.sweep = info.id;
    store.for_each_trial(of_sweep, [&](const StoredTrial& stored) { record.trials.push_back(stored.trial); });
    store.for_each_plan_trial(of_sweep, [&](const StoredPlanTrial& stored) { record.plan_trials.push_back(stored.trial); });
    records.sweeps.push_back(std::move(record));
  }
  for (const Winner& winner : store.winners())
    records.winners.push_back({winner.device, winner.plan_trial.trial, winner.set_at, winner.stale_reason});
  if (!suite.empty()) {
    for (const SuiteProblem& named : load_suite(suite).problems) records.names[named.problem.key()] = named.name;
  }
  return records;
}

Records without_emulation(Records records, std::size_t& left_out) {
  left_out = std::erase_if(records.sweeps, [](const SweepRecord& sweep) { return sweep.device.emulated; });
  std::erase_if(records.winners, [](const WinnerRecord& winner) { return winner.device.emulated; });
  return records;
}

}  // namespace phitune::cli
