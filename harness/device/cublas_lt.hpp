// cuBLASLt, loaded at run time: the binary neither links nor needs it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kernel_templates/library/gemm.hpp"

namespace phitune {

/// Not thread-safe: belongs to the thread that owns the device.
class CublasLt {
 public:
  /// Looks for the library; never throws for its absence.
  CublasLt();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  [[nodiscard]] bool available() const { return reason_.empty(); }
  /// Why it is not available: which files were tried, and what the loader said of each.
  [[nodiscard]] const std::string& reason() const { return reason_; }
  /// "13.0.2"; empty when not available.
  [[nodiscard]] std::string version() const;

  /// Device memory that run wants for split reductions; it works with less, perhaps slower.
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

  /// Enqueues the product on `stream` (a cudaStream_t) of the current device; may be captured in a graph. `workspace` is device memory,
  /// 256-byte aligned. The algorithm is the library's first choice, looked up once per description. Throws Error, with the library's
  /// reason, when the library is not available or refuses the product.
  void run(const Gemm& gemm, const GemmPointers& pointers, void* stream, void* workspace, std::size_t bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string reason_;
};

}  // namespace phitune
