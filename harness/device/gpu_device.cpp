#include "harness/device/gpu_device.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "harness/device/gpu_properties.hpp"
#include "harness/device/gpu_session.hpp"
#include "harness/device/trial_run.hpp"
#include "harness/error.hpp"
#include "harness/measure/rotation.hpp"
#include "harness/measure/statistics.hpp"

namespace phitune {

namespace {

/// Makes the device current and the context alive.
int select(int ordinal) {
  cuda::check(cudaSetDevice(ordinal));
  return ordinal;
}

void time_into(Result& result, Timing timing) {
  if (auto reason = unstable(timing.samples_ms)) {
    result.outcome = Outcome::unstable;
    result.reason = std::move(*reason);
  }
  result.timing = std::move(timing);
}

}  // namespace

struct GpuDevice::State {
  State(int device_ordinal, Use device_use)
      : use(device_use),
        info(cuda::device_info(device_ordinal)),
        ordinal(select(device_ordinal)),
        nvml(cuda::pci_bus_id(device_ordinal)),
        utilities(cuda::compile_utilities(info.architecture)),
        session(make_session()) {
    if (use != Use::measure) return;
    const cuda::Ceilings ceilings = cuda::measure_ceilings(*session, info.memory_bytes);
    info.copy_tbps = ceilings.copy_tbps;
    info.matrix_tflops = ceilings.matrix_tflops;
  }

  ~State() {
    // Nothing of it can be freed: a kernel that never ends would be waited for, and a broken context refuses.
    if (!lost.empty()) static_cast<void>(session.release());
  }

  std::unique_ptr<cuda::GpuSession> make_session() const { return std::make_unique<cuda::GpuSession>(utilities, info, nvml); }

  /// What is said of a plan whose turn did not come before the device was lost.
  Result not_run(const MeasurePolicy& policy) const {
    Result result;
    result.outcome = Outcome::pruned;
    result.reason = "not run: " + lost;
    result.seed = policy.seed;
    return result;
  }

  void require_alive() const {
    if (!lost.empty()) throw DeviceLost(lost);
  }

  /// Runs `evaluate` and turns what goes wrong with a candidate into a result.
  template <typename Evaluate>
  Result guarded(const MeasurePolicy& policy, Evaluate&& evaluate) {
    Result result;
    result.seed = policy.seed;
    const auto failed = [&result](Outcome outcome, const std::string& reason) {
      result.outcome = outcome;
      result.reason = reason;
      result.timing.reset();
    };
    try {
      evaluate(result);
    } catch (const cuda::OutOfMemory& error) {
      failed(Outcome::pruned, error.what());
    } catch (const cuda::NotRunnable& error) {
      failed(error.outcome(), error.what());
    } catch (const cuda::TimedOut& error) {
      failed(Outcome::timed_out, error.what());
      if (error.hung()) lost = fmt::format("{} runs a kernel that does not end. Start phitune again, without --in-process: a "
                               "worker process is ended together with its kernel", info.name);
    } catch (const cuda::CudaError& error) {
      failed(Outcome::launch_failed, error.what());
      give_up_if_broken(error.what());
    }
    return result;
  }

  /// A sticky error ends the context, and the driver gives a process no second one that could be relied upon.
  void give_up_if_broken(const std::string& cause) {
    if (!cuda::context_is_broken()) return;
    lost = fmt::format(
        "{} answers this process nothing but errors after {}. Start phitune again, without --in-process: a worker process then takes such "
        "a candidate's end upon itself, and the next one goes on",
        info.name, cause);
  }

  Args bind_stage(const StageProblem& problem, std::uint64_t seed, std::size_t copy = 0) {
    Args args;
    set_sizes(args, problem);
    for (const Buffer buffer : inputs_of(problem)) {
      void* data = buffer == Buffer::gates ? session->pool.gates(problem, seed, InputKind::normal, copy)
                                           : session->pool.input(input_tensor(buffer, problem, seed, InputKind::normal), copy);
      set_pointer(args, buffer, data);
    }
    for (const auto& buffers : {outputs_of(problem), counters_of(problem), scratch_of(problem)}) {
      for (const Buffer buffer : buffers)
        set_pointer(args, buffer, session->pool.scratch(std::string(to_string(buffer)), buffer_shape(buffer, problem).size_bytes(), copy));
    }
    return args;
  }

  /// How many copies of tensors of so many bytes the regime needs. Throws NotRunnable when they are too many.
  [[nodiscard]] std::size_t copies_of(std::int64_t bytes, const MeasurePolicy& policy) const {
    if (policy.regime.cache != Regime::Cache::rotation) return 1;
    const auto copies = rotation_copies(bytes, info.l2_bytes);
    if (copies) return *copies;
    throw cuda::NotRunnable(Outcome::pruned,
                            fmt::format("its {} bytes are too few to exceed the L2 cache of {} by rotation over {} copies; time it by flush", bytes,
                                        info.l2_bytes, kMostCopies));
  }

  Timing time_stage(const StageProblem& problem, const cuda::Pipeline& pipeline, const MeasurePolicy& policy) {
    std::int64_t bytes = 0;
    for (const auto& buffers : {inputs_of(problem), outputs_of(problem)})
      for (const Buffer buffer : buffers) bytes += buffer_shape(buffer, problem).size_bytes();
    std::vector<Args> copies;
    for (std::size_t n = copies_of(bytes, policy); copies.size() < n;) copies.push_back(bind_stage(problem, policy.seed, copies.size()));
    return session->measurement.measure(session->prepare(pipeline, copies, policy.regime.launches), policy);
  }

  /// The user's tensors of a plan, and its workspace.
  Args bind_plan(const StageProblem& whole, const PlanShape& shape, InputKind kind, std::uint64_t seed, std::size_t copy = 0) {
    const Problem& problem = whole.problem;
    Args args;
    for (const Buffer buffer : plan_inputs(problem))
      set_pointer(args, buffer, session->pool.input(input_tensor(buffer, whole, seed, kind), copy));
    for (const Buffer buffer : plan_outputs(problem)) {
      set_pointer(args, buffer, session->pool.scratch(std::string(to_string(buffer)), buffer_shape(buffer, whole).size_bytes(), copy));
    }
    bind_workspace(args, problem, shape, session->pool.scratch("workspace", workspace_of(problem, shape).total(), copy));
    return args;
  }

  /// Verifies one plan on one kind of input; every kind of input is its own use of the pool.
  TrialledOutcome verify_plan(const StageProblem& whole, std::span<const ExecutableStage> stages, InputKind kind, std::uint64_t seed,
                              double timeout_ms) {
    const Problem& problem = whole.problem;
    session->begin();
    const Args args = bind_plan(whole, shape_of(stages), kind, seed);
    const Checks checks = references.of_plan(problem, seed, kind);
    const cuda::Pipeline& pipeline = session->load(stages);
    const std::vector<Buffer> outputs = plan_outputs(problem);
    return cuda::verify_on_device(*session, {.pipeline = pipeline,
                                             .args = args,
                                             .problem = whole,
                                             .outputs = outputs,
                                             .checks = *checks,
                                             .timeout_ms = timeout_ms,
                                             .finite = kind == InputKind::normal});
  }

  Result verify_plan_on_all(const StageProblem& whole, std::span<const ExecutableStage> stages, const MeasurePolicy& policy) {
    return guarded(policy, [&](Result& result) {
      const Stopwatch watch;
      verify_on_all_inputs(result, policy, [&](InputKind kind, std::uint64_t seed) {
        return verify_plan(whole, stages, kind, seed, policy.timeout_ms);
      });
      result.verify_ms = watch.ms();
    });
  }

  void time_plans(const StageProblem& whole, std::span<const std::vector<ExecutableStage>> plans, const std::vector<std::size_t>& chosen,
                  const MeasurePolicy& policy, std::vector<Result>& results) {
    const Stopwatch watch;
    session->begin();
    std::int64_t tensors = 0;
    for (const auto& buffers : {plan_inputs(whole.problem), plan_outputs(whole.problem)})
      for (const Buffer buffer : buffers) tensors += buffer_shape(buffer, whole).size_bytes();
    // The largest workspace of each copy first: all plans lie in the same memory, one after another.
    std::vector<std::int64_t> workspaces;
    std::vector<std::size_t> counts;
    for (const std::size_t i : chosen) {
      const std::int64_t workspace = workspace_of(whole.problem, shape_of(plans[i])).total();
      counts.push_back(copies_of(tensors + workspace, policy));
      workspaces.resize(std::max(workspaces.size(), counts.back()));
      for (std::size_t copy = 0; copy < counts.back(); ++copy) workspaces[copy] = std::max(workspaces[copy], workspace);
    }
    for (std::size_t copy = 0; copy < workspaces.size(); ++copy)
      static_cast<void>(session->pool.scratch("workspace", workspaces[copy], copy));
    std::vector<cuda::Copies> candidates;
    for (std::size_t n = 0; n < chosen.size(); ++n) {
      std::vector<Args> copies;
      while (copies.size() < counts[n])
        copies.push_back(bind_plan(whole, shape_of(plans[chosen[n]]), InputKind::normal, policy.seed, copies.size()));
      candidates.push_back(session->prepare(session->load(plans[chosen[n]]), copies, policy.regime.launches));
    }
    std::vector<Timing> timings = session->measurement.measure_interleaved(candidates, policy);
    for (std::size_t n = 0; n < chosen.size(); ++n) {
      time_into(results[chosen[n]], std::move(timings[n]));
      results[chosen[n]].measure_ms = watch.ms() / static_cast<double>(chosen.size());
    }
  }

  Use use;
  DeviceInfo info;
  int ordinal;
  Nvml nvml;
  std::shared_ptr<const Binary> utilities;
  std::unique_ptr<cuda::GpuSession> session;
  References references;
  std::string lost;  // why the device cannot go on; empty while it can
};

GpuDevice::GpuDevice(int ordinal, Use use) {
  try {
    state_ = std::make_unique<State>(ordinal, use);
  } catch (const cuda::CudaError& error) {
    throw Error(ExitCode::no_device,
                fmt::format("cuda:{} cannot be used: {}. Check with nvidia-smi that it is free and healthy", ordinal, error.what()));
  }
}

GpuDevice::~GpuDevice() = default;

const DeviceInfo& GpuDevice::info() const { return state_->info; }

bool GpuDevice::damaged() const { return !state_->lost.empty(); }

GpuDevice::Coldness GpuDevice::coldness(Regime::Cache by) {
  state_->require_alive();
  const cuda::Coldness seen = state_->session->measurement.test_coldness(by);
  return {.hot_ms = seen.hot_ms, .cold_ms = seen.cold_ms, .works = seen.works};
}

Result GpuDevice::run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) {
  State& state = *state_;
  state.require_alive();
  const StageProblem& problem = stage.stage.problem;
  return state.guarded(policy, [&](Result& result) {
    const Stopwatch verifying;
    state.session->begin();
    const Args args = state.bind_stage(problem, policy.seed);
    const Checks checks = state.references.of_stage(problem, policy.seed);
    const cuda::Pipeline& pipeline = state.session->load(std::span(&stage, 1));
    const std::vector<Buffer> outputs = outputs_of(problem);
    judge(result, cuda::verify_on_device(*state.session, {.pipeline = pipeline,
                                                          .args = args,
                                                          .problem = problem,
                                                          .outputs = outputs,
                                                          .checks = *checks,
                                                          .timeout_ms = policy.timeout_ms}));
    result.verify_ms = verifying.ms();
    if (result.outcome != Outcome::ok || state.use == Use::verify) return;
    const Stopwatch measuring;
    time_into(result, state.time_stage(problem, pipeline, policy));
    result.measure_ms = measuring.ms();
  });
}

std::vector<Result> GpuDevice::run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                         const MeasurePolicy& policy) {
  State& state = *state_;
  state.require_alive();
  const StageProblem whole = whole_problem(problem);
  std::vector<Result> results;
  std::vector<std::size_t> right;
  for (const std::vector<ExecutableStage>& plan : plans) {
    results.push_back(state.lost.empty() ? state.verify_plan_on_all(whole, plan, policy) : state.not_run(policy));
    if (results.back().outcome == Outcome::ok) right.push_back(results.size() - 1);
  }
  if (right.empty() || state.use == Use::verify) return results;
  const Result timed = !state.lost.empty()
                           ? state.not_run(policy)
                           : state.guarded(policy, [&](Result&) { state.time_plans(whole, plans, right, policy, results); });
  if (timed.outcome != Outcome::ok) {
    for (const std::size_t i : right) {
      results[i].outcome = timed.outcome;
      results[i].reason = "while the finalists were timed in turns: " + timed.reason;
      results[i].timing.reset();
    }
  }
  return results;
}

}  // namespace phitune
