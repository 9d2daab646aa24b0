// A loop over independent items on all cores.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace phitune {

/// Calls `work(i)` once for every i < count, on up to `most_threads` threads (0: hardware_concurrency). Rethrows the first exception after
/// all have stopped.
template <typename Work>
void parallel_for(std::size_t count, Work&& work, std::size_t most_threads = 0) {
  if (most_threads == 0) most_threads = std::max(1u, std::thread::hardware_concurrency());
  const std::size_t threads = std::min(count, most_threads);
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex guard;
  const auto run = [&] {
    try {
      for (std::size_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      const std::lock_guard lock(guard);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  {
    std::vector<std::jthread> pool;
    for (std::size_t i = 1; i < threads; ++i) pool.emplace_back(run);
    run();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace phitune
