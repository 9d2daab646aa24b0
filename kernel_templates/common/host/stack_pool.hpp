// Stacks of fibers, kept for the next launch: mapping and touching hundreds of them anew costs more than a small kernel.
#pragma once

#include <boost/context/protected_fixedsize_stack.hpp>
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace phitune::host {

/// Thread-safe. Stacks have a guard page; their contents are whatever was left there.
class StackPool {
 public:
  StackPool() = default;
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;
  ~StackPool() {
    for (auto& [bytes, stacks] : free_) {
      for (boost::context::stack_context& stack : stacks) boost::context::protected_fixedsize_stack(bytes).deallocate(stack);
    }
  }

  /// Of the whole process.
  static StackPool& instance() {
    static StackPool pool;
    return pool;
  }

  [[nodiscard]] boost::context::stack_context take(std::size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      auto& stacks = free_[bytes];
      if (!stacks.empty()) {
        const boost::context::stack_context stack = stacks.back();
        stacks.pop_back();
        return stack;
      }
    }
    return boost::context::protected_fixedsize_stack(bytes).allocate();
  }
  void give(std::size_t bytes, const boost::context::stack_context& stack) {
    const std::lock_guard lock(mutex_);
    free_[bytes].push_back(stack);
  }

 private:
  std::mutex mutex_;
  std::map<std::size_t, std::vector<boost::context::stack_context>> free_;
};

/// What Boost.Context asks for stacks; `bytes` as the pool knows them.
struct PooledStack {
  std::size_t bytes;
  boost::context::stack_context allocate() { return StackPool::instance().take(bytes); }
  void deallocate(boost::context::stack_context& stack) { StackPool::instance().give(bytes, stack); }
};

}  // namespace phitune::host
