// A plan's kernels, loaded, and their launch with the caller's buffers.
#include <fmt/format.h>

#include "harness/device/cuda.hpp"
#include "harness/device/gemm_library.hpp"
#include "harness/device/pipeline.hpp"
#include "harness/dispatch/dispatcher.hpp"
#include "harness/error.hpp"
#include "kernel_templates/library/gemm.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

bool aligned(const void* pointer, std::uintptr_t to) { return reinterpret_cast<std::uintptr_t>(pointer) % to == 0; }

Error unusable(const char* name, const char* what) { return {ExitCode::usage, fmt::format("launch: {} {}", name, what)}; }

void require_tensor(const char* name, const void* pointer) {
  if (pointer == nullptr) throw unusable(name, "is null");
  if (!aligned(pointer, 16)) throw unusable(name, "is not 16-byte aligned");
}

// A buffer that the problem says is there, or is not.
void require_matching(const char* name, const void* pointer, bool wanted) {
  if (wanted && pointer == nullptr) throw unusable(name, "is null, and the problem needs it");
  if (!wanted && pointer != nullptr) throw unusable(name, "is given, and the problem has none");
}

void set_strides(const char* name, const std::optional<Strides>& given, Strides& strides) {
  if (!given) return;
  if (given->b % 8 != 0 || given->t % 8 != 0 || given->h % 8 != 0)
    throw unusable(name, "has a stride that is not a multiple of 8 elements");
  strides = *given;
}

void bind_buffers(Args& args, const Buffers& buffers, const Problem& problem) {
  require_tensor("q", buffers.q);
  require_tensor("k", buffers.k);
  require_tensor("v", buffers.v);
  require_tensor("y", buffers.y);
  require_matching("log_g", buffers.log_g, problem.gated);
  require_matching("initial_state", buffers.initial_state, problem.initial_state);
  require_matching("final_state", buffers.final_state, problem.final_state);
  args.q = buffers.q;
  args.k = buffers.k;
  args.v = buffers.v;
  args.y = buffers.y;
  args.log_g = buffers.log_g;
  args.initial_state = buffers.initial_state;
  args.final_state = buffers.final_state;
  set_strides("q", buffers.q_strides, args.q_strides);
  set_strides("k", buffers.k_strides, args.k_strides);
  set_strides("v", buffers.v_strides, args.v_strides);
  set_strides("y", buffers.y_strides, args.y_strides);
  if (buffers.g_strides) args.g_strides = *buffers.g_strides;
}

}  // namespace

struct PreparedPlan::State {
  struct Step {
    StageProblem problem;
    cuda::Kernel kernel;  // empty for library stages
    Launch launch;
  };
  Plan plan;
  std::int64_t workspace_bytes = 0;
  std::vector<Step> steps;
  std::unique_ptr<cuda::GemmLibrary> gemms;  // only for plans with library stages
};

PreparedPlan::PreparedPlan(Plan plan, const std::vector<ExecutableStage>& stages) : state_(std::make_unique<State>()) {
  state_->plan = std::move(plan);
  state_->workspace_bytes = workspace_of(state_->plan.problem, state_->plan.shape).total();
  try {
    for (const ExecutableStage& stage : stages) {
      const StageProblem& problem = stage.stage.problem;
      State::Step step{.problem = problem, .kernel = {}, .launch = {}};
      if (problem.path == Path::library) {
        if (!state_->gemms) state_->gemms = std::make_unique<cuda::GemmLibrary>();
        if (const std::string& reason = state_->gemms->reason(); !reason.empty()) throw Error(ExitCode::failed, reason);
      } else {
        step.launch = stage_template(problem.stage, problem.path).launch(problem, stage.stage.config);
        step.kernel = cuda::Kernel(*stage.binary, step.launch.dynamic_shared_bytes);
      }
      state_->steps.push_back(std::move(step));
    }
  } catch (const cuda::CudaError& error) {
    throw Error(ExitCode::failed, fmt::format("cannot load {}: {}", state_->plan.text(), error.what()));
  }
}

PreparedPlan::~PreparedPlan() = default;

const Plan& PreparedPlan::plan() const { return state_->plan; }
std::int64_t PreparedPlan::workspace_bytes() const { return state_->workspace_bytes; }

void PreparedPlan::launch(const Buffers& buffers, void* workspace, std::int64_t workspace_size, void* stream) const {
  if (workspace_size < state_->workspace_bytes || (workspace == nullptr && state_->workspace_bytes > 0)) {
    throw Error(ExitCode::usage, fmt::format("launch: the workspace has {} bytes, the plan needs {}",
                                             workspace == nullptr ? 0 : workspace_size, state_->workspace_bytes));
  }
  if (!aligned(workspace, 256)) throw unusable("workspace", "is not 256-byte aligned");
  Args args;
  bind_workspace(args, state_->plan.problem, state_->plan.shape, workspace);
  bind_buffers(args, buffers, state_->plan.problem);
  const auto on = static_cast<cudaStream_t>(stream);
  try {
    for (const State::Step& step : state_->steps) cuda::clear_counters(step.problem, args, on);
    bool after_kernel = false;
    for (const State::Step& step : state_->steps) {
      if (step.problem.path == Path::library) {
        state_->gemms->run(gemm_of(step.problem), gemm_pointers(step.problem, args), on);
      } else {
        step.kernel.launch(step.launch, &args, on, after_kernel);
      }
      after_kernel = step.problem.path != Path::library;
    }
  } catch (const cuda::CudaError& error) {
    throw Error(ExitCode::failed, fmt::format("cannot launch {}: {}", state_->plan.text(), error.what()));
  }
}

}  // namespace phitune
