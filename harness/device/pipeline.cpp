#include "harness/device/pipeline.hpp"

#include "harness/error.hpp"
#include "harness/verify/buffers.hpp"

namespace phitune::cuda {

void clear_counters(const StageProblem& stage, const Args& args, cudaStream_t stream) {
  for (const Buffer buffer : counters_of(stage))
    check(cudaMemsetAsync(pointer_of(args, buffer), 0, static_cast<std::size_t>(buffer_shape(buffer, stage).size_bytes()), stream));
}

Pipeline::Pipeline(std::span<const ExecutableStage> stages, const GemmLibrary& gemms) : gemms_(gemms) {
  for (const ExecutableStage& stage : stages) {
    const StageProblem& problem = stage.stage.problem;
    Step step{.problem = problem, .kernel = {}, .launch = {}};
    if (problem.path == Path::library) {
      if (!gemms.reason().empty()) throw NotRunnable(Outcome::pruned, gemms.reason());
    } else if (!stage.binary) {
      throw NotRunnable(Outcome::pruned, "stage " + std::string(to_string(problem.stage)) + " came without its compiled kernel");
    } else {
      step.launch = stage_template(problem.stage, problem.path).launch(problem, stage.stage.config);
      step.kernel = Kernel(*stage.binary, step.launch.dynamic_shared_bytes);
    }
    steps_.push_back(std::move(step));
  }
}

void Pipeline::enqueue(cudaStream_t stream, const Args& args) const {
  for (const Step& step : steps_) clear_counters(step.problem, args, stream);
  bool after_kernel = false;
  for (const Step& step : steps_) {
    if (step.problem.path == Path::library) {
      try {
        gemms_.run(gemm_of(step.problem), gemm_pointers(step.problem, args), stream);
      } catch (const Error& refused) {
        throw NotRunnable(Outcome::launch_failed, refused.what());
      }
    } else {
      step.kernel.launch(step.launch, &args, stream, after_kernel);
    }
    after_kernel = step.problem.path != Path::library;
  }
}

}  // namespace phitune::cuda
