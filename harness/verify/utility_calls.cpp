#include "harness/verify/utility_calls.hpp"

#include <fmt/format.h>

namespace phitune {

namespace {

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

UtilityArgs fill_call(const InputTensor& tensor, void* data) {
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
  return args;
}

UtilityArgs gates_call(const StageProblem& stage, const void* log_g, void* gates) {
  const Problem& p = stage.problem;
  UtilityArgs args;
  args.operation = static_cast<int>(Utility::gates);
  args.data = const_cast<void*>(log_g);
  args.out = gates;
  args.strides = buffer_shape(Buffer::log_g, stage).strides;
  args.t = p.t;
  args.heads = static_cast<int>(p.hk);
  args.chunk = static_cast<int>(stage.shape.chunk == 0 ? p.t : stage.shape.chunk);
  return args;
}

UtilityArgs inspect_call(const StageProblem& stage, Buffer buffer, const void* data, void* results) {
  const BufferShape shape = buffer_shape(buffer, stage);
  const WrittenRegion region = written_region(buffer, stage);
  UtilityArgs args;
  args.operation = static_cast<int>(Utility::inspect);
  args.storage = static_cast<int>(storage_of(shape.dtype));
  args.data = const_cast<void*>(data);
  args.out = results;
  args.count = shape.count;
  args.row = static_cast<int>(region.row);
  args.columns = static_cast<int>(region.columns);
  args.group = region.group;
  args.groups = static_cast<int>(region.groups);
  args.checked_groups = static_cast<int>(region.written);
  return args;
}

}  // namespace phitune
