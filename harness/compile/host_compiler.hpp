// Kernels compiled for the CPU: the same generated source and templates that NVRTC gets, made a shared object by the host's C++ compiler.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "harness/compile/compiler.hpp"
#include "kernel_templates/common/args.cuh"

namespace phitune {

/// A kernel loaded into this process. run() is one thread of it, called by the emulator (kernel_templates/common/host/executor.hpp).
class HostKernel {
 public:
  /// Throws Error when the shared object cannot be loaded.
  explicit HostKernel(const std::vector<char>& shared_object);
  ~HostKernel();
  HostKernel(const HostKernel&) = delete;
  HostKernel& operator=(const HostKernel&) = delete;

  void run(const Args& args) const { entry_(&args); }

 private:
  int file_ = -1;
  void* library_ = nullptr;
  void (*entry_)(const void*) = nullptr;
};

/// Outcome ok with a kernel, or compile_failed with the compiler's log as the reason.
struct HostCompiled {
  Outcome outcome = Outcome::ok;
  std::string reason;
  std::shared_ptr<const HostKernel> kernel;
  double compile_ms = 0;  // 0 on a cache hit
  bool cache_hit = false;
};

/// Thread-safe. Kernels are kept in the cache of compiled kernels (cache.hpp) by content alone: source, headers, options and the compiler's
/// own words on its version.
class HostCompiler {
 public:
  /// Looks for a compiler: $CXX, then c++, g++ and clang++ in PATH. An empty `cache_directory` means no cache on disk. Throws
  /// Error(no_device) when there is none.
  explicit HostCompiler(std::filesystem::path cache_directory);
  ~HostCompiler();
  HostCompiler(const HostCompiler&) = delete;
  HostCompiler& operator=(const HostCompiler&) = delete;

  /// A kernel by its generated source (StageTemplate::source), from memory, from the cache, or compiled.
  [[nodiscard]] HostCompiled compile(const std::string& source);

  /// "g++ (Debian 12.2.0-14) 12.2.0"
  [[nodiscard]] const std::string& version() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The first line of what the compiler that HostCompiler would use says of its version; throws as its constructor does.
[[nodiscard]] std::string host_compiler_version();

}  // namespace phitune
