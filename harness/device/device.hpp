// The thing that answers "is this config right, and how long does it take": a GPU, a recording of one, or the CPU in its place.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "harness/compile/compiler.hpp"
#include "kernel_templates/stage_template.hpp"
#include "search/trial.hpp"

namespace phitune {

/// How much effort a measurement is worth.
struct MeasurePolicy {
  int warmup = 2;
  int min_samples = 5;
  int max_samples = 30;
  double target_relative_ci = 0.01;  // stop once the 95 % interval of the median is narrower than this share of it; for whole plans: once
                                     // settled()
  double time_to_beat_ms = 0;        // > 0: what the best so far takes: who is near it is measured with more effort ...
  std::vector<double> samples_to_beat = {};  // ... and its samples: who is proven slower by them is not measured to the end
  double timeout_ms = 10000;                 // longer than this for one launch: timed_out
  double rest = 2;                           // the device rests before a sample for so many times what the last one took (rest_ms())
  Regime regime = {};
  std::uint64_t seed = 1;
  int seeds = 1;            // run_plans checks normal inputs of so many seeds, `seed` and those that follow it
  bool adversarial = true;  // run_plans checks every kind of adversarial input too (harness/verify/inputs.hpp)
};

/// A stage ready to run: its binary (empty for library stages) and where it stands in the plan.
struct ExecutableStage {
  PlanStage stage;
  std::shared_ptr<const Binary> binary;  // null for Path::library
};

/// A stage to be run, and whatever number its asker knows it by.
struct StageRun {
  ExecutableStage stage;
  MeasurePolicy policy;
  std::uint64_t number = 0;
};

/// Not thread-safe: exactly one thread owns a device. Evaluations never throw for a bad candidate; that is an outcome.
/// They throw DeviceLost when the device itself cannot go on.
class Device {
 public:
  virtual ~Device() = default;
  [[nodiscard]] virtual const DeviceInfo& info() const = 0;

  /// Verify, then time, one config of one stage problem.
  virtual Result run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) = 0;

  /// Runs what `next` gives until it gives nothing, and hands each result to `done`, both called on the calling thread. A device that runs
  /// several at once asks `next` again after every `done`, for an answer may raise new questions, and says what it may be given now.
  using MayRun = std::function<bool(const StageProblem&)>;
  using NextRun = std::function<std::optional<StageRun>(const MayRun& may)>;
  using RunDone = std::function<void(const StageRun&, Result)>;
  virtual void run_stages(const NextRun& next, const RunDone& done) {
    while (const auto run = next([](const StageProblem&) { return true; })) done(*run, run_stage(run->stage, run->policy));
  }

  /// What run_stage would answer, told without the stage's code: the trial that a recording holds, or one pruned for not being in it (both
  /// hashes empty); or that a device that runs what it is asked about will not run this, and why. Nothing when only a run can tell.
  [[nodiscard]] virtual std::optional<Trial> recall(const PlanStage& /*stage*/, const MeasurePolicy& /*policy*/) const {
    return std::nullopt;
  }

  /// Verify and time whole plans of one problem end to end, in rounds of one sample each in shuffled order, so that neither drift nor a
  /// place in the order can pick the winner. All have equally many samples, those of one round at one place: they are pairs.
  /// Results in the order of `plans`.
  virtual std::vector<Result> run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                        const MeasurePolicy& policy) = 0;

  /// Whether a result follows from machine code, launch, inputs and policy. Not for a recording, which is asked by name.
  [[nodiscard]] virtual bool runs_machine_code() const { return true; }

  /// A candidate left the device in doubt (it broke the context, or still runs): what comes next belongs into another process.
  [[nodiscard]] virtual bool damaged() const { return false; }

  /// What was seen of candidates that end or damage the process that runs them, since the last call. Only a device that runs them in
  /// processes of their own can tell.
  [[nodiscard]] virtual std::vector<Incident> take_incidents() { return {}; }
};

/// What a device is opened for. verify: candidates are checked and never timed, so no rate is measured either; this is also what tools that
/// slow the device down beyond recognition need (compute-sanitizer). measure_again: the device's rates are known to whoever asks.
enum class Use { measure, verify, measure_again };

/// For the device host alone.
struct HostOptions {
  std::filesystem::path cache_directory;  // of kernels compiled for the CPU; empty: none
  double limit_s = 10;                    // a launch whose emulation is estimated to take longer is pruned
};

/// The devices of a list: "cuda:0,cuda:1", "sim:A,sim:B", or "cuda:all" for every GPU of this machine; of one name, that name.
[[nodiscard]] std::vector<std::string> devices_named(const std::string& list);

/// "cuda:0", "replay:FILE", "host", "host:sm_90a" or "sim:FILE". Throws Error with what to do when there is no such device.
[[nodiscard]] std::unique_ptr<Device> open_device(const std::string& name, Use use = Use::measure, const HostOptions& host = {});

/// The GPUs of this machine, unmeasured (copy_tbps and matrix_tflops are 0); `reason` says why there are none. Never throws.
struct DeviceList {
  std::vector<DeviceInfo> devices;
  std::string reason;
};
[[nodiscard]] DeviceList list_devices();

}  // namespace phitune
