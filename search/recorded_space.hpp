// A space of which every config was tried before: what strategies are compared on, without a GPU.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "search/space.hpp"
#include "search/trial.hpp"

namespace phitune {

/// What trying a config gave. `time_ms` is meaningful only for Outcome::ok; `cost_ms` is the wall time that the trial took on the machine
/// that was recorded (compiling, checking, timing), failures too.
struct RecordedTrial {
  Outcome outcome = Outcome::ok;
  double time_ms = 0;
  double cost_ms = 0;
};

struct RecordedSpace {
  std::string name;  // what was tuned, and on what
  Space space;
  std::vector<RecordedTrial> trials;       // by index of the space
  bool has_costs = true;                   // false: no trial's cost is known, and each counts as one second
  std::optional<StageProblem> stage = {};  // of phitune's own recordings, with the device that ran it
  DeviceInfo device = {};
  std::size_t untried = 0;  // configs of the whole space that were not recorded: 0 makes the best one the winner of an exhaustive search
};

/// The configs that were right, and where the scale between good and ordinary lies.
struct SpaceFacts {
  std::size_t valid = 0;
  double best_ms = 0;
  double median_ms = 0;
};
/// Nothing when no config was right.
[[nodiscard]] std::optional<SpaceFacts> facts_of(const RecordedSpace& space);

}  // namespace phitune
