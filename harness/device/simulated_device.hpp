// A device that times by arithmetic and fails on demand: what sweeps do with crashes, hangs, wrong results and drifting clocks, without a
// GPU.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "harness/device/device.hpp"
#include "harness/device/verification.hpp"
#include "harness/measure/sampling.hpp"

namespace phitune {

/// What becomes of the candidates whose name (candidate_name) has every word of `match` in it.
struct SimulatedFault {
  enum class Kind {
    crash,    // the process ends by SIGSEGV
    abort,    // the process ends by an exception that nobody catches
    hang,     // the call never returns
    endless,  // a kernel that never ends: timed_out after the policy's limit, and the device is damaged
    illegal,  // an illegal address: launch_failed, and the device is damaged
    corrupt,  // right itself, but every later result of the process is wrong
    exhaust,  // right itself, but every later launch of the process is refused: launch_failed
    wrong,    // a silent wrong result
    nan,      // a result with NaN in it
    refused,  // launch_failed, harmlessly: too much shared memory
    memory,   // not enough device memory: pruned
    lost,     // the device is gone, for this process and for those that open it in the next `value` seconds
  };
  Kind kind = Kind::wrong;
  std::vector<std::string> match;
  double value = 0;
  std::string inputs = {};  // wrong, nan: of whole plans, only on inputs with these words in their name ("normal, seed 2", "zero queries, seed 1")
};
[[nodiscard]] std::string_view to_string(SimulatedFault::Kind kind);
[[nodiscard]] SimulatedFault::Kind parse_fault(std::string_view text);

/// How samples scatter around a candidate's time.
struct SimulatedClock {
  double noise = 0;              // relative standard deviation of a sample
  double drift = 0;              // relative slowing per second of device time
  int throttle_every = 0;        // > 0: of this many samples the last is throttled
  double throttle_factor = 1.4;  // how much longer it takes
  double power_cap = 0;          // relative slowing of a sample straight after another; none after a rest as long as that one took
};

struct Simulation {
  std::string name = "simulated GPU";
  std::string board;    // tells two of one name apart; empty: there is only one
  double delay_ms = 0;  // wall time that each trial really takes
  SimulatedClock clock;
  std::vector<SimulatedFault> faults;
  std::filesystem::path file;  // where it was read from; lost devices leave a mark beside it
};

/// Reads a TOML file; docs/worker.md has its form. Throws Error(bad_input) that names what is wrong.
[[nodiscard]] Simulation load_simulation(const std::filesystem::path& file);

/// The contract is Device's. A stage takes between 1 and 2 ms, by its name alone; a plan the sum of its stages. Its DeviceInfo is marked
/// emulated, so its times are neither exported nor dispatched.
class SimulatedDevice : public Device {
 public:
  /// Throws DeviceLost while it is lost.
  explicit SimulatedDevice(Simulation simulation);

  [[nodiscard]] const DeviceInfo& info() const override { return info_; }
  Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) override;
  std::vector<Result> run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                const MeasurePolicy& policy) override;
  [[nodiscard]] bool damaged() const override { return damaged_; }

  /// What a stage takes before noise, from a cache that was flushed and as part of a graph.
  [[nodiscard]] static double stage_ms(const PlanStage& stage);
  /// The same in a regime: a tenth less after rotation, a quarter less from a hot cache, 4 us more when it is launched alone.
  [[nodiscard]] static double stage_ms(const PlanStage& stage, Regime regime);

 private:
  /// What becomes of the candidate until it would be timed.
  Result verify(const std::string& name, const MeasurePolicy& policy);
  /// Of a whole plan that gets so far.
  [[nodiscard]] TrialledOutcome verify_on(const std::string& name, InputKind kind, std::uint64_t seed) const;
  static Result right(const MeasurePolicy& policy);
  Sample sample(double ms, const MeasurePolicy& policy, std::mt19937_64& rng);
  [[nodiscard]] const SimulatedFault* fault_of(const std::string& name) const;

  Simulation simulation_;
  DeviceInfo info_;
  bool damaged_ = false, corrupted_ = false, exhausted_ = false;
  double device_ms_ = 0;      // that it has worked, which is what clocks drift by
  double last_ms_ = 0;        // what the last sample took
  std::int64_t samples_ = 0;  // that it has given
};

}  // namespace phitune
