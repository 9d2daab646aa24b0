// A sweep as a file to ship: compressed JSON lines with every trial and sample, without machine code. docs/database.md has the format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "harness/store/store.hpp"
#include "search/trial.hpp"

namespace phitune {

/// What `replay:FILE` answers from. Trials are ordered by stage problem key, config and source hash; plan trials by problem key and plan
/// text.
struct Recording {
  SweepInfo sweep;  // id and device_id are 0; sweep.device is the device, replayed as it was recorded
  std::vector<Trial> trials;
  std::vector<PlanTrial> plan_trials;
};

/// Everything the store knows of one sweep. Throws Error when there is no such sweep.
[[nodiscard]] Recording recording_of(Store& store, std::int64_t sweep);

/// Complete or absent: written beside `path` and renamed. Equal recordings give equal bytes. Throws Error(io).
void write_recording(const std::filesystem::path& path, const Recording& recording);

/// Throws Error(io) when the file cannot be read, Error(bad_input) naming the line when it is not a recording, is cut short or is of a
/// newer version.
[[nodiscard]] Recording read_recording(const std::filesystem::path& path);

}  // namespace phitune
