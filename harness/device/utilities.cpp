#include "harness/device/utilities.hpp"

#include <vector>

#include "harness/error.hpp"

namespace phitune::cuda {

namespace {

constexpr std::int64_t kBlocksPerMultiprocessor = 8;

}  // namespace

std::shared_ptr<const Binary> compile_utilities(const std::string& architecture) {
  Compiler compiler({.architecture = architecture, .cache_directory = {}, .threads = 1});
  const Compiled compiled = compiler.compile(utility_source()).get();
  if (compiled.outcome != Outcome::ok) throw Error(ExitCode::failed, "the harness's own kernels do not compile:\n" + compiled.reason);
  return compiled.binary;
}

Utilities::Utilities(std::shared_ptr<const Binary> binary, int multiprocessors, cudaStream_t stream)
    : stream_(stream),
      blocks_(kBlocksPerMultiprocessor * multiprocessors),
      binary_(std::move(binary)),
      kernel_(*binary_, kUtilitySharedBytes),
      results_(static_cast<std::size_t>(blocks_) * sizeof(Inspection)) {}

void Utilities::launch(const UtilityArgs& args, std::int64_t blocks) const {
  const Launch geometry{
      .grid = {static_cast<std::uint32_t>(blocks), 1, 1}, .block = {kUtilityThreads, 1, 1}, .dynamic_shared_bytes = kUtilitySharedBytes};
  kernel_.launch(geometry, &args, stream_);
}

void Utilities::fill(const InputTensor& tensor, void* data) const { launch(fill_call(tensor, data), blocks_); }

void Utilities::gates(const StageProblem& stage, const void* log_g, void* gates) const {
  launch(gates_call(stage, log_g, gates), stage.problem.b * stage.problem.hk * stage.chunks());
}

Inspection Utilities::inspect(const StageProblem& stage, Buffer buffer, const void* data) const {
  launch(inspect_call(stage, buffer, data, results_.data()), blocks_);
  std::vector<Inspection> parts(static_cast<std::size_t>(blocks_));
  check(cudaMemcpyAsync(parts.data(), results_.data(), parts.size() * sizeof(Inspection), cudaMemcpyDeviceToHost, stream_));
  check(cudaStreamSynchronize(stream_));
  Inspection whole;
  for (const Inspection& part : parts) merge(whole, part);
  return whole;
}

void Utilities::read(const void* data, std::size_t bytes) const {
  UtilityArgs args;
  args.operation = static_cast<int>(Utility::read);
  args.data = const_cast<void*>(data);
  args.out = results_.data();
  args.count = static_cast<i64>(bytes / sizeof(U4));
  launch(args, blocks_);
}

}  // namespace phitune::cuda
