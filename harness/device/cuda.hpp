// RAII over the CUDA runtime. Internal: never included by an installed header. Destructors ignore errors; everything else checks.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

#include "harness/compile/compiler.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune::cuda {

/// A call of the CUDA runtime failed. what() has CUDA's name and text of the error and where it was noticed.
class CudaError : public std::runtime_error {
 public:
  CudaError(cudaError_t code, const std::string& what) : std::runtime_error(what), code_(code) {}
  [[nodiscard]] cudaError_t code() const { return code_; }

 private:
  cudaError_t code_;
};

/// Throws CudaError unless `code` is success; clears an error that is not sticky.
void check(cudaError_t code, std::source_location where = std::source_location::current());

/// Whether the context answers nothing but errors: after an illegal access, say. Waits for the device.
[[nodiscard]] bool context_is_broken();

/// Owns a handle that `Destroy` gives back.
template <typename Handle, cudaError_t (*Destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_) static_cast<void>(Destroy(handle_));
  }
  [[nodiscard]] Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

/// A stream of its own, not synchronised with the default stream.
class Stream {
 public:
  Stream();
  [[nodiscard]] cudaStream_t get() const { return handle_.get(); }
  void synchronize() const { check(cudaStreamSynchronize(get())); }

 private:
  Owned<cudaStream_t, cudaStreamDestroy> handle_;
};

class Event {
 public:
  Event();
  void record(cudaStream_t stream) const { check(cudaEventRecord(handle_.get(), stream)); }
  /// Whether everything before the record is done. Throws CudaError when it failed.
  [[nodiscard]] bool done() const;
  /// Polls until done; false when `timeout_ms` have passed.
  [[nodiscard]] bool wait(double timeout_ms) const;
  /// Both events must be done.
  [[nodiscard]] static double elapsed_ms(const Event& start, const Event& stop);

 private:
  Owned<cudaEvent_t, cudaEventDestroy> handle_;
};

/// Device memory; empty when bytes is 0. Throws CudaError(cudaErrorMemoryAllocation) when there is not enough.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(std::size_t bytes);
  [[nodiscard]] void* data() const { return handle_.get(); }
  [[nodiscard]] std::size_t size() const { return bytes_; }

 private:
  Owned<void*, cudaFree> handle_;
  std::size_t bytes_ = 0;
};

/// The kernel `phitune_kernel` of a cubin, loaded for the current device.
class Kernel {
 public:
  Kernel() = default;
  /// Allows `dynamic_shared_bytes` at launch. Throws CudaError when the cubin is for another architecture or asks for too much.
  Kernel(const Binary& binary, std::size_t dynamic_shared_bytes);

  /// `args` is the kernel's one parameter, copied at launch. A launch with an empty grid does nothing. `after_kernel`: the work before it
  /// in the stream is a kernel of the same plan, whose end this one may overlap with if its cubin waits for earlier kernels' results
  /// itself (programmatic dependent launch; Hopper and later). Cubins that do not, of old databases for one, start when it has ended.
  void launch(const Launch& geometry, const void* args, cudaStream_t stream, bool after_kernel = false) const;

 private:
  Owned<cudaLibrary_t, cudaLibraryUnload> library_;
  cudaKernel_t kernel_ = nullptr;
  bool waits_ = false;  // for earlier kernels, by itself
};

/// What `enqueue` puts on a stream, instantiated once to be launched many times.
class Graph {
 public:
  Graph(cudaStream_t stream, const std::function<void(cudaStream_t)>& enqueue);
  void launch(cudaStream_t stream) const { check(cudaGraphLaunch(executable_.get(), stream)); }

 private:
  Owned<cudaGraphExec_t, cudaGraphExecDestroy> executable_;
};

}  // namespace phitune::cuda
