// What a kernel that runs on the CPU asks of the emulator: plain data and one table of functions. A kernel may therefore be compiled apart
// from the emulator, by another compiler at run time, and be handed the table (twin.hpp); it needs this folder's headers and nothing else.
#pragma once

#include <cstddef>
#include <source_location>

#include "kernel_templates/common/numeric.cuh"

namespace phitune::host {

inline constexpr unsigned warp_size = 32;

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

/// Where a thread is.
struct Place {
  unsigned thread = 0;  // in its block, x fastest
  unsigned threads = 0;
  unsigned lane = 0;
  Extent block, grid;
  char* shared = nullptr;  // the block's dynamic shared memory
  std::size_t shared_bytes = 0;
};

/// Where a thread waits or fails: an instruction and the source line that calls it.
struct Site {
  Site() = default;
  Site(const char* name, const std::source_location& where)
      : instruction(name), file(where.file_name()), line(where.line()), column(where.column()) {}
  const char* instruction = nullptr;
  const char* file = nullptr;
  unsigned line = 0, column = 0;
};

/// Threads that meet at a collective: 32, or four whole warps.
enum class Group { warp, warpgroup };

/// What is done once for all threads of a group: receives the operands of each, in thread order.
using Perform = void (*)(void* const* operands);

/// What one lane gives to load_matrices or store_matrices: its registers and its row. `matrices` 8x8 matrices of 16-bit elements; lane
/// 8i + j names row j of matrix i.
struct MatrixMove {
  u32* registers;
  void* row;
  int matrices;
  bool transposed;
};

/// What one lane gives to a product of its warp, c += a b.
struct MatrixProduct {
  float* c;
  const u32* a;
  const u32* b;
};

/// One product of a warpgroup, wgmma m64nNk16, as one thread asks for it. A comes from registers when `a` is set,
/// else by its descriptor. An operand is contiguous along k unless it is said to be contiguous along m or n.
struct WarpgroupProduct {
  void* c = nullptr;   // n / 2 values of fp32, or of fp16 in packed pairs
  const u32* a = nullptr;
  u64 a_descriptor = 0, b_descriptor = 0;
  int n = 0;
  bool half = false;  // fp16 operands; else bf16
  bool packed = false;  // accumulators of fp16
  bool m_contiguous = false, n_contiguous = false;
  bool accumulate = false;
};

/// The emulator's entry points. All are for the running thread of a kernel. Each throws (through the kernel) for a fault, with a message
/// that names the block, the thread and the site.
struct Runtime {
  const Place* (*place)();
  void (*fail)(const Site& site, const char* what);

  // Rendezvous.
  void (*collective)(Group group, const Site& site, void* operands, Perform perform);
  void (*block_barrier)(unsigned id, unsigned threads, const Site& site);

  // Between blocks that run at once: adds one to a counter; waits until one has reached a value.
  void (*count_up)(u32* counter);
  void (*wait_for_count)(const u32* counter, u32 target, const Site& site);

  // Addresses: inside the block's dynamic shared memory, and aligned.
  void (*check_shared)(const void* address, std::size_t bytes, std::size_t alignment, const Site& site);
  void (*check_aligned)(const void* address, std::size_t alignment, const Site& site);

  // Copies of a thread (cp.async): land no sooner than at the wait that requires them.
  void (*copy)(void* target, const void* source, unsigned bytes, unsigned valid_bytes, const Site& site);
  void (*copy_commit)();
  void (*copy_wait)(unsigned pending);

  // What a warp does at once; to be given to collective(). Operands: MatrixMove for the first two, then MatrixProduct.
  Perform load_matrices, store_matrices;
  Perform multiply_bf16, multiply_f16, multiply_tf32;

  // Barriers in shared memory that count arrivals and bytes (mbarrier).
  void (*barrier_init)(void* barrier, unsigned arrivals, const Site& site);
  void (*barrier_arrive)(void* barrier, unsigned bytes, const Site& site);
  void (*barrier_wait)(void* barrier, unsigned parity, const Site& site);

  // Copies by the async proxy (cp.async.bulk): land when no thread of the block can go on without them.
  void (*bulk_copy)(void* target, const void* source, unsigned bytes, void* barrier, const Site& site);
  void (*fence_async)(const Site& site);

  // Products of a warpgroup (wgmma): take effect no sooner than at the wait that requires them.
  void (*product)(const WarpgroupProduct& product, const Site& site);
  void (*product_fence)(const Site& site);
  void (*product_commit)(const Site& site);
  void (*product_wait)(unsigned pending, const Site& site);
};

/// The table, the same everywhere in a program; a twin's copy is set when it is loaded.
extern const Runtime* runtime;

}  // namespace phitune::host
