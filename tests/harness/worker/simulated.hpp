// A simulated GPU in a worker process, described on the spot.
#pragma once

#include <fstream>
#include <string>

#include "harness/device/simulated_device.hpp"
#include "harness/worker/supervised_device.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune::testing_support {

/// Leaves FOLDER/gpu.toml and returns the device's name.
inline std::string simulation(const TemporaryFolder& folder, const std::string& text) {
  const std::filesystem::path file = folder / "gpu.toml";
  std::ofstream(file) << text;
  return "sim:" + file.string();
}

inline WorkerOptions workers(double deadline_ms = 0) {
  return {.program = PHITUNE_BINARY, .arguments = {"worker"}, .deadline_ms = deadline_ms, .openings = 4, .first_pause_ms = 50};
}

/// The n-th of some stages that differ in their name alone; they have no code, and a simulation needs none.
inline ExecutableStage nth_stage(int n) {
  const Problem problem = Problem::parse("b1 t" + std::to_string(64 * (n + 1)) + " h1 d16 p1 bf16 gated none");
  return {.stage = {make_stage_problem(problem, PlanShape::parse("quadratic"), Stage::attention), Config{}}, .binary = nullptr};
}

/// A line of a simulation: nth_stage(n) has this fault.
inline std::string fault(int n, const std::string& kind, const std::string& more = "") {
  return "[[fault]]\nkind = \"" + kind + "\"\nmatch = \"t" + std::to_string(64 * (n + 1)) + "\"\n" + more + "\n";
}

}  // namespace phitune::testing_support
