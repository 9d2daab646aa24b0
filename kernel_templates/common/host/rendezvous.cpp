// Where threads meet: collectives of warps and warpgroups, barriers, and what is said when they do not.
#include <algorithm>
#include <cstring>

#include "kernel_templates/common/host/state.hpp"

namespace phitune::host {

std::string text(const Site& site) {
  std::string file = site.file;
  for (const char* root : {"tests/kernel_templates/", "kernel_templates/"}) {
    if (const auto at = file.find(root); at != std::string::npos) {
      file.erase(0, at);
      break;
    }
  }
  return std::string(site.instruction) + " at " + file + ":" + std::to_string(site.line) + ":" + std::to_string(site.column);
}

std::string text(const Extent& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

std::string name_of(const Thread& thread) {
  return "block " + text(thread.block->index) + ", thread " + std::to_string(thread.place.thread);
}

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

bool operator==(const Site& a, const Site& b) {
  const auto same = [](const char* x, const char* y) { return x == y || std::strcmp(x, y) == 0; };
  return a.line == b.line && a.column == b.column && same(a.instruction, b.instruction) && same(a.file, b.file);
}

void fail(const Site& site, const std::string& what) { throw LaunchError(what + "\n  " + name_of(*current) + ": " + text(site)); }

void suspend() {
  Thread& thread = *current;
  thread.fiber.suspend();
  if (thread.block->cancelled) throw Cancelled{};
}

void wake(Thread& thread) { thread.warp->ready |= 1u << thread.place.lane; }

namespace {

// The meeting of the running thread's group, and how many take part.
std::pair<Meeting*, std::size_t> meeting_of(Group group, const Site& site) {
  Warp& warp = *current->warp;
  if (group == Group::warp) return {&warp.meeting, warp_size};
  if (warp.group == nullptr) {
    fail(site, "a block of " + std::to_string(current->block->threads) +
                   " threads has no whole warpgroup here: warpgroups are 128 threads, counted from thread 0");
  }
  return {&warp.group->meeting, warpgroup_warps * warp_size};
}

}  // namespace

void meet(Group group, const Site& site, void* operands, Perform perform) {
  Thread& me = *current;
  const auto [meeting, size] = meeting_of(group, site);
  me.operands = operands;
  me.site = site;
  if (!meeting->arrived.empty() && !(meeting->arrived.front()->site == site)) {
    const Thread& first = *meeting->arrived.front();
    fail(site, std::string("divergence at a ") + (group == Group::warp ? "warp" : "warpgroup") +
                   " collective: its threads wait at different instructions\n  " + name_of(first) + ": " + text(first.site));
  }
  meeting->arrived.push_back(&me);
  if (meeting->arrived.size() < size) return suspend();
  std::array<void*, warpgroup_warps * warp_size> all;
  const unsigned first_thread = me.place.thread / static_cast<unsigned>(size) * static_cast<unsigned>(size);
  for (const Thread* thread : meeting->arrived) all[thread->place.thread - first_thread] = thread->operands;
  if (perform != nullptr) perform(all.data());
  ++me.block->statistics.collectives;
  for (Thread* thread : meeting->arrived) {
    if (thread != &me) wake(*thread);
  }
  meeting->arrived.clear();
}

namespace {

// bar.sync counts whole warps: all 32 lanes of each warp, at one instruction.
void check_whole_warps(const BlockBarrier& barrier, const Site& site) {
  std::map<const Warp*, std::pair<std::uint32_t, const Thread*>> seen;
  for (const Thread* thread : barrier.waiting) {
    auto& [lanes, first] = seen[thread->warp];
    if (lanes != 0 && first->site != thread->site) {
      fail(site, "divergence at a barrier: " + name_of(*first) + " waits: " + text(first->site) + "\n  " + name_of(*thread) +
                     " waits: " + text(thread->site));
    }
    if (lanes == 0) first = thread;
    lanes |= 1u << thread->place.lane;
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
  BlockBarrier& barrier = me.block->barriers[id];
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
    if (thread != &me) wake(*thread);
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

}  // namespace phitune::host
