// Runs a kernel template on the CPU: every thread of a block is a fiber, blocks are spread over CPU threads.
//
// The model is stricter than a GPU where that finds bugs. A warp collective needs all 32 lanes at the same source line. Dynamic shared
// memory starts as NaN bytes and has its exact size on the heap, so AddressSanitizer sees an overrun. An asynchronous copy destroys its
// target when it is issued and lands only at the wait that requires it. Divergence, deadlock and misaligned addresses end the launch with
// a LaunchError that names block, threads and source lines.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

namespace phitune::host {

inline constexpr unsigned warp_size = 32;
inline constexpr unsigned named_barriers = 16;  // as in hardware; 0 is the barrier of the whole block

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

struct Options {
  std::uint64_t seed = 0;               // 0: warps and lanes in order; else both are shuffled, differently for each seed and block
  unsigned workers = 0;                 // CPU threads; 0: as many as the machine has
  std::size_t stack_bytes = 256 << 10;  // of one fiber
};

/// What was wrong with a kernel, and where.
class LaunchError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What a launch did, for measuring the emulator.
struct Statistics {
  std::uint64_t switches = 0;     // fiber resumptions
  std::uint64_t collectives = 0;  // warp collectives, each done once for 32 threads
  std::uint64_t barriers = 0;     // completed block and named barriers
};

/// Runs `kernel` once per thread of the grid. Blocks run in any order and in parallel; returns when all are done. Throws LaunchError for
/// a fault of the kernel (the first one found; other blocks may not have run) and std::invalid_argument for an impossible geometry:
/// 1 to 1024 threads per block, a multiple of 32. Thread-safe; not to be called from within a kernel.
Statistics launch(Extent grid, Extent block, std::size_t dynamic_shared_bytes, const std::function<void()>& kernel,
                  const Options& options = {});

// Everything below is what the instruction twins (instructions.hpp) are written with; it is used inside a kernel only.

struct Block;
struct Warp;

/// Where a thread waits: an instruction and the source line that calls it.
struct Site {
  const char* instruction = nullptr;
  std::source_location where;
  bool operator==(const Site& other) const;
};

/// One asynchronous copy on its way to shared memory; `valid_bytes` are copied, the rest of `bytes` is zeroed.
struct AsyncCopy {
  void* target;
  const void* source;
  unsigned bytes;
  unsigned valid_bytes;
};

/// A thread of the emulated block.
struct Thread {
  Block* block = nullptr;
  Warp* warp = nullptr;
  unsigned index = 0;  // in the block, x fastest
  unsigned lane = 0;
  void* operands = nullptr;  // of the collective this thread waits at
  Site site;
  std::vector<AsyncCopy> copies;     // issued, not landed, oldest first
  std::vector<std::size_t> commits;  // for each open group, the number of copies issued up to its commit
};

struct Warp {
  std::array<Thread*, warp_size> threads{};
  std::uint32_t ready = 0;    // lanes that can run
  std::uint32_t arrived = 0;  // lanes waiting at the warp collective under way
};

struct Barrier {
  unsigned expected = 0;
  std::vector<Thread*> waiting;
};

struct Block {
  Extent index, grid, extent;
  unsigned threads = 0;
  char* shared = nullptr;
  std::size_t shared_bytes = 0;
  std::array<Barrier, named_barriers> barriers;
  bool cancelled = false;  // a thread failed: the others unwind
  Statistics statistics;
};

/// The thread that is running; null outside a kernel.
inline constinit thread_local Thread* current = nullptr;

/// Ends the launch with a message that names the running thread and `site`.
[[noreturn]] void fail(const Site& site, const std::string& what);

/// Registers the running thread at a warp collective; true for the last of the 32, which then performs it and calls release_warp.
[[nodiscard]] bool arrive_in_warp(const Site& site, void* operands);
void release_warp();
/// Lets other fibers run until release_warp of this thread's warp.
void wait_in_warp();

/// Waits until `threads` threads, in whole warps, have arrived at barrier `id`.
void wait_at_barrier(unsigned id, unsigned threads, const Site& site);

/// Fails unless [address, address + bytes) lies in the block's dynamic shared memory and is aligned to `alignment`.
void check_shared(const void* address, std::size_t bytes, std::size_t alignment, const Site& site);
void check_aligned(const void* address, std::size_t alignment, const Site& site);

void issue_copy(void* target, const void* source, unsigned bytes, unsigned valid_bytes, const Site& site);
void commit_copies();
/// Lands the oldest groups until at most `pending` committed groups are open.
void await_copies(unsigned pending);
void await_all_copies();

/// A collective of the running thread's warp: `perform` receives the operands of all 32 lanes, once.
template <class Operands, class Perform>
void warp_collective(const Site& site, Operands& operands, Perform&& perform) {
  if (!arrive_in_warp(site, &operands)) return wait_in_warp();
  std::array<Operands*, warp_size> all;
  for (unsigned i = 0; i < warp_size; ++i) all[i] = static_cast<Operands*>(current->warp->threads[i]->operands);
  perform(all);
  release_warp();
}

}  // namespace phitune::host
