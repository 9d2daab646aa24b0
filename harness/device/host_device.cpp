#include "harness/device/host_device.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>
#include <thread>

#include "harness/compile/host_compiler.hpp"
#include "harness/device/host_gemm.hpp"
#include "harness/device/host_memory.hpp"
#include "harness/device/isolated.hpp"
#include "harness/device/nominal_device.hpp"
#include "harness/device/verification.hpp"
#include "harness/measure/statistics.hpp"
#include "harness/verify/parallel.hpp"
#include "harness/verify/utility_calls.hpp"
#include "kernel_templates/common/host/executor.hpp"
#include "kernel_templates/common/utility.cuh"

namespace phitune {
namespace {

// Of one core, measured with the shipped templates on a current x86-64 server; only the order of magnitude matters.
constexpr double kMatrixFlops = 0.4e9;
constexpr double kBytes = 100e6;
constexpr double kThreads = 1e6;

// A launch that takes this many times the longest that may be estimated does not end.
constexpr double kTimeoutFactor = 10;

constexpr unsigned kUtilityBlocks = 4;

// An address in the first page, which is never mapped.
constexpr std::uintptr_t kNowhere = 256;

/// A candidate cannot be run, or went wrong while it ran: failure that is data.
class NotRight : public std::runtime_error {
 public:
  NotRight(Outcome outcome, const std::string& reason) : std::runtime_error(reason), outcome_(outcome) {}
  [[nodiscard]] Outcome outcome() const { return outcome_; }

 private:
  Outcome outcome_;
};

unsigned cores() { return std::max(1u, std::thread::hardware_concurrency()); }

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  utsname system{};
  return ::uname(&system) == 0 ? system.machine : "unknown processor";
}

host::Extent extent(const std::uint32_t (&size)[3]) { return {size[0], size[1], size[2]}; }

void run_utility_on_host(const UtilityArgs& args, unsigned blocks) {
  host::launch({blocks, 1, 1}, {kUtilityThreads, 1, 1}, kUtilitySharedBytes, [&] { run_utility(args); });
}

/// The tensors of one candidate's run, each apart from the others.
class Buffers {
 public:
  void* add(Buffer buffer, std::int64_t bytes) {
    return memory_.insert_or_assign(buffer, HostMemory(static_cast<std::size_t>(bytes))).first->second.data();
  }
  [[nodiscard]] bool has(Buffer buffer) const { return memory_.contains(buffer); }
  [[nodiscard]] HostMemory& at(Buffer buffer) { return memory_.at(buffer); }
  void poison_all_but(const std::vector<Buffer>& kept) {
    for (auto& [buffer, memory] : memory_) {
      if (std::ranges::find(kept, buffer) == kept.end()) memory.poison();
    }
  }

  [[nodiscard]] std::string describe(const void* address) const {
    const std::string who = host::running_thread();
    const auto owner = std::ranges::find_if(memory_, [&](const auto& entry) { return entry.second.covers(address); });
    if (owner == memory_.end()) return fmt::format("{} touched address {}, which is no buffer's", who, address);
    const auto offset = static_cast<const char*>(address) - owner->second.data();
    const auto size = static_cast<std::ptrdiff_t>(owner->second.size());
    if (offset >= 0 && offset < size)
      return fmt::format("{} wrote to {}, which it may only read, at byte {}", who, to_string(owner->first), offset);
    return fmt::format("{} touched byte {} of {}, which has {} bytes", who, offset, to_string(owner->first), size);
  }

 private:
  std::map<Buffer, HostMemory> memory_;
};

/// One kernel of a run, or a matrix product that a library does on a GPU.
struct Step {
  StageProblem problem;
  std::shared_ptr<const HostKernel> kernel;  // null for a product
  Launch launch;
};

/// A candidate, ready to run.
struct Prepared {
  std::vector<Step> steps;
  Args args;
  Buffers buffers;
  std::vector<Buffer> inputs;
};

void fill(Buffers& buffers, Args& args, Buffer buffer, const StageProblem& problem, std::uint64_t seed, InputKind kind) {
  void* data = nullptr;
  if (buffer == Buffer::gates) {
    const InputTensor log_g = input_tensor(Buffer::log_g, problem, seed, kind);
    HostMemory source(static_cast<std::size_t>(log_g.shape.size_bytes()));
    run_utility_on_host(fill_call(log_g, source.data()), kUtilityBlocks);
    data = buffers.add(buffer, buffer_shape(buffer, problem).size_bytes());
    run_utility_on_host(gates_call(problem, source.data(), data),
                        static_cast<unsigned>(problem.problem.b * problem.problem.hk * problem.chunks()));
  } else {
    const InputTensor tensor = input_tensor(buffer, problem, seed, kind);
    data = buffers.add(buffer, tensor.shape.size_bytes());
    run_utility_on_host(fill_call(tensor, data), kUtilityBlocks);
  }
  buffers.at(buffer).make_read_only();
  set_pointer(args, buffer, data);
}

/// Runs all steps once, in this process; ms.
double run_steps(const Prepared& run, std::uint64_t schedule) {
  const Stopwatch watch;
  for (const Step& step : run.steps) {
    if (!step.kernel) {
      multiply_on_host(gemm_of(step.problem), gemm_pointers(step.problem, run.args));
      continue;
    }
    for (const Buffer buffer : counters_of(step.problem))
      std::memset(pointer_of(run.args, buffer), 0, static_cast<std::size_t>(buffer_shape(buffer, step.problem).size_bytes()));
    host::launch(extent(step.launch.grid), extent(step.launch.block), step.launch.dynamic_shared_bytes, [&] { step.kernel->run(run.args); },
                 {.seed = schedule, .cooperative = step.launch.cooperative});
  }
  return watch.ms();
}

Inspection inspect(const StageProblem& problem, Buffer buffer, const void* data) {
  std::vector<Inspection> parts(kUtilityBlocks);
  run_utility_on_host(inspect_call(problem, buffer, data, parts.data()), kUtilityBlocks);
  Inspection whole;
  for (const Inspection& part : parts) merge(whole, part);
  return whole;
}

Timing timing_of(std::vector<double> samples, Regime regime) {
  Timing timing;
  timing.median_ms = median(samples);
  timing.iqr_ms = interquartile_range(samples);
  timing.samples_ms = std::move(samples);
  timing.regime = regime;
  return timing;
}

// Of a launch whose blocks wait for each other; 0 of any other.
std::uint64_t threads_at_once(const PlanStage& stage) {
  if (stage.problem.path == Path::library) return 0;
  const Launch launch = stage_template(stage.problem.stage, stage.problem.path).launch(stage.problem, stage.config);
  return launch.cooperative ? std::uint64_t{launch.grid[0]} * launch.block[0] : 0;
}

}  // namespace

double emulation_s(const PlanStage& stage) {
  const Work work = work_of(stage.problem);
  double threads = 0;
  if (stage.problem.path != Path::library) {
    const Launch launch = stage_template(stage.problem.stage, stage.problem.path).launch(stage.problem, stage.config);
    threads = 1;
    for (const std::uint32_t size : launch.grid) threads *= size;
    for (const std::uint32_t size : launch.block) threads *= size;
  }
  return (work.flops / kMatrixFlops + work.bytes / kBytes + threads / kThreads) / cores();
}

DeviceInfo host_info(const std::string& architecture) {
  DeviceInfo info = nominal_device(architecture);
  info.name = "host";
  info.uuid = fmt::format("CPU {} x {}", processor(), cores());
  info.memory_bytes = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  info.l2_bytes = 0;
  info.emulated = true;
  return info;
}

struct HostDevice::State {
  State(const std::string& architecture, const HostOptions& given, Use device_use)
      : options(given), use(device_use), compiler(given.cache_directory), info(host_info(architecture)) {
    info.driver = compiler.version();
    info.runtime = Compiler::nvrtc_version();
  }

  HostOptions options;
  Use use;
  HostCompiler compiler;
  DeviceInfo info;
  References references;

  [[nodiscard]] std::optional<std::string> too_large(const PlanStage& stage) const {
    if (const std::uint64_t threads = threads_at_once(stage); threads > host::most_threads_at_once)
      return fmt::format(
          "too large for the CPU: its blocks all run at once, {} threads of them, and {} are emulated at once. Take a smaller t or fewer heads", threads, host::most_threads_at_once);
    const double seconds = emulation_s(stage);
    if (seconds <= options.limit_s) return std::nullopt;
    return fmt::format(
        "too large for the CPU: its emulation would take about {:.0f} s a launch and {:.0f} s are allowed. Take a smaller t or fewer "
        "heads, "
        "or allow more with --emulation-limit",
        seconds, options.limit_s);
  }

  /// Compiles what the stages run. Throws NotRight.
  std::vector<Step> prepare(std::span<const ExecutableStage> stages) {
    std::vector<Step> steps(stages.size());
    std::vector<HostCompiled> compiled(stages.size());
    for (const ExecutableStage& stage : stages) {
      if (auto reason = too_large(stage.stage)) throw NotRight(Outcome::pruned, *reason);
    }
    parallel_for(stages.size(), [&](std::size_t i) {
      const PlanStage& stage = stages[i].stage;
      steps[i].problem = stage.problem;
      if (stage.problem.path == Path::library) return;
      const StageTemplate& kernel = stage_template(stage.problem.stage, stage.problem.path);
      steps[i].launch = kernel.launch(stage.problem, stage.config);
      compiled[i] = compiler.compile(kernel.source(stage.problem, stage.config));
      steps[i].kernel = compiled[i].kernel;
    });
    for (const HostCompiled& each : compiled) {
      if (each.outcome != Outcome::ok) throw NotRight(each.outcome, each.reason);
    }
    return steps;
  }

  /// One run in a process of its own; ms. Throws NotRight.
  double run_once(Prepared& run, int round, const MeasurePolicy& policy) const {
    run.buffers.poison_all_but(run.inputs);
    // The first run keeps to the order of the threads; another order must not change a bit.
    const std::uint64_t schedule = round == 0 ? 0 : policy.seed + 1;
    const IsolatedResult result =
        run_isolated([&] { return run_steps(run, schedule); }, [&](const void* address) { return run.buffers.describe(address); },
                     std::max(policy.timeout_ms, kTimeoutFactor * 1000 * options.limit_s));
    if (result.outcome != Outcome::ok)
      throw NotRight(result.outcome, result.reason + (round == 0 ? "" : " (with the threads in another order)"));
    return result.value;
  }

  TrialledOutcome verify(Prepared& run, const StageProblem& problem, const std::vector<Buffer>& outputs, const Checks& checks, bool finite,
                         const MeasurePolicy& policy, std::vector<double>& samples) const {
    return verify_run({.run = [&](int round) { samples.push_back(run_once(run, round, policy)); },
                       .read =
                           [&](Buffer buffer, std::int64_t offset, std::int64_t count, void* out) {
                             const std::int64_t size = bytes(buffer_shape(buffer, problem).dtype);
                             std::memcpy(out, run.buffers.at(buffer).data() + offset * size, static_cast<std::size_t>(count * size));
                           },
                       .inspect = [&](Buffer buffer) { return inspect(problem, buffer, run.buffers.at(buffer).data()); },
                       .outputs = outputs,
                       .checks = *checks,
                       .finite = finite});
  }

  /// Runs `evaluate` and turns what goes wrong with a candidate into a result.
  template <typename Evaluate>
  Result guarded(const MeasurePolicy& policy, Evaluate&& evaluate) {
    Result result;
    result.seed = policy.seed;
    const Stopwatch watch;
    try {
      evaluate(result);
    } catch (const NotRight& wrong) {
      result.outcome = wrong.outcome();
      result.reason = wrong.what();
      result.timing.reset();
    }
    result.verify_ms = watch.ms();
    return result;
  }

  void time(Result& result, std::vector<double> samples, const MeasurePolicy& policy) const {
    if (result.outcome == Outcome::ok && use != Use::verify) result.timing = timing_of(std::move(samples), policy.regime);
  }

  TrialledOutcome verify_plan(const StageProblem& whole, std::span<const ExecutableStage> stages, const std::vector<Step>& steps,
                              InputKind kind, std::uint64_t seed, const MeasurePolicy& policy, std::vector<double>& samples) {
    const Problem& problem = whole.problem;
    Prepared run{.steps = steps, .args = {}, .buffers = {}, .inputs = plan_inputs(problem)};
    const PlanShape shape = shape_of(stages);
    // Sizes; every pointer into this workspace is replaced by memory of its own below.
    bind_workspace(run.args, problem, shape, reinterpret_cast<void*>(kNowhere));
    for (const Buffer buffer : run.inputs) fill(run.buffers, run.args, buffer, whole, seed, kind);
    const std::vector<Buffer> outputs = plan_outputs(problem);
    for (const Buffer buffer : outputs) set_pointer(run.args, buffer, run.buffers.add(buffer, buffer_shape(buffer, whole).size_bytes()));
    const bool aliases = workspace_of(problem, shape).state_aliases_update;
    for (const ExecutableStage& stage : stages) {
      for (const auto& buffers : {outputs_of(stage.stage.problem), counters_of(stage.stage.problem), scratch_of(stage.stage.problem)}) {
        for (const Buffer buffer : buffers) {
          if (run.buffers.has(buffer) || (aliases && (buffer == Buffer::state || buffer == Buffer::state_z))) continue;
          set_pointer(run.args, buffer, run.buffers.add(buffer, buffer_shape(buffer, stage.stage.problem).size_bytes()));
        }
      }
    }
    if (aliases) run.args.state = run.args.update, run.args.state_z = run.args.update_z;
    const Checks checks = references.of_plan(problem, seed, kind);
    return verify(run, whole, outputs, checks, kind == InputKind::normal, policy, samples);
  }
};

HostDevice::HostDevice(const std::string& architecture, const HostOptions& options, Use use)
    : state_(std::make_unique<State>(architecture, options, use)) {}
HostDevice::~HostDevice() = default;

const DeviceInfo& HostDevice::info() const { return state_->info; }

std::optional<Trial> HostDevice::recall(const PlanStage& stage, const MeasurePolicy& policy) const {
  const auto reason = state_->too_large(stage);
  if (!reason) return std::nullopt;
  Trial trial;
  trial.problem = stage.problem;
  trial.config = stage.config;
  trial.result.outcome = Outcome::pruned;
  trial.result.reason = *reason;
  trial.result.seed = policy.seed;
  return trial;
}

Result HostDevice::run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) {
  State& state = *state_;
  const StageProblem& problem = stage.stage.problem;
  return state.guarded(policy, [&](Result& result) {
    Prepared run{.steps = state.prepare(std::span(&stage, 1)), .args = {}, .buffers = {}, .inputs = inputs_of(problem)};
    set_sizes(run.args, problem);
    for (const Buffer buffer : run.inputs) fill(run.buffers, run.args, buffer, problem, policy.seed, InputKind::normal);
    const std::vector<Buffer> outputs = outputs_of(problem);
    for (const auto& buffers : {outputs, counters_of(problem), scratch_of(problem)}) {
      for (const Buffer buffer : buffers) set_pointer(run.args, buffer, run.buffers.add(buffer, buffer_shape(buffer, problem).size_bytes()));
    }
    std::vector<double> samples;
    judge(result, state.verify(run, problem, outputs, state.references.of_stage(problem, policy.seed), true, policy, samples));
    state.time(result, std::move(samples), policy);
  });
}

std::vector<Result> HostDevice::run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                          const MeasurePolicy& policy) {
  State& state = *state_;
  const StageProblem whole = whole_problem(problem);
  std::vector<Result> results;
  for (const std::vector<ExecutableStage>& plan : plans) {
    results.push_back(state.guarded(policy, [&](Result& result) {
      const std::vector<Step> steps = state.prepare(plan);
      std::vector<double> samples;
      verify_on_all_inputs(result, policy, [&](InputKind kind, std::uint64_t seed) {
        // Times are those of the first set, normal inputs.
        std::vector<double> of_this_set;
        TrialledOutcome outcome = state.verify_plan(whole, plan, steps, kind, seed, policy, of_this_set);
        if (samples.empty()) samples = std::move(of_this_set);
        return outcome;
      });
      state.time(result, std::move(samples), policy);
    }));
  }
  return results;
}

}  // namespace phitune
