#include "harness/device/tensor_pool.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace phitune::cuda {

namespace {

// Left to the driver for graphs, kernels and their local memory: it refuses launches when tensors have taken all there is.
constexpr std::size_t reserve = std::size_t{1} << 30;

struct Memory {
  std::size_t available = 0, total = 0;
};
Memory device_memory() {
  Memory memory;
  check(cudaMemGetInfo(&memory.available, &memory.total));
  return memory;
}

double gib(std::size_t bytes) { return static_cast<double>(bytes) / (1u << 30); }

std::string memory_report(const std::string& key, std::int64_t bytes) {
  const auto [available, total] = device_memory();
  return fmt::format("out of device memory: {} needs {:.2f} GiB, {:.2f} of {:.2f} GiB are free", key.substr(0, key.find(" |")),
                     gib(static_cast<std::size_t>(bytes)), gib(available), gib(total));
}

}  // namespace

bool TensorPool::evict_one() {
  const auto oldest = std::ranges::min_element(entries_, {}, [](const auto& entry) { return entry.second.last_use; });
  if (oldest == entries_.end() || oldest->second.last_use == use_) return false;
  entries_.erase(oldest);
  return true;
}

TensorPool::Entry& TensorPool::allocate(const std::string& key, std::int64_t bytes) {
  while (device_memory().available < static_cast<std::size_t>(bytes) + reserve && evict_one()) {
  }
  while (true) {
    try {
      Entry entry{.buffer = DeviceBuffer(static_cast<std::size_t>(bytes)), .last_use = use_};
      return entries_.insert_or_assign(key, std::move(entry)).first->second;
    } catch (const CudaError& error) {
      if (error.code() != cudaErrorMemoryAllocation) throw;
      if (!evict_one()) throw OutOfMemory(memory_report(key, bytes));
    }
  }
}

void* TensorPool::input(const InputTensor& tensor, std::size_t copy) {
  const std::string key = fmt::format("input {} copy {}", tensor.key(), copy);
  if (const auto found = entries_.find(key); found != entries_.end()) {
    found->second.last_use = use_;
    return found->second.buffer.data();
  }
  void* data = allocate(key, tensor.shape.size_bytes()).buffer.data();
  utilities_.fill(tensor, data);
  return data;
}

void* TensorPool::gates(const StageProblem& stage, std::uint64_t seed, InputKind kind, std::size_t copy) {
  const InputTensor log_g = input_tensor(Buffer::log_g, stage, seed, kind);
  const std::string key = fmt::format("gates {} chunk {} copy {}", log_g.key(), stage.shape.chunk, copy);
  if (const auto found = entries_.find(key); found != entries_.end()) {
    found->second.last_use = use_;
    return found->second.buffer.data();
  }
  const void* source = input(log_g);
  void* data = allocate(key, buffer_shape(Buffer::gates, stage).size_bytes()).buffer.data();
  utilities_.gates(stage, source, data);
  return data;
}

void* TensorPool::scratch(const std::string& name, std::int64_t bytes, std::size_t copy) {
  const std::string key = fmt::format("scratch {} copy {}", name, copy);
  if (const auto found = entries_.find(key); found != entries_.end()) {
    if (found->second.buffer.size() >= static_cast<std::size_t>(bytes)) {
      found->second.last_use = use_;
      return found->second.buffer.data();
    }
    // Given back first: both at once may not fit.
    entries_.erase(found);
  }
  return allocate(key, bytes).buffer.data();
}

}  // namespace phitune::cuda
