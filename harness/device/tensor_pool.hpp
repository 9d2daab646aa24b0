// Device memory of the problem under test: inputs are filled once and kept for every candidate that reads the same, scratch grows.
// Internal.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "harness/device/utilities.hpp"

namespace phitune::cuda {

/// The problem does not fit the device, with what was asked for and what there is.
class OutOfMemory : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Pointers stay valid until the next begin(). When memory runs out but for what the driver needs itself, buffers that the current use
/// has not asked for are given back, the longest unused first; only when there is none and no memory either is OutOfMemory thrown.
class TensorPool {
 public:
  explicit TensorPool(const Utilities& utilities) : utilities_(utilities) {}

  /// Starts a new use: pointers handed out before may be taken back from now on.
  void begin() { ++use_; }

  /// The tensor, filled. Equal contents stand in memory once per number of a copy.
  void* input(const InputTensor& tensor, std::size_t copy = 0);
  /// Cumulative gates of the stage's chunks.
  void* gates(const StageProblem& problem, std::uint64_t seed, InputKind kind, std::size_t copy = 0);
  /// Memory without contents; asking again under the same name gives the same memory, or more.
  void* scratch(const std::string& name, std::int64_t bytes, std::size_t copy = 0);

 private:
  struct Entry {
    DeviceBuffer buffer;
    std::uint64_t last_use = 0;
  };
  Entry& allocate(const std::string& key, std::int64_t bytes);
  bool evict_one();

  const Utilities& utilities_;
  std::map<std::string, Entry> entries_;
  std::uint64_t use_ = 1;
};

}  // namespace phitune::cuda
