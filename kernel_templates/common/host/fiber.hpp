// A fiber that its owner resumes and that gives control back: Boost.Context with the annotations that AddressSanitizer needs.
#pragma once

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <functional>
#include <utility>

#include "kernel_templates/common/host/stack_pool.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace phitune::host {

/// Both sides of a fiber; not thread-safe. A started fiber must have run to its end before it is destroyed.
class Fiber {
 public:
  Fiber() = default;

  /// `body` runs on a stack of its own, with a guard page, from the first resume() on.
  Fiber(std::size_t stack_bytes, std::function<void()> body) : body_(std::move(body)), stack_bytes_(stack_bytes) {}

  Fiber(Fiber&&) = delete;
  Fiber& operator=(Fiber&& other) noexcept {
    // Only before it starts: the running body holds a pointer to this object.
    body_ = std::move(other.body_);
    stack_bytes_ = other.stack_bytes_;
    return *this;
  }

  [[nodiscard]] bool started() const { return started_; }

  /// Called by the owner: runs the body until it suspends or ends.
  void resume() {
    if (!started_) start();
    enter(&owner_fake_stack_, stack_bottom_, stack_size_);
    inside_ = std::move(inside_).resume();
    leave(owner_fake_stack_, nullptr, nullptr);
  }

  /// Called by the body: back to the owner, until the next resume().
  void suspend() {
    enter(&own_fake_stack_, owner_bottom_, owner_size_);
    outside_ = std::move(outside_).resume();
    leave(own_fake_stack_, &owner_bottom_, &owner_size_);
  }

 private:
  void start() {
    started_ = true;
    PooledStack allocator{stack_bytes_};
    const boost::context::stack_context stack = allocator.allocate();
    stack_bottom_ = static_cast<char*>(stack.sp) - stack.size;
    stack_size_ = stack.size;
    unpoison(stack_bottom_, stack_size_);
    inside_ = boost::context::fiber(std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack), allocator,
                                    [this](boost::context::fiber&& owner) {
                                      outside_ = std::move(owner);
                                      leave(nullptr, &owner_bottom_, &owner_size_);
                                      body_();
                                      enter(nullptr, owner_bottom_, owner_size_);
                                      return std::move(outside_);
                                    });
  }

#if defined(__SANITIZE_ADDRESS__)
  static void enter(void** fake_stack, const void* bottom, std::size_t size) { __sanitizer_start_switch_fiber(fake_stack, bottom, size); }
  static void leave(void* fake_stack, const void** bottom, std::size_t* size) { __sanitizer_finish_switch_fiber(fake_stack, bottom, size); }
  // The last frame of a fiber never returns, so an earlier one may have left its red zones where this stack lies now.
  static void unpoison(const void* bottom, std::size_t size) { __asan_unpoison_memory_region(bottom, size); }
#else
  static void enter(void**, const void*, std::size_t) {}
  static void leave(void*, const void**, std::size_t*) {}
  static void unpoison(const void*, std::size_t) {}
#endif

  std::function<void()> body_;
  std::size_t stack_bytes_ = 0;
  bool started_ = false;
  boost::context::fiber inside_, outside_;
  const void* stack_bottom_ = nullptr;
  std::size_t stack_size_ = 0;
  const void* owner_bottom_ = nullptr;
  std::size_t owner_size_ = 0;
  void* owner_fake_stack_ = nullptr;
  void* own_fake_stack_ = nullptr;
};

}  // namespace phitune::host
