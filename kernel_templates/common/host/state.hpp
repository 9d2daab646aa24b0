// What the emulator knows of the blocks it runs. Internal to this folder.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kernel_templates/common/host/executor.hpp"
#include "kernel_templates/common/host/fiber.hpp"

namespace phitune::host {

inline constexpr unsigned named_barriers = 16;  // as in hardware; 0 is the barrier of the whole block
inline constexpr unsigned warpgroup_warps = 4;

struct Block;
struct Warp;
struct Warpgroup;

/// Thrown through the fibers of a block in which another thread has failed.
struct Cancelled {};

/// One asynchronous copy on its way to shared memory; `valid_bytes` are copied, the rest of `bytes` is zeroed.
struct AsyncCopy {
  void* target;
  const void* source;
  unsigned bytes;
  unsigned valid_bytes;
};

/// What a thread's registers hold, or will, that products in flight accumulate in.
struct Accumulators {
  std::vector<float> values;
  bool packed;  // fp16

  Accumulators(const void* registers, std::size_t count, bool fp16);
  void fill_nan(void* registers) const;
  [[nodiscard]] bool are_nan(const void* registers) const;
  void store(void* registers) const;
};

/// A fiber that is given one thread of one block after another.
struct Thread {
  Place place;
  Block* block = nullptr;
  Warp* warp = nullptr;
  Fiber fiber;
  bool finished = true;
  void* operands = nullptr;                           // of the collective this thread waits at
  Site site;                                          // where it waits
  std::vector<AsyncCopy> copies;                      // issued, not landed, oldest first
  std::vector<std::size_t> commits;                   // for each open group, the number of copies issued up to its commit
  std::map<void*, Accumulators> accumulators;         // of products in flight, whose registers are NaN meanwhile
};

/// Threads of a group that wait at the collective under way.
struct Meeting {
  std::vector<Thread*> arrived;
};

struct Warp {
  std::array<Thread*, warp_size> threads{};
  Warpgroup* group = nullptr;
  std::uint32_t ready = 0;  // lanes that can run
  Meeting meeting;

  // Products of the warpgroup, as this warp sees them: issued, not done, oldest first.
  std::vector<std::array<WarpgroupProduct, warp_size>> products;
  std::vector<std::size_t> product_commits;  // as AsyncCopy's commits
  bool fenced = false;                       // registers were fenced since the last wait
};

struct Warpgroup {
  std::array<Warp*, warpgroup_warps> warps{};
  Meeting meeting;
};

struct BlockBarrier {
  unsigned expected = 0;
  std::vector<Thread*> waiting;
};

/// A barrier in shared memory. Its phase is over when all arrivals have come and no byte is outstanding.
struct CountingBarrier {
  unsigned arrivals = 0;
  unsigned missing = 0;
  std::int64_t bytes = 0;
  unsigned phase = 0;
  std::vector<Thread*> waiting;
};

struct BulkCopy {
  char* target;
  const void* source;
  unsigned bytes;
  void* barrier;
  std::string who;  // for messages
};

/// Blocks of a launch that run at once and count up for each other. Thread-safe.
class Gang {
 public:
  explicit Gang(unsigned blocks) : running_(blocks) {}
  [[nodiscard]] std::uint64_t counted() const;
  /// A counter has been raised.
  void count_up();
  /// A block waits until a counter is raised after it saw `counted`. False when none ever will be: all wait, or one has failed.
  [[nodiscard]] bool wait(std::uint64_t counted);
  /// A block has ended, and how.
  void leave(bool failed);

 private:
  void give_up_if_all_wait();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  unsigned running_;
  unsigned waiting_ = 0;
  std::uint64_t counted_ = 0;
  bool given_up_ = false;
};

/// A thread that waits for a counter in global memory.
struct CountWaiter {
  const u32* counter;
  u32 target;
  Thread* thread;
};

struct Block {
  Extent index, grid;
  unsigned threads = 0;
  char* shared = nullptr;
  std::size_t shared_bytes = 0;
  std::array<BlockBarrier, named_barriers> barriers;
  std::map<const void*, CountingBarrier> counting_barriers;
  std::deque<BulkCopy> bulk_copies;  // on their way
  std::vector<CountWaiter> count_waiters;
  Gang* gang = nullptr;              // of the blocks that run at once; null when they need not
  std::vector<char> async_view;      // shared memory as the async proxy sees it; made when first needed
  bool cancelled = false;            // a thread failed: the others unwind
  Statistics statistics;
};

/// The thread that is running; null outside a kernel.
inline constinit thread_local Thread* current = nullptr;

[[nodiscard]] std::string text(const Site& site);
[[nodiscard]] std::string text(const Extent& index);
[[nodiscard]] std::string name_of(const Thread& thread);
[[nodiscard]] bool operator==(const Site& a, const Site& b);
/// "0-31 64" for sorted indices.
[[nodiscard]] std::string ranges(const std::vector<unsigned>& indices);

/// Ends the launch with a message that names the running thread and `site`.
[[noreturn]] void fail(const Site& site, const std::string& what);

/// Leaves the running fiber for the scheduler of its block, and comes back when the scheduler resumes it.
void suspend();
/// Lets a thread that waits run again.
void wake(Thread& thread);

/// The block's shared memory as the async proxy sees it.
[[nodiscard]] char* async_view(Block& block);
/// Lands the oldest bulk copy; false when there is none.
bool land_bulk_copy(Block& block);
/// Wakes threads whose counters have come as far as they wait for, if need be when another block has counted; false when none will.
bool await_counts(Block& block);

// Entries of the table, each in the file of its subject.
void meet(Group group, const Site& site, void* operands, Perform perform);
void wait_at_barrier(unsigned id, unsigned threads, const Site& site);
void count_up_for_blocks(u32* counter);
void wait_for_count(const u32* counter, u32 target, const Site& site);
void check_shared(const void* address, std::size_t bytes, std::size_t alignment, const Site& site);
void check_aligned(const void* address, std::size_t alignment, const Site& site);
void issue_copy(void* target, const void* source, unsigned bytes, unsigned valid_bytes, const Site& site);
void commit_copies();
void await_copies(unsigned pending);
void init_counting_barrier(void* barrier, unsigned arrivals, const Site& site);
void arrive_at_counting_barrier(void* barrier, unsigned bytes, const Site& site);
void wait_at_counting_barrier(void* barrier, unsigned parity, const Site& site);
void issue_bulk_copy(void* target, const void* source, unsigned bytes, void* barrier, const Site& site);
void fence_async(const Site& site);
void issue_product(const WarpgroupProduct& product, const Site& site);
void fence_products(const Site& site);
void commit_products(const Site& site);
void await_products(unsigned pending, const Site& site);
void load_matrices(void* const* lanes);
void store_matrices(void* const* lanes);
void multiply_bf16(void* const* lanes);
void multiply_f16(void* const* lanes);
void multiply_tf32(void* const* lanes);

}  // namespace phitune::host
