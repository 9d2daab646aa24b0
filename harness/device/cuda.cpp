#include "harness/device/cuda.hpp"

#include <fmt/format.h>

#include <chrono>
#include <thread>

namespace phitune::cuda {

void check(cudaError_t code, std::source_location where) {
  if (code == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw CudaError(code, fmt::format("{}: {} ({}:{})", cudaGetErrorName(code), cudaGetErrorString(code), where.file_name(), where.line()));
}

bool context_is_broken() {
  static_cast<void>(cudaGetLastError());
  const bool broken = cudaDeviceSynchronize() != cudaSuccess;
  static_cast<void>(cudaGetLastError());
  return broken;
}

Stream::Stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  handle_ = Owned<cudaStream_t, cudaStreamDestroy>(stream);
}

Event::Event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDefault));
  handle_ = Owned<cudaEvent_t, cudaEventDestroy>(event);
}

bool Event::done() const {
  const cudaError_t code = cudaEventQuery(handle_.get());
  if (code == cudaErrorNotReady) return false;
  check(code);
  return true;
}

bool Event::wait(double timeout_ms) const {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto passed_ms = [&] { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); };
  while (!done()) {
    if (passed_ms() > timeout_ms) return false;
    // Kernels worth tuning are done in a few ms; a longer one need not keep a core busy.
    if (passed_ms() > 5) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

double Event::elapsed_ms(const Event& start, const Event& stop) {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, start.handle_.get(), stop.handle_.get()));
  return ms;
}

DeviceBuffer::DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* data = nullptr;
  check(cudaMalloc(&data, bytes));
  handle_ = Owned<void*, cudaFree>(data);
}

Kernel::Kernel(const Binary& binary, std::size_t dynamic_shared_bytes) {
  cudaLibrary_t library = nullptr;
  check(cudaLibraryLoadData(&library, binary.cubin.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  library_ = Owned<cudaLibrary_t, cudaLibraryUnload>(library);
  check(cudaLibraryGetKernel(&kernel_, library, "phitune_kernel"));
  void* marker = nullptr;
  std::size_t bytes = 0;
  waits_ = cudaLibraryGetGlobal(&marker, &bytes, library, "phitune_waits_for_earlier_kernels") == cudaSuccess;
  if (!waits_) static_cast<void>(cudaGetLastError());
  int device = 0;
  check(cudaGetDevice(&device));
  check(cudaKernelSetAttributeForDevice(kernel_, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(dynamic_shared_bytes),
                                        device));
}

void Kernel::launch(const Launch& geometry, const void* args, cudaStream_t stream, bool after_kernel) const {
  if (geometry.grid[0] == 0 || geometry.grid[1] == 0 || geometry.grid[2] == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = {geometry.grid[0], geometry.grid[1], geometry.grid[2]};
  config.blockDim = {geometry.block[0], geometry.block[1], geometry.block[2]};
  config.dynamicSmemBytes = geometry.dynamic_shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attributes[2]{};
  config.attrs = attributes;
  if (after_kernel && waits_) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (geometry.cooperative) {
    attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[config.numAttrs++].val.cooperative = 1;
  }
  void* parameters[] = {const_cast<void*>(args)};
  check(cudaLaunchKernelExC(&config, static_cast<const void*>(kernel_), parameters));
}

Graph::Graph(cudaStream_t stream, const std::function<void(cudaStream_t)>& enqueue) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  cudaGraph_t captured = nullptr;
  try {
    enqueue(stream);
  } catch (...) {
    // The stream is of no use until its capture has ended.
    static_cast<void>(cudaStreamEndCapture(stream, &captured));
    if (captured) static_cast<void>(cudaGraphDestroy(captured));
    static_cast<void>(cudaGetLastError());
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured));
  const Owned<cudaGraph_t, cudaGraphDestroy> graph(captured);
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, graph.get(), 0));
  executable_ = Owned<cudaGraphExec_t, cudaGraphExecDestroy>(executable);
}

}  // namespace phitune::cuda
