#include "kernel_templates/common/host/executor.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <thread>

#include "kernel_templates/common/host/fiber.hpp"

namespace phitune::host {
namespace {

/// Thrown through the fibers of a block in which another thread has failed.
struct Cancelled {};

constexpr std::size_t shared_alignment = 1024;

/// A fiber that can be given one thread of one block after another.
struct ThreadFiber : Thread {
  Fiber fiber;
  bool finished = true;
};

std::string text(const Site& site) {
  std::string file = site.where.file_name();
  for (const char* root : {"tests/kernel_templates/", "kernel_templates/"}) {
    if (const auto at = file.find(root); at != std::string::npos) {
      file.erase(0, at);
      break;
    }
  }
  return std::string(site.instruction) + " at " + file + ":" + std::to_string(site.where.line()) + ":" +
         std::to_string(site.where.column());
}

std::string text(const Extent& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

std::string name_of(const Thread& thread) { return "block " + text(thread.block->index) + ", thread " + std::to_string(thread.index); }

/// "0-31 64" for sorted indices.
std::string ranges(const std::vector<unsigned>& indices) {
  std::string out;
  for (std::size_t i = 0; i < indices.size();) {
    std::size_t j = i;
    while (j + 1 < indices.size() && indices[j + 1] == indices[j] + 1) ++j;
    if (!out.empty()) out += ' ';
    out += std::to_string(indices[i]);
    if (j > i) out += "-" + std::to_string(indices[j]);
    i = j + 1;
  }
  return out;
}

/// Leaves the running fiber for the scheduler of its block, and comes back when the scheduler resumes it.
void suspend() {
  auto& thread = static_cast<ThreadFiber&>(*current);
  thread.fiber.suspend();
  if (thread.block->cancelled) throw Cancelled{};
}

class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes)
      : bytes_(bytes), data_(bytes == 0 ? nullptr : static_cast<char*>(::operator new (bytes, std::align_val_t{shared_alignment}))) {}
  ~SharedMemory() {
    if (data_ != nullptr) ::operator delete (data_, std::align_val_t{shared_alignment});
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Every float, half and bfloat16 made of these bytes is NaN.
  void poison() {
    if (data_ != nullptr) std::memset(data_, 0xFF, bytes_);
  }
  char* data() { return data_; }

 private:
  std::size_t bytes_;
  char* data_;
};

/// Runs blocks one after another on one CPU thread; keeps the fibers and their stacks between blocks.
class Worker {
 public:
  Worker(Extent grid, Extent extent, std::size_t shared_bytes, const std::function<void()>& kernel, const Options& options);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void run(std::uint64_t linear_block);
  [[nodiscard]] const Statistics& statistics() const { return block_.statistics; }

 private:
  void reset(std::uint64_t linear_block);
  void body(ThreadFiber& thread);
  void resume(ThreadFiber& thread);
  void run_warp(std::size_t warp);
  [[nodiscard]] std::optional<std::size_t> next_warp(std::size_t last);
  [[nodiscard]] unsigned next_lane(const Warp& warp, unsigned last);
  void cancel();
  [[nodiscard]] std::string deadlock() const;

  const std::function<void()>& kernel_;
  Options options_;
  Block block_;
  SharedMemory shared_;
  std::vector<Warp> warps_;
  std::vector<std::unique_ptr<ThreadFiber>> threads_;
  std::mt19937_64 rng_;
  unsigned unfinished_ = 0;
  bool closing_ = false;
  std::exception_ptr failure_;
};

Worker::Worker(Extent grid, Extent extent, std::size_t shared_bytes, const std::function<void()>& kernel, const Options& options)
    : kernel_(kernel), options_(options), shared_(shared_bytes) {
  block_.grid = grid;
  block_.extent = extent;
  block_.threads = extent.x * extent.y * extent.z;
  block_.shared = shared_.data();
  block_.shared_bytes = shared_bytes;
  warps_.resize(block_.threads / warp_size);
  for (unsigned i = 0; i < block_.threads; ++i) {
    auto& thread = *threads_.emplace_back(std::make_unique<ThreadFiber>());
    thread.block = &block_;
    thread.warp = &warps_[i / warp_size];
    thread.index = i;
    thread.lane = i % warp_size;
    thread.warp->threads[thread.lane] = &thread;
    thread.fiber = Fiber(options.stack_bytes, [this, &thread] { body(thread); });
  }
}

Worker::~Worker() {
  closing_ = true;
  for (auto& thread : threads_) {
    if (thread->fiber.started()) thread->fiber.resume();
  }
}

// What a fiber does all its life: run the kernel once per block until the worker closes.
void Worker::body(ThreadFiber& thread) {
  while (!closing_) {
    try {
      if (!block_.cancelled) kernel_();
    } catch (const Cancelled&) {
    } catch (...) {
      if (!failure_) failure_ = std::current_exception();
    }
    thread.finished = true;
    --unfinished_;
    thread.fiber.suspend();
  }
}

void Worker::reset(std::uint64_t linear_block) {
  const Extent& grid = block_.grid;
  block_.index = {static_cast<unsigned>(linear_block % grid.x), static_cast<unsigned>(linear_block / grid.x % grid.y),
                  static_cast<unsigned>(linear_block / grid.x / grid.y)};
  block_.cancelled = false;
  for (Barrier& barrier : block_.barriers) barrier = {};
  for (Warp& warp : warps_) warp.ready = ~0u, warp.arrived = 0;
  for (auto& thread : threads_) {
    thread->finished = false;
    thread->copies.clear();
    thread->commits.clear();
    thread->site = {};
  }
  unfinished_ = block_.threads;
  shared_.poison();
  rng_.seed(options_.seed * 0x9E3779B97F4A7C15u + linear_block);
}

void Worker::run(std::uint64_t linear_block) {
  reset(linear_block);
  for (std::size_t warp = warps_.size() - 1; unfinished_ > 0 && !failure_;) {
    const auto next = next_warp(warp);
    if (!next) {
      failure_ = std::make_exception_ptr(LaunchError(deadlock()));
      break;
    }
    warp = *next;
    run_warp(warp);
  }
  if (!failure_) return;
  cancel();
  std::rethrow_exception(failure_);
}

void Worker::resume(ThreadFiber& thread) {
  ++block_.statistics.switches;
  current = &thread;
  thread.fiber.resume();
  current = nullptr;
}

void Worker::run_warp(std::size_t index) {
  Warp& warp = warps_[index];
  for (unsigned lane = warp_size - 1; warp.ready != 0 && !failure_;) {
    lane = next_lane(warp, lane);
    warp.ready &= ~(1u << lane);
    resume(static_cast<ThreadFiber&>(*warp.threads[lane]));
    // A shuffled schedule leaves a warp anywhere, not only where it must wait.
    if (options_.seed != 0 && rng_() % 64 == 0) return;
  }
}

std::optional<std::size_t> Worker::next_warp(std::size_t last) {
  const std::size_t start = options_.seed == 0 ? last + 1 : rng_();
  for (std::size_t i = 0; i < warps_.size(); ++i) {
    const std::size_t warp = (start % warps_.size() + i) % warps_.size();
    if (warps_[warp].ready != 0) return warp;
  }
  return std::nullopt;
}

unsigned Worker::next_lane(const Warp& warp, unsigned last) {
  const unsigned start = options_.seed == 0 ? last + 1 : static_cast<unsigned>(rng_() >> 32);
  const unsigned turn = start % warp_size;
  return (static_cast<unsigned>(std::countr_zero(std::rotr(warp.ready, static_cast<int>(turn)))) + turn) % warp_size;
}

// Unwinds every fiber of the block that has begun, so that its stack can serve again.
void Worker::cancel() {
  block_.cancelled = true;
  for (auto& thread : threads_) {
    if (!thread->finished && thread->fiber.started()) resume(*thread);
  }
}

std::string Worker::deadlock() const {
  std::map<std::string, std::vector<unsigned>> waiting;
  std::vector<unsigned> finished;
  for (const auto& thread : threads_) {
    if (thread->finished) {
      finished.push_back(thread->index);
    } else {
      waiting[text(thread->site)].push_back(thread->index);
    }
  }
  std::string out = "deadlock in block " + text(block_.index);
  for (const auto& [site, indices] : waiting) out += "\n  threads " + ranges(indices) + " wait: " + site;
  if (!finished.empty()) out += "\n  threads " + ranges(finished) + " have left the kernel";
  return out;
}

}  // namespace

bool Site::operator==(const Site& other) const {
  const auto same = [](const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; };
  return where.line() == other.where.line() && where.column() == other.where.column() && same(instruction, other.instruction) &&
         same(where.file_name(), other.where.file_name());
}

void fail(const Site& site, const std::string& what) { throw LaunchError(what + "\n  " + name_of(*current) + ": " + text(site)); }

bool arrive_in_warp(const Site& site, void* operands) {
  Thread& me = *current;
  Warp& warp = *me.warp;
  me.operands = operands;
  me.site = site;
  if (warp.arrived != 0) {
    const Thread& first = *warp.threads[static_cast<unsigned>(std::countr_zero(warp.arrived))];
    if (first.site != site) {
      fail(site, "divergence at a warp collective: lanes of one warp wait at different instructions\n  " + name_of(first) + ": " +
                     text(first.site));
    }
  }
  warp.arrived |= 1u << me.lane;
  return warp.arrived == ~0u;
}

void release_warp() {
  Warp& warp = *current->warp;
  ++current->block->statistics.collectives;
  warp.ready |= warp.arrived & ~(1u << current->lane);
  warp.arrived = 0;
}

void wait_in_warp() { suspend(); }

namespace {

// bar.sync counts whole warps: all 32 lanes of each warp, at one instruction.
void check_whole_warps(const Barrier& barrier, const Site& site) {
  std::map<const Warp*, std::pair<std::uint32_t, const Thread*>> seen;
  for (const Thread* thread : barrier.waiting) {
    auto& [lanes, first] = seen[thread->warp];
    if (lanes != 0 && first->site != thread->site) {
      fail(site, "divergence at a barrier: " + name_of(*first) + " waits: " + text(first->site) + "\n  " + name_of(*thread) +
                     " waits: " + text(thread->site));
    }
    if (lanes == 0) first = thread;
    lanes |= 1u << thread->lane;
  }
  for (const auto& [warp, lanes] : seen) {
    if (lanes.first != ~0u)
      fail(site, "a barrier was completed by part of a warp: " + name_of(*lanes.second) + " came without its whole warp");
  }
}

}  // namespace

void wait_at_barrier(unsigned id, unsigned threads, const Site& site) {
  Thread& me = *current;
  me.site = site;
  if (id >= named_barriers) fail(site, "barrier " + std::to_string(id) + " does not exist: there are 16");
  if (threads == 0 || threads % warp_size != 0 || threads > me.block->threads) {
    fail(site, "a barrier of " + std::to_string(threads) + " threads in a block of " + std::to_string(me.block->threads));
  }
  Barrier& barrier = me.block->barriers[id];
  if (barrier.waiting.empty()) barrier.expected = threads;
  if (barrier.expected != threads) {
    fail(site, "barrier " + std::to_string(id) + " is awaited for " + std::to_string(barrier.expected) + " and for " +
                   std::to_string(threads) + " threads; first came " + name_of(*barrier.waiting.front()) + ": " +
                   text(barrier.waiting.front()->site));
  }
  barrier.waiting.push_back(&me);
  if (barrier.waiting.size() < threads) return suspend();
  check_whole_warps(barrier, site);
  for (Thread* thread : barrier.waiting) {
    if (thread != &me) thread->warp->ready |= 1u << thread->lane;
  }
  barrier.waiting.clear();
  ++me.block->statistics.barriers;
}

void check_aligned(const void* address, std::size_t alignment, const Site& site) {
  if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0)
    fail(site, "address not aligned to " + std::to_string(alignment) + " bytes");
}

void check_shared(const void* address, std::size_t bytes, std::size_t alignment, const Site& site) {
  const Block& block = *current->block;
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const auto begin = reinterpret_cast<std::uintptr_t>(block.shared);
  if (block.shared == nullptr || at < begin || at + bytes > begin + block.shared_bytes) {
    fail(site, "address outside the " + std::to_string(block.shared_bytes) + " bytes of shared memory, at byte " +
                   std::to_string(static_cast<std::intptr_t>(at - begin)));
  }
  check_aligned(address, alignment, site);
}

void issue_copy(void* target, const void* source, unsigned bytes, unsigned valid_bytes, const Site& site) {
  check_shared(target, bytes, bytes, site);
  if (valid_bytes != 0) check_aligned(source, bytes, site);
  // It may land at any time from here on, so whoever still reads the target is wrong.
  std::memset(target, 0xFF, bytes);
  current->copies.push_back({target, source, bytes, valid_bytes});
}

void commit_copies() { current->commits.push_back(current->copies.size()); }

namespace {

void land(Thread& thread, std::size_t copies) {
  for (std::size_t i = 0; i < copies; ++i) {
    const AsyncCopy& copy = thread.copies[i];
    if (copy.valid_bytes != 0) std::memcpy(copy.target, copy.source, copy.valid_bytes);
    std::memset(static_cast<char*>(copy.target) + copy.valid_bytes, 0, copy.bytes - copy.valid_bytes);
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(copies));
}

}  // namespace

void await_copies(unsigned pending) {
  Thread& me = *current;
  if (me.commits.size() <= pending) return;
  const std::size_t groups = me.commits.size() - pending;
  const std::size_t copies = me.commits[groups - 1];
  land(me, copies);
  me.commits.erase(me.commits.begin(), me.commits.begin() + static_cast<std::ptrdiff_t>(groups));
  for (std::size_t& commit : me.commits) commit -= copies;
}

void await_all_copies() {
  land(*current, current->copies.size());
  current->commits.clear();
}

Statistics launch(Extent grid, Extent block, std::size_t dynamic_shared_bytes, const std::function<void()>& kernel,
                  const Options& options) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || threads % warp_size != 0) {
    throw std::invalid_argument("a block of " + std::to_string(threads) + " threads: the emulator takes a multiple of 32 up to 1024");
  }
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  if (blocks == 0) throw std::invalid_argument("an empty grid");

  std::atomic<std::uint64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  Statistics total;
  const auto work = [&] {
    try {
      Worker worker(grid, block, dynamic_shared_bytes, kernel, options);
      for (std::uint64_t i = next++; i < blocks; i = next++) worker.run(i);
      const std::lock_guard lock(mutex);
      total.switches += worker.statistics().switches;
      total.collectives += worker.statistics().collectives;
      total.barriers += worker.statistics().barriers;
    } catch (...) {
      next = blocks;
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  const unsigned wanted = options.workers != 0 ? options.workers : std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> helpers;
  for (std::uint64_t i = 1; i < std::min<std::uint64_t>(wanted, blocks); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
  return total;
}

}  // namespace phitune::host
