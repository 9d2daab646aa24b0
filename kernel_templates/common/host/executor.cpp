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

#include "kernel_templates/common/host/state.hpp"

namespace phitune::host {
namespace {

constexpr std::size_t shared_alignment = 1024;

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
  /// Of all blocks of the launch, when they run at once.
  void join(Gang& gang) { block_.gang = &gang; }
  [[nodiscard]] const Statistics& statistics() const { return block_.statistics; }

 private:
  void reset(std::uint64_t linear_block);
  void body(Thread& thread);
  void resume(Thread& thread);
  void run_warp(std::size_t warp);
  [[nodiscard]] std::optional<std::size_t> next_warp(std::size_t last);
  [[nodiscard]] unsigned next_lane(const Warp& warp, unsigned last);
  void land_or_give_up();
  void cancel();
  [[nodiscard]] std::string deadlock() const;

  const std::function<void()>& kernel_;
  Options options_;
  Block block_;
  SharedMemory shared_;
  std::vector<Warp> warps_;
  std::vector<Warpgroup> groups_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::mt19937_64 rng_;
  unsigned unfinished_ = 0;
  bool closing_ = false;
  std::exception_ptr failure_;
};

Worker::Worker(Extent grid, Extent extent, std::size_t shared_bytes, const std::function<void()>& kernel, const Options& options)
    : kernel_(kernel), options_(options), shared_(shared_bytes) {
  block_.grid = grid;
  block_.threads = extent.x * extent.y * extent.z;
  block_.shared = shared_.data();
  block_.shared_bytes = shared_bytes;
  warps_.resize(block_.threads / warp_size);
  groups_.resize(warps_.size() / warpgroup_warps);
  for (unsigned i = 0; i < block_.threads; ++i) {
    auto& thread = *threads_.emplace_back(std::make_unique<Thread>());
    thread.block = &block_;
    thread.warp = &warps_[i / warp_size];
    thread.place = {.thread = i,
                    .threads = block_.threads,
                    .lane = i % warp_size,
                    .block = {},
                    .grid = grid,
                    .shared = shared_.data(),
                    .shared_bytes = shared_bytes};
    thread.warp->threads[thread.place.lane] = &thread;
    if (const unsigned group = i / warp_size / warpgroup_warps; group < groups_.size()) {
      thread.warp->group = &groups_[group];
      groups_[group].warps[i / warp_size % warpgroup_warps] = thread.warp;
    }
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
void Worker::body(Thread& thread) {
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
  for (BlockBarrier& barrier : block_.barriers) barrier = {};
  block_.counting_barriers.clear();
  block_.bulk_copies.clear();
  block_.count_waiters.clear();
  block_.async_view.clear();
  for (Warpgroup& group : groups_) group.meeting.arrived.clear();
  for (Warp& warp : warps_) {
    warp.ready = ~0u;
    warp.meeting.arrived.clear();
    warp.products.clear();
    warp.product_commits.clear();
    warp.fenced = false;
  }
  for (auto& thread : threads_) {
    thread->place.block = block_.index;
    thread->finished = false;
    thread->copies.clear();
    thread->commits.clear();
    thread->accumulators.clear();
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
      // Nobody can go on without what is still on its way.
      land_or_give_up();
      continue;
    }
    warp = *next;
    run_warp(warp);
  }
  if (!failure_ && !block_.bulk_copies.empty()) {
    failure_ = std::make_exception_ptr(
        LaunchError("the block ended while a bulk copy to its shared memory was on its way\n  " + block_.bulk_copies.front().who));
  }
  if (!failure_) return;
  cancel();
  std::rethrow_exception(failure_);
}

void Worker::land_or_give_up() {
  try {
    if (!land_bulk_copy(block_) && !await_counts(block_)) throw LaunchError(deadlock());
  } catch (const LaunchError&) {
    failure_ = std::current_exception();
  }
}

void Worker::resume(Thread& thread) {
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
    resume(*warp.threads[lane]);
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
      finished.push_back(thread->place.thread);
    } else {
      waiting[text(thread->site)].push_back(thread->place.thread);
    }
  }
  std::string out = "deadlock in block " + text(block_.index);
  for (const auto& [site, indices] : waiting) out += "\n  threads " + ranges(indices) + " wait: " + site;
  if (!finished.empty()) out += "\n  threads " + ranges(finished) + " have left the kernel";
  return out;
}

const Place* place() { return &current->place; }
void fail_with_text(const Site& site, const char* what) { fail(site, what); }

constexpr Runtime table = {
    .place = place,
    .fail = fail_with_text,
    .collective = meet,
    .block_barrier = wait_at_barrier,
    .count_up = count_up_for_blocks,
    .wait_for_count = wait_for_count,
    .check_shared = check_shared,
    .check_aligned = check_aligned,
    .copy = issue_copy,
    .copy_commit = commit_copies,
    .copy_wait = await_copies,
    .load_matrices = load_matrices,
    .store_matrices = store_matrices,
    .multiply_bf16 = multiply_bf16,
    .multiply_f16 = multiply_f16,
    .multiply_tf32 = multiply_tf32,
    .barrier_init = init_counting_barrier,
    .barrier_arrive = arrive_at_counting_barrier,
    .barrier_wait = wait_at_counting_barrier,
    .bulk_copy = issue_bulk_copy,
    .fence_async = fence_async,
    .product = issue_product,
    .product_fence = fence_products,
    .product_commit = commit_products,
    .product_wait = await_products,
};

}  // namespace

constinit const Runtime* runtime = &table;

std::string running_thread() { return current != nullptr ? name_of(*current) : "no kernel"; }

const Runtime& runtime_table() { return table; }

Statistics launch(Extent grid, Extent block, std::size_t dynamic_shared_bytes, const std::function<void()>& kernel,
                  const Options& options) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || threads % warp_size != 0) {
    throw std::invalid_argument("a block of " + std::to_string(threads) + " threads: the emulator takes a multiple of 32 up to 1024");
  }
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  if (blocks == 0) throw std::invalid_argument("an empty grid");

  if (options.cooperative && blocks * threads > most_threads_at_once)
    throw std::invalid_argument(std::to_string(blocks) + " blocks of " + std::to_string(threads) + " threads at once: the emulator takes at most " +
                                std::to_string(most_threads_at_once) + " threads");

  std::atomic<std::uint64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  Statistics total;
  Gang gang(options.cooperative ? static_cast<unsigned>(blocks) : 0);
  const auto work = [&] {
    bool failed = false;
    try {
      Worker worker(grid, block, dynamic_shared_bytes, kernel, options);
      if (options.cooperative) worker.join(gang);
      for (std::uint64_t i = next++; i < blocks; i = next++) worker.run(i);
      const std::lock_guard lock(mutex);
      total.switches += worker.statistics().switches;
      total.collectives += worker.statistics().collectives;
      total.barriers += worker.statistics().barriers;
    } catch (...) {
      next = blocks;
      failed = true;
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
    if (options.cooperative) gang.leave(failed);
  };
  const unsigned wanted = options.workers != 0 ? options.workers : std::max(1u, std::thread::hardware_concurrency());
  const std::uint64_t workers = options.cooperative ? blocks : std::min<std::uint64_t>(wanted, blocks);
  std::vector<std::thread> helpers;
  for (std::uint64_t i = 1; i < workers; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
  return total;
}

}  // namespace phitune::host
