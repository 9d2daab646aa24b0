// What a report is built from: sweeps and the tuned table as plain data, whatever stored them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "search/trial.hpp"

namespace phitune {

/// One sweep with its trials.
struct SweepRecord {
  std::string uid, suite, strategy, policy;
  std::uint64_t seed = 0;
  std::string status, reason;        // "finished", "interrupted", ...; reason of the latter
  std::string started_at, ended_at;  // UTC, ISO 8601; ended_at is empty while it runs
  std::string phitune_version, nvrtc_version;
  DeviceInfo device;  // with this sweep's driver and measured ceilings; `replayed` when the numbers are a recording's
  std::vector<Trial> trials;
  std::vector<PlanTrial> plan_trials;
};

/// A row of the tuned table.
struct WinnerRecord {
  DeviceInfo device;
  PlanTrial trial;
  std::string set_at;
  std::string stale_reason;  // why the dispatcher would refuse it; empty when it is current
};

struct Records {
  std::string source;               // for the reader: the database's file name
  std::vector<SweepRecord> sweeps;  // oldest first
  std::vector<WinnerRecord> winners;
  std::map<std::string, std::string> names;  // Problem::key() -> the suite's name; problems without one are named by their shape
};

}  // namespace phitune
