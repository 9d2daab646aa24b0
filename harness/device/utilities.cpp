#include "harness/device/utilities.hpp"

#include <fmt/format.h>

#include <vector>

#include "harness/error.hpp"

namespace phitune::cuda {

namespace {

constexpr std::int64_t kBlocksPerMultiprocessor = 8;

Storage storage_of(Dtype dtype) { return dtype == Dtype::bf16 ? Storage::bf16 : dtype == Dtype::fp16 ? Storage::fp16 : Storage::fp32; }

}  // namespace

std::string utility_source() {
  return fmt::format(
      "#include \"kernel_templates/common/utility.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({}) phitune_kernel(const __grid_constant__ phitune::UtilityArgs args) {{\n"
      "  phitune::run_utility(args);\n"
      "}}\n",
      kUtilityThreads);
}

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

void Utilities::launch(UtilityArgs args, std::int64_t blocks) const {
  const Launch geometry{
      .grid = {static_cast<std::uint32_t>(blocks), 1, 1}, .block = {kUtilityThreads, 1, 1}, .dynamic_shared_bytes = kUtilitySharedBytes};
  kernel_.launch(geometry, &args, stream_);
}

void Utilities::fill(const InputTensor& tensor, void* data) const {
  UtilityArgs args;
  args.operation = static_cast<int>(Utility::fill);
  args.storage = static_cast<int>(storage_of(tensor.shape.dtype));
  args.data = data;
  args.count = tensor.shape.count;
  args.spec = tensor.spec;
  args.strides = tensor.shape.strides;
  args.t = tensor.shape.t;
  args.heads = static_cast<int>(tensor.shape.heads);
  args.width = static_cast<int>(tensor.shape.width);
  launch(args, blocks_);
}

void Utilities::gates(const StageProblem& stage, const void* log_g, void* gates) const {
  const Problem& p = stage.problem;
  UtilityArgs args;
  args.operation = static_cast<int>(Utility::gates);
  args.data = const_cast<void*>(log_g);
  args.out = gates;
  args.strides = buffer_shape(Buffer::log_g, stage).strides;
  args.t = p.t;
  args.heads = static_cast<int>(p.hk);
  args.chunk = static_cast<int>(stage.shape.chunk == 0 ? p.t : stage.shape.chunk);
  launch(args, p.b * p.hk * stage.chunks());
}

Inspection Utilities::inspect(const StageProblem& stage, Buffer buffer, const void* data) const {
  const BufferShape shape = buffer_shape(buffer, stage);
  const WrittenRegion region = written_region(buffer, stage);
  UtilityArgs args;
  args.operation = static_cast<int>(Utility::inspect);
  args.storage = static_cast<int>(storage_of(shape.dtype));
  args.data = const_cast<void*>(data);
  args.out = results_.data();
  args.count = shape.count;
  args.row = static_cast<int>(region.row);
  args.columns = static_cast<int>(region.columns);
  args.group = region.group;
  args.groups = static_cast<int>(region.groups);
  args.checked_groups = static_cast<int>(region.written);
  launch(args, blocks_);
  std::vector<Inspection> parts(static_cast<std::size_t>(blocks_));
  check(cudaMemcpyAsync(parts.data(), results_.data(), parts.size() * sizeof(Inspection), cudaMemcpyDeviceToHost, stream_));
  check(cudaStreamSynchronize(stream_));
  Inspection whole;
  for (const Inspection& part : parts) utility::merge(whole, part);
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
