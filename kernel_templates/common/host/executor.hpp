// Runs a kernel template on the CPU: every thread of a block is a fiber, blocks are spread over CPU threads.
//
// The model is stricter than a GPU where that finds bugs. A collective needs all threads of its warp or warpgroup at the same source line.
// Dynamic shared memory starts as NaN bytes and has its exact size on the heap, so AddressSanitizer sees an overrun. An asynchronous copy
// destroys its target when it is issued and lands only when the wait that requires it, or the lack of anything else to do, makes it; the
// accumulators of an asynchronous product are NaN until its wait. Divergence, deadlock and misaligned addresses end the launch with a
// LaunchError that names block, threads and source lines.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include "kernel_templates/common/host/runtime.hpp"

namespace phitune::host {

struct Options {
  std::uint64_t seed = 0;               // 0: warps and lanes in order; else both are shuffled, differently for each seed and block
  unsigned workers = 0;                 // CPU threads; 0: as many as the machine has
  std::size_t stack_bytes = 256 << 10;  // of one fiber
  bool cooperative = false;             // all blocks run at once, each on a CPU thread of its own, and may wait for each other
};

/// Each has a stack with a guard page, and a process may have only so many mappings.
inline constexpr std::uint64_t most_threads_at_once = 28672;

/// What was wrong with a kernel, and where.
class LaunchError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What a launch did, for measuring the emulator.
struct Statistics {
  std::uint64_t switches = 0;     // fiber resumptions
  std::uint64_t collectives = 0;  // each done once for its group of threads
  std::uint64_t barriers = 0;     // completed block and named barriers
};

/// Runs `kernel` once per thread of the grid. Blocks run in any order and in parallel; returns when all are done. Throws LaunchError for
/// a fault of the kernel (the first one found; other blocks may not have run) and std::invalid_argument for an impossible geometry:
/// 1 to 1024 threads per block, a multiple of 32; at most
/// most_threads_at_once threads of all blocks where these run at once. Thread-safe; not to be called from within a kernel.
Statistics launch(Extent grid, Extent block, std::size_t dynamic_shared_bytes, const std::function<void()>& kernel,
                  const Options& options = {});

/// "block (0, 0, 0), thread 5": the thread of a kernel that runs on the calling CPU thread; "no kernel" outside one.
[[nodiscard]] std::string running_thread();

/// The table to hand to a kernel that was compiled apart.
[[nodiscard]] const Runtime& runtime_table();

}  // namespace phitune::host
