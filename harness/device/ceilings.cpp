#include <algorithm>
#include <vector>

#include "harness/device/gpu_session.hpp"
#include "harness/error.hpp"
#include "harness/measure/statistics.hpp"

namespace phitune::cuda {

namespace {

constexpr std::int64_t kCopyBytes = std::int64_t{1} << 30;
constexpr std::int64_t kMatrix = 8192;
// Far larger than any cache, so there is nothing to flush.
constexpr MeasurePolicy kPolicy{.warmup = 3, .min_samples = 11, .max_samples = 11, .target_relative_ci = 0, .regime = {.cache = Regime::Cache::hot}};

InputTensor random_matrix(std::int64_t rows, std::int64_t columns, inputs::Stream stream) {
  InputTensor tensor{.shape = {.dtype = Dtype::bf16,
                               .count = rows * columns,
                               .width = columns,
                               .t = rows,
                               .heads = 1,
                               .strides = {.b = 0, .t = columns, .h = 0}},
                     .spec = {}};
  tensor.spec.stream = static_cast<int>(stream);
  tensor.spec.width = static_cast<int>(columns);
  return tensor;
}

double copy_tbps(GpuSession& session, std::int64_t memory_bytes) {
  const std::int64_t size = std::min(kCopyBytes, memory_bytes / 8 / 8192 * 8192);
  const DeviceBuffer source(static_cast<std::size_t>(size)), target(static_cast<std::size_t>(size));
  session.utilities.fill(random_matrix(size / 2 / 4096, 4096, inputs::Stream::q), source.data());
  // Not as a graph: there the driver gives the copy to a copy engine, which is slower than the multiprocessors that kernels run on.
  const Event start, stop;
  std::vector<double> samples;
  for (int i = 0; i < kPolicy.warmup + kPolicy.max_samples; ++i) {
    start.record(session.stream.get());
    check(cudaMemcpyAsync(target.data(), source.data(), source.size(), cudaMemcpyDeviceToDevice, session.stream.get()));
    stop.record(session.stream.get());
    check(cudaStreamSynchronize(session.stream.get()));
    if (i >= kPolicy.warmup) samples.push_back(Event::elapsed_ms(start, stop));
  }
  return 2e-9 * static_cast<double>(size) / median(samples);
}

double matrix_tflops(GpuSession& session) {
  if (!session.gemms.reason().empty()) return 0;
  const std::size_t bytes = static_cast<std::size_t>(kMatrix * kMatrix) * 2;
  const DeviceBuffer a(bytes), b(bytes), c(bytes);
  session.utilities.fill(random_matrix(kMatrix, kMatrix, inputs::Stream::q), a.data());
  session.utilities.fill(random_matrix(kMatrix, kMatrix, inputs::Stream::k), b.data());
  const GemmOperand operand{.dtype = Dtype::bf16, .leading = kMatrix, .batch = kMatrix * kMatrix};
  const Gemm gemm{.m = kMatrix,
                  .n = kMatrix,
                  .k = kMatrix,
                  .a_transposed = false,
                  .batch = 1,
                  .outer = {1, 1},
                  .a = operand,
                  .b = operand,
                  .c = operand};
  const auto multiply = [&](cudaStream_t stream) { session.gemms.run(gemm, {.a = a.data(), .b = b.data(), .c = c.data()}, stream); };
  // The library sets itself up at the first product, which must not happen inside a capture.
  multiply(session.stream.get());
  const Graph graph(session.stream.get(), multiply);
  const double n = static_cast<double>(kMatrix);
  return 2e-9 * n * n * n / session.measurement.measure({[&graph](cudaStream_t stream) { graph.launch(stream); }}, kPolicy).median_ms;
}

}  // namespace

Ceilings measure_ceilings(GpuSession& session, std::int64_t memory_bytes) {
  Ceilings ceilings{.copy_tbps = copy_tbps(session, memory_bytes)};
  try {
    ceilings.matrix_tflops = matrix_tflops(session);
  } catch (const Error&) {
    // Not measured. Why the GEMM library refuses is the outcome of every library stage, which the report shows.
    ceilings.matrix_tflops = 0;
  }
  return ceilings;
}

}  // namespace phitune::cuda
