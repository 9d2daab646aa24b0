// NVRTC to cubin, from in-memory headers, in a pool of threads, through a cache on disk. Needs no GPU.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "search/trial.hpp"

namespace phitune {

/// A compiled kernel. Immutable, shared.
struct Binary {
  std::vector<char> cubin;
  std::string cubin_hash;  // hex of the machine code
  Resources resources;     // dynamic_shared_bytes is left 0
};

/// Outcome ok with a binary, or compile_failed with the compiler's log as the reason.
struct Compiled {
  Outcome outcome = Outcome::ok;
  std::string reason;
  std::shared_ptr<const Binary> binary;
  std::string source_hash;  // the cache key, hex
  std::string log;          // what the compiler said of a source that compiles: warnings, usually empty
  double compile_ms = 0;    // 0 on a cache hit
  bool cache_hit = false;
};

struct CompilerOptions {
  std::string architecture = "sm_90a";
  std::filesystem::path cache_directory;  // empty: no cache on disk
  int threads = 0;                        // 0: one per hardware thread
};

/// Thread-safe. The key of the cache is content alone: source, headers, options, NVRTC version, architecture; never a path.
/// The same source asked for twice is compiled once, and both requests get the same result. A source that does not compile is remembered
/// too, with its log.
class Compiler {
 public:
  /// Throws Error when the cache directory cannot be written or NVRTC does not know the architecture (lists the ones it does).
  explicit Compiler(CompilerOptions options);
  ~Compiler();
  Compiler(const Compiler&) = delete;
  Compiler& operator=(const Compiler&) = delete;

  /// `later`: after everything queued so far. `next`: somebody waits for it, so it overtakes what is queued, itself too if it was.
  enum class Turn { later, next };

  /// Queues a translation unit. get() refers into the future: keep it, or copy the result.
  [[nodiscard]] std::shared_future<Compiled> compile(std::string source, Turn turn = Turn::later);

  /// The key that compile(source) would have: changes with the source, its headers, the options, NVRTC and the architecture.
  [[nodiscard]] std::string key(const std::string& source) const;

  /// Every source finished is one of `compiled` (NVRTC ran) and `cache_hits`; `failed` counts those of either that do not compile.
  struct Counters {
    std::size_t compiled = 0, cache_hits = 0, failed = 0;
    double compile_ms = 0;                 // summed over threads
    std::size_t cache_write_failures = 0;  // entries that could not be written (full disk): compiled and used all the same
    std::string cache_warning;             // why, the first time; empty when all is well
  };
  [[nodiscard]] Counters counters() const;
  /// Drops what is queued and not started; those futures get compile_failed "cancelled".
  void cancel();

  /// While it lives no thread compiles: nothing competes for the CPU, memory and power while finalists are timed. Making one waits for what
  /// is being compiled. Futures that are not ready must not be waited for meanwhile by whoever holds it.
  class Pause {
   public:
    explicit Pause(Compiler& compiler);
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Compiler& compiler_;
  };

  [[nodiscard]] const CompilerOptions& options() const;
  [[nodiscard]] static std::string nvrtc_version();               // "13.0"
  [[nodiscard]] static std::vector<std::string> architectures();  // what NVRTC can compile for

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace phitune
