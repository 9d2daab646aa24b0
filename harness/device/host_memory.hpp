// Memory for kernels that run on the CPU: shared with the process that runs them, and ending where it ends.
#pragma once

#include <cstddef>

namespace phitune {

/// Bytes between pages that nobody may touch: one byte past the end (up to the next multiple of 16, where kernels' vector accesses begin
/// and end) is a fault, as is one before the page that the bytes begin in. Filled with 0xFF, NaN in every floating-point format. A child
/// process made by fork writes to the same memory.
class HostMemory {
 public:
  HostMemory() = default;
  /// Throws Error (failed) when there is not enough memory.
  explicit HostMemory(std::size_t bytes);
  ~HostMemory();
  HostMemory(HostMemory&& other) noexcept;
  HostMemory& operator=(HostMemory&& other) noexcept;

  [[nodiscard]] char* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return bytes_; }
  void poison();
  /// From now on a write is a fault.
  void make_read_only();

  /// Whether `address` lies in these bytes or in the pages around them.
  [[nodiscard]] bool covers(const void* address) const;

 private:
  char* mapping_ = nullptr;
  std::size_t mapped_ = 0;
  char* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace phitune
