// Asynchronous copies to shared memory: those of a thread (cp.async), and those of the async proxy with the barriers that count their
// bytes.
#include <cstring>

#include "kernel_templates/common/host/state.hpp"

namespace phitune::host {

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

// ---- barriers that count arrivals and bytes ----

namespace {

constexpr unsigned most_arrivals = (1u << 20) - 1;  // PTX ISA, mbarrier

CountingBarrier& counting_barrier(void* barrier, const Site& site) {
  check_shared(barrier, 8, 8, site);
  const auto found = current->block->counting_barriers.find(barrier);
  if (found == current->block->counting_barriers.end()) {
    fail(site, "no barrier was initialised at byte " + std::to_string(static_cast<char*>(barrier) - current->block->shared) +
                   " of shared memory (or its initialisation is not ordered before this)");
  }
  return found->second;
}

void end_phase_when_complete(CountingBarrier& barrier) {
  if (barrier.missing != 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.missing = barrier.arrivals;
  for (Thread* thread : barrier.waiting) wake(*thread);
  barrier.waiting.clear();
}

}  // namespace

void init_counting_barrier(void* barrier, unsigned arrivals, const Site& site) {
  check_shared(barrier, 8, 8, site);
  if (arrivals == 0 || arrivals > most_arrivals) fail(site, "a barrier of " + std::to_string(arrivals) + " arrivals");
  CountingBarrier& fresh = current->block->counting_barriers[barrier];
  if (!fresh.waiting.empty()) fail(site, "a barrier is initialised while " + name_of(*fresh.waiting.front()) + " waits at it");
  fresh = {.arrivals = arrivals, .missing = arrivals, .bytes = 0, .phase = 0, .waiting = {}};
}

void arrive_at_counting_barrier(void* barrier, unsigned bytes, const Site& site) {
  CountingBarrier& counted = counting_barrier(barrier, site);
  if (counted.missing == 0) {
    fail(site, "one arrival more than the " + std::to_string(counted.arrivals) + " that the barrier was initialised for, in phase " +
                   std::to_string(counted.phase));
  }
  counted.bytes += bytes;
  --counted.missing;
  end_phase_when_complete(counted);
}

void wait_at_counting_barrier(void* barrier, unsigned parity, const Site& site) {
  if (parity > 1) fail(site, "parity " + std::to_string(parity) + ": a phase has parity 0 or 1");
  CountingBarrier& counted = counting_barrier(barrier, site);
  while (counted.phase % 2 == parity) {
    current->site = site;
    counted.waiting.push_back(current);
    suspend();
  }
}

// ---- the async proxy ----

char* async_view(Block& block) {
  if (block.async_view.empty()) block.async_view.assign(block.shared_bytes, static_cast<char>(0xFF));
  return block.async_view.data();
}

void issue_bulk_copy(void* target, const void* source, unsigned bytes, void* barrier, const Site& site) {
  if (bytes == 0 || bytes % 16 != 0) fail(site, "a bulk copy of " + std::to_string(bytes) + " bytes: it takes a positive multiple of 16");
  check_shared(target, bytes, 16, site);
  check_aligned(source, 16, site);
  static_cast<void>(counting_barrier(barrier, site));
  Block& block = *current->block;
  char* const to = static_cast<char*>(target);
  std::memset(to, 0xFF, bytes);
  std::memset(async_view(block) + (to - block.shared), 0xFF, bytes);
  block.bulk_copies.push_back({to, source, bytes, barrier, name_of(*current) + ": " + text(site)});
}

bool land_bulk_copy(Block& block) {
  if (block.bulk_copies.empty()) return false;
  const BulkCopy copy = block.bulk_copies.front();
  block.bulk_copies.pop_front();
  std::memcpy(copy.target, copy.source, copy.bytes);
  std::memcpy(async_view(block) + (copy.target - block.shared), copy.source, copy.bytes);
  CountingBarrier& barrier = block.counting_barriers.at(copy.barrier);
  barrier.bytes -= copy.bytes;
  // Bytes may come before they are expected, but only while an arrival that can expect them is still missing.
  if (barrier.bytes < 0 && barrier.missing == 0) {
    throw LaunchError("a bulk copy brought " + std::to_string(-barrier.bytes) + " bytes more than its barrier expected\n  " + copy.who);
  }
  end_phase_when_complete(barrier);
  return true;
}

void fence_async(const Site&) {
  Block& block = *current->block;
  std::memcpy(async_view(block), block.shared, block.shared_bytes);
}

}  // namespace phitune::host
