// Counters in global memory by which blocks that run at once wait for each other.
#include "kernel_templates/common/host/state.hpp"

namespace phitune::host {

std::uint64_t Gang::counted() const {
  const std::lock_guard lock(mutex_);
  return counted_;
}

void Gang::count_up() {
  const std::lock_guard lock(mutex_);
  ++counted_;
  waiting_ = 0;  // all look again
  changed_.notify_all();
}

bool Gang::wait(std::uint64_t counted) {
  std::unique_lock lock(mutex_);
  if (counted_ != counted) return true;
  ++waiting_;
  give_up_if_all_wait();
  changed_.wait(lock, [&] { return counted_ != counted || given_up_; });
  return counted_ != counted;
}

void Gang::leave(bool failed) {
  const std::lock_guard lock(mutex_);
  --running_;
  if (failed) given_up_ = true;
  give_up_if_all_wait();
  changed_.notify_all();
}

void Gang::give_up_if_all_wait() {
  if (running_ == 0 || waiting_ < running_) return;
  given_up_ = true;
  changed_.notify_all();
}

void count_up_for_blocks(u32* counter) {
  __atomic_fetch_add(counter, 1, __ATOMIC_RELEASE);
  if (Gang* gang = current->block->gang) gang->count_up();
}

void wait_for_count(const u32* counter, u32 target, const Site& site) {
  if (__atomic_load_n(counter, __ATOMIC_ACQUIRE) >= target) return;
  current->site = site;
  current->block->count_waiters.push_back({counter, target, current});
  suspend();
}

bool await_counts(Block& block) {
  for (;;) {
    const std::uint64_t counted = block.gang != nullptr ? block.gang->counted() : 0;
    const auto still = std::erase_if(block.count_waiters, [](const CountWaiter& waiter) {
      if (__atomic_load_n(waiter.counter, __ATOMIC_ACQUIRE) < waiter.target) return false;
      wake(*waiter.thread);
      return true;
    });
    if (still > 0) return true;
    if (block.count_waiters.empty() || block.gang == nullptr || !block.gang->wait(counted)) return false;
  }
}

}  // namespace phitune::host
