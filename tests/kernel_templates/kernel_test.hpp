// What tests of kernels share: memory that shows a mistake, seeded inputs, and errors against a reference in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <limits>
#include <new>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "kernel_templates/common/host/executor.hpp"
#include "kernel_templates/common/numeric.cuh"
#include "search/problem.hpp"

namespace phitune::kernel_test {

/// PHITUNE_TEST_SEED, or a fresh one; printed, so that a failure can be repeated.
inline std::uint64_t test_seed() {
  static const std::uint64_t seed = [] {
    const char* given = std::getenv("PHITUNE_TEST_SEED");
    const std::uint64_t value = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::cout << "random inputs of seed " << value << " (PHITUNE_TEST_SEED repeats them)" << std::endl;
    return value;
  }();
  return seed;
}

/// The inverse of storage_of().
constexpr Dtype dtype_of(Storage storage) {
  return storage == Storage::bf16 ? Dtype::bf16 : storage == Storage::fp16 ? Dtype::fp16 : Dtype::fp32;
}

/// Bytes of exactly this size on the heap, 256-byte aligned and filled with 0xFF: NaN in every floating-point format.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes), data_(::operator new (bytes, std::align_val_t{256})) { poison(); }
  ~Memory() {
    if (data_ != nullptr) ::operator delete (data_, std::align_val_t{256});
  }
  Memory(Memory&& other) noexcept : bytes_(other.bytes_), data_(std::exchange(other.data_, nullptr)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(data_, other.data_);
    return *this;
  }

  void poison() { std::memset(data_, 0xFF, bytes_); }
  [[nodiscard]] void* data() const { return data_; }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data_);
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* data_;
};

/// `count` elements of a storage type, NaN until set.
class Array {
 public:
  Array(Storage storage, std::int64_t count)
      : storage_(storage), count_(count), memory_(static_cast<std::size_t>(count) * static_cast<std::size_t>(storage_bytes(storage))) {}

  [[nodiscard]] std::int64_t size() const { return count_; }
  [[nodiscard]] void* data() const { return memory_.data(); }
  [[nodiscard]] float* floats() const { return memory_.as<float>(); }

  [[nodiscard]] double at(std::int64_t i) const {
    if (storage_ == Storage::fp32) return memory_.as<float>()[i];
    const u16 bits = memory_.as<u16>()[i];
    return storage_ == Storage::bf16 ? bf16_to_float(bits) : fp16_to_float(bits);
  }
  /// Rounds to the storage type.
  void set(std::int64_t i, double value) {
    const auto x = static_cast<float>(value);
    if (storage_ == Storage::fp32)
      memory_.as<float>()[i] = x;
    else
      memory_.as<u16>()[i] = storage_ == Storage::bf16 ? float_to_bf16(x) : float_to_fp16(x);
  }
  void fill(const std::function<double()>& value) {
    for (std::int64_t i = 0; i < count_; ++i) set(i, value());
  }
  void fill_normal(std::mt19937_64& rng, double deviation = 1.0) {
    std::normal_distribution<double> normal(0.0, deviation);
    fill([&] { return normal(rng); });
  }
  [[nodiscard]] std::vector<double> values() const {
    std::vector<double> out(static_cast<std::size_t>(count_));
    for (std::int64_t i = 0; i < count_; ++i) out[static_cast<std::size_t>(i)] = at(i);
    return out;
  }

 private:
  Storage storage_;
  std::int64_t count_;
  Memory memory_;
};

/// Largest |actual - expected| over the root mean square of expected; infinite where actual is not a number or sizes differ.
inline double relative_error(std::span<const double> actual, std::span<const double> expected) {
  if (actual.size() != expected.size() || expected.empty()) return std::numeric_limits<double>::infinity();
  double worst = 0, squares = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(actual[i] - expected[i]);
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
    squares += expected[i] * expected[i];
  }
  const double scale = std::sqrt(squares / static_cast<double>(expected.size()));
  return worst == 0 ? 0 : worst / scale;
}

/// Runs `kernel` (a call of a kernel template) over a launch geometry: anything with grid[3], block[3] and dynamic_shared_bytes.
template <class Geometry>
host::Statistics run_on_host(const Geometry& launch, const std::function<void()>& kernel, host::Options options = {}) {
  if constexpr (requires { launch.cooperative; }) options.cooperative = launch.cooperative;
  return host::launch({launch.grid[0], launch.grid[1], launch.grid[2]}, {launch.block[0], launch.block[1], launch.block[2]},
                      launch.dynamic_shared_bytes, kernel, options);
}

}  // namespace phitune::kernel_test
