// The emulator runs what a GPU would run, and reports what a GPU would get wrong.
#include "kernel_templates/common/host/executor.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "kernel_templates/common/instructions.cuh"

namespace phitune {
namespace {

using host::Extent;
using host::LaunchError;
using host::Options;

/// The message of the LaunchError that a launch of 64 threads ends with.
std::string fault(const std::function<void()>& kernel, std::size_t shared_bytes = 1024, Extent block = {64, 1, 1}) {
  try {
    host::launch({1, 1, 1}, block, shared_bytes, kernel);
  } catch (const LaunchError& error) {
    return error.what();
  }
  return "no fault";
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(Launch, RunsEveryThreadOfEveryBlockOnce) {
  constexpr unsigned blocks = 3 * 4 * 5, threads = 96;
  std::vector<std::atomic<int>> runs(blocks * threads);
  host::launch({3, 4, 5}, {threads, 1, 1}, 0, [&] {
    EXPECT_EQ(grid_size_x() * 100 + grid_size_y() * 10 + grid_size_z(), 345);
    const int block = (block_index_z() * 4 + block_index_y()) * 3 + block_index_x();
    EXPECT_EQ(thread_index() % 32, lane());
    EXPECT_EQ(thread_index() / 32, warp());
    ++runs[static_cast<unsigned>(block) * threads + static_cast<unsigned>(thread_index())];
  });
  for (const auto& count : runs) EXPECT_EQ(count, 1);
}

TEST(Launch, RefusesImpossibleGeometry) {
  EXPECT_THROW(host::launch({1, 1, 1}, {33, 1, 1}, 0, [] {}), std::invalid_argument);
  EXPECT_THROW(host::launch({1, 1, 1}, {0, 1, 1}, 0, [] {}), std::invalid_argument);
  EXPECT_THROW(host::launch({1, 1, 1}, {2048, 1, 1}, 0, [] {}), std::invalid_argument);
  EXPECT_THROW(host::launch({0, 1, 1}, {32, 1, 1}, 0, [] {}), std::invalid_argument);
}

TEST(SharedMemory, StartsAsNanInEveryBlock) {
  host::launch({8, 1, 1}, {32, 1, 1}, 32 * sizeof(float), [] {
    float& mine = reinterpret_cast<float*>(shared_memory())[thread_index()];
    EXPECT_TRUE(std::isnan(mine));
    mine = 1;
  });
}

// Each thread writes its word and reads its neighbour's from the other end of the block.
void reverse_through_shared(std::vector<float>& out, bool with_barrier) {
  auto* words = reinterpret_cast<float*>(shared_memory());
  const int i = thread_index(), n = block_threads();
  words[i] = static_cast<float>(i);
  if (with_barrier) block_barrier();
  out[static_cast<unsigned>(i)] = words[n - 1 - i];
}

TEST(BlockBarrier, OrdersSharedMemoryUnderAnySchedule) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<float> out(128);
    host::launch(
        {1, 1, 1}, {128, 1, 1}, 128 * sizeof(float), [&] { reverse_through_shared(out, true); }, Options{.seed = seed});
    for (unsigned i = 0; i < 128; ++i) EXPECT_EQ(out[i], 127 - static_cast<float>(i)) << "seed " << seed;
  }
}

TEST(BlockBarrier, MissingGivesNan) {
  std::vector<float> out(128);
  host::launch({1, 1, 1}, {128, 1, 1}, 128 * sizeof(float), [&] { reverse_through_shared(out, false); });
  EXPECT_TRUE(std::isnan(out[0]));
}

TEST(Schedule, SeedsGiveDifferentOrdersOfWarpsAndLanes) {
  std::set<std::vector<int>> warp_orders, lane_orders;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    std::vector<int> warps, lanes;
    host::launch(
        {1, 1, 1}, {256, 1, 1}, 0,
        [&] {
          if (lane() == 0) warps.push_back(thread_index() / 32);
          if (thread_index() < 32) lanes.push_back(lane());
        },
        Options{.seed = seed});
    ASSERT_EQ(warps.size(), 8u);
    ASSERT_EQ(lanes.size(), 32u);
    warp_orders.insert(warps);
    lane_orders.insert(lanes);
  }
  EXPECT_GE(warp_orders.size(), 7u);
  EXPECT_GE(lane_orders.size(), 7u);
}

TEST(BlockBarrier, EarlyExitIsADeadlockThatNamesBothSides) {
  const std::string message = fault([] {
    if (thread_index() >= 32) block_barrier();
  });
  EXPECT_CONTAINS(message, "deadlock in block (0, 0, 0)");
  EXPECT_CONTAINS(message, "threads 32-63 wait: block_barrier at ");
  EXPECT_CONTAINS(message, "executor_test.cpp:");
  EXPECT_CONTAINS(message, "threads 0-31 have left the kernel");
}

TEST(BlockBarrier, DifferentLinesWithinAWarpAreDivergence) {
  const std::string message = fault([] {
    if (thread_index() == 5)
      block_barrier();
    else
      block_barrier();
  });
  EXPECT_CONTAINS(message, "divergence at a barrier");
}

// Every block waits for the one after it, and the last for nobody: none could end before the others have begun.
TEST(CooperativeLaunch, BlocksThatWaitForEachOtherRunAtOnce) {
  constexpr unsigned blocks = 9;
  for (const std::uint64_t seed : {0u, 1u, 2u}) {
    std::vector<u32> counters(blocks, 0), seen(blocks, 0);
    host::launch(
        {blocks, 1, 1}, {64, 1, 1}, 0,
        [&] {
          const auto block = static_cast<unsigned>(block_index_x());
          if (thread_index() >= 32) return;
          if (block + 1 < blocks) {
            EXPECT_EQ(wait_for_counts(&counters[block + 1], 1, 1), 1);
            if (lane() == 0) seen[block] = seen[block + 1] + 1;
          }
          warp_barrier();
          if (lane() == 0) count_up(&counters[block]);
        },
        {.seed = seed, .workers = 1, .cooperative = true});
    for (unsigned block = 0; block < blocks; ++block) EXPECT_EQ(seen[block], blocks - 1 - block);
  }
}

TEST(CooperativeLaunch, CountsAreThoseThereWithoutAGap) {
  std::vector<u32> counters{3, 2, 3, 1, 3};
  host::launch({1, 1, 1}, {32, 1, 1}, 0, [&] {
    EXPECT_EQ(wait_for_counts(counters.data(), 5, 2), 3);
    EXPECT_EQ(wait_for_counts(counters.data(), 2, 2), 2);
    EXPECT_EQ(wait_for_counts(counters.data(), 5, 3), 1);
  });
}

TEST(CooperativeLaunch, WaitingForWhatNobodyCountsIsADeadlock) {
  u32 counter = 0;
  const auto kernel = [&] {
    if (thread_index() == 0 && block_index_x() == 0) count_up(&counter);
    static_cast<void>(wait_for_counts(&counter, 1, 2));
  };
  for (const bool cooperative : {false, true}) {
    counter = 0;
    try {
      host::launch({3, 1, 1}, {32, 1, 1}, 0, kernel, {.cooperative = cooperative});
      FAIL() << "it ended";
    } catch (const LaunchError& error) {
      EXPECT_CONTAINS(std::string(error.what()), "deadlock in block");
      EXPECT_CONTAINS(std::string(error.what()), "wait_for_counts at ");
    }
  }
}

TEST(CooperativeLaunch, AFaultInOneBlockEndsThoseThatWaitForIt) {
  u32 counter = 0;
  try {
    host::launch(
        {4, 1, 1}, {32, 1, 1}, 0,
        [&] {
          if (block_index_x() == 3) named_barrier(99, 32);
          static_cast<void>(wait_for_counts(&counter, 1, 1));
        },
        {.cooperative = true});
    FAIL() << "it ended";
  } catch (const LaunchError& error) {
    EXPECT_CONTAINS(std::string(error.what()), "barrier 99 does not exist");
  }
}

TEST(CooperativeLaunch, RefusesMoreThreadsThanThereAreStacksFor) {
  EXPECT_THROW(host::launch({1000, 1, 1}, {64, 1, 1}, 0, [] {}, {.cooperative = true}), std::invalid_argument);
}

TEST(NamedBarrier, JoinsOnlyItsWarps) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    std::vector<float> out(128, -1);
    host::launch(
        {1, 1, 1}, {128, 1, 1}, 128 * sizeof(float),
        [&] {
          auto* words = reinterpret_cast<float*>(shared_memory());
          const int group = thread_index() / 64, i = thread_index() % 64;
          words[thread_index()] = static_cast<float>(i);
          named_barrier(1 + group, 64);
          out[static_cast<unsigned>(thread_index())] = words[group * 64 + 63 - i];
        },
        Options{.seed = seed});
    for (unsigned i = 0; i < 128; ++i) EXPECT_EQ(out[i], 63 - static_cast<float>(i % 64));
  }
}

TEST(NamedBarrier, ReportsMistakes) {
  EXPECT_CONTAINS(fault([] { named_barrier(16, 64); }), "barrier 16 does not exist");
  EXPECT_CONTAINS(fault([] { named_barrier(1, 48); }), "a barrier of 48 threads");
  EXPECT_CONTAINS(fault([] { named_barrier(1, 128); }), "a barrier of 128 threads in a block of 64");
  EXPECT_CONTAINS(fault([] { named_barrier(1, thread_index() < 32 ? 32 : 64); }), "deadlock");
  EXPECT_CONTAINS(fault([] { named_barrier(1, thread_index() % 32 == 0 ? 32 : 64); }), "is awaited for 32 and for 64 threads");
  // Half of each warp completes a barrier of 32.
  EXPECT_CONTAINS(fault([] {
                    if (lane() < 16) named_barrier(1, 32);
                  }),
                  "part of a warp");
}

TEST(WarpCollective, LanesAtDifferentInstructionsAreDivergence) {
  const std::string message = fault([] {
    if (lane() < 16)
      (void)shuffle(1u, 0);
    else
      (void)shuffle(2u, 0);
  });
  EXPECT_CONTAINS(message, "divergence at a warp collective");
  EXPECT_CONTAINS(message, "block (0, 0, 0), thread 16: shuffle at ");
  EXPECT_CONTAINS(message, "block (0, 0, 0), thread 0: shuffle at ");
}

TEST(WarpCollective, MissingLanesAreADeadlock) {
  const std::string message = fault([] {
    if (lane() != 3) (void)shuffle_xor(1.0f, 1);
  });
  EXPECT_CONTAINS(message, "threads 0-2 4-34 36-63 wait: shuffle_xor");
  EXPECT_CONTAINS(message, "threads 3 35 have left the kernel");
}

TEST(WarpCollective, DifferentTripCountsAreReported) {
  EXPECT_CONTAINS(fault([] {
                    for (int i = 0; i < 3 + (lane() == 7); ++i) warp_barrier();
                  }),
                  "deadlock");
}

TEST(WarpBarrier, MissingIsSeenWithinAWarp) {
  float first = 0, second = 0;
  const auto kernel = [](float& out, bool with_barrier) {
    auto* words = reinterpret_cast<float*>(shared_memory());
    words[lane()] = 1;
    if (with_barrier) warp_barrier();
    if (lane() == 0) out = words[31];
  };
  host::launch({1, 1, 1}, {32, 1, 1}, 128, [&] { kernel(first, true); });
  host::launch({1, 1, 1}, {32, 1, 1}, 128, [&] { kernel(second, false); });
  EXPECT_EQ(first, 1);
  EXPECT_TRUE(std::isnan(second));
}

// Two groups of copies, one word per thread each; what is in shared memory after the given wait.
template <int Wait, bool Commit>
std::vector<float> after_copies(bool valid = true) {
  alignas(16) float source[64];
  std::iota(source, source + 64, 1.0f);
  std::vector<float> out(64);
  host::launch({1, 1, 1}, {32, 1, 1}, 64 * sizeof(float), [&] {
    auto* words = reinterpret_cast<float*>(shared_memory());
    for (int group = 0; group < 2; ++group) {
      const int i = group * 32 + thread_index();
      cp_async_4(words + i, source + i, valid);
      if (Commit) cp_async_commit();
    }
    cp_async_wait<Wait>();
    block_barrier();
    for (int i = thread_index(); i < 64; i += 32) out[static_cast<unsigned>(i)] = words[i];
  });
  return out;
}

TEST(AsyncCopy, LandsNoSoonerThanTheWaitThatNeedsIt) {
  const auto all = after_copies<0, true>();
  for (unsigned i = 0; i < 64; ++i) EXPECT_EQ(all[i], static_cast<float>(i + 1));
  const auto one = after_copies<1, true>();
  for (unsigned i = 0; i < 64; ++i) EXPECT_EQ(std::isnan(one[i]), i >= 32) << i;
  const auto none = after_copies<2, true>();
  for (unsigned i = 0; i < 64; ++i) EXPECT_TRUE(std::isnan(none[i])) << i;
}

TEST(AsyncCopy, UncommittedNeverLands) {
  for (const float word : after_copies<0, false>()) EXPECT_TRUE(std::isnan(word));
}

TEST(AsyncCopy, WritesZerosWhenNotValid) {
  for (const float word : after_copies<0, true>(false)) EXPECT_EQ(word, 0);
}

TEST(AsyncCopy, DestroysItsTargetWhenIssued) {
  alignas(16) static float source[4] = {1, 2, 3, 4};
  host::launch({1, 1, 1}, {32, 1, 1}, 32 * 16, [] {
    auto* words = reinterpret_cast<float*>(shared_memory()) + thread_index() * 4;
    words[0] = 7;
    cp_async_16(words, source, true);
    EXPECT_TRUE(std::isnan(words[0]));
    cp_async_commit();
    cp_async_wait<0>();
    EXPECT_EQ(words[0], 1);
    EXPECT_EQ(words[3], 4);
  });
}

TEST(AsyncCopy, ReportsBadAddresses) {
  alignas(16) static char source[64];
  EXPECT_CONTAINS(fault([] { cp_async_16(shared_memory() + 8, source, true); }), "not aligned to 16 bytes");
  EXPECT_CONTAINS(fault([] { cp_async_16(shared_memory(), source + 4, true); }), "not aligned to 16 bytes");
  EXPECT_CONTAINS(fault([] { cp_async_16(shared_memory() + 1024, source, true); }),
                  "outside the 1024 bytes of shared memory, at byte 1024");
  EXPECT_CONTAINS(fault([] { cp_async_16(source, source, true); }), "outside the 1024 bytes");
}

TEST(Faults, NameTheThreadAndStopTheLaunch) {
  const std::string message = fault([] {
    u32 r[4];
    ldmatrix_x4(r, shared_memory() + (thread_index() == 41 ? 8 : 0));
  });
  EXPECT_CONTAINS(message, "thread 41: ldmatrix_x4 at ");
  EXPECT_CONTAINS(message, "not aligned");
}

TEST(Faults, OfTheKernelItselfReachTheCaller) {
  EXPECT_THROW(host::launch({64, 1, 1}, {64, 1, 1}, 0,
                            [] {
                              if (block_index_x() == 17 && thread_index() == 40) throw std::runtime_error("from the kernel");
                              block_barrier();
                            }),
               std::runtime_error);
}

#if defined(__SANITIZE_ADDRESS__)
void write_past(std::size_t bytes) {
  host::launch({1, 1, 1}, {32, 1, 1}, bytes, [bytes] {
    block_barrier();
    if (thread_index() == 9) shared_memory()[bytes] = 1;
  });
}

TEST(SharedMemoryDeathTest, OverrunIsCaughtByAddressSanitizer) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(write_past(128), "heap-buffer-overflow");
  EXPECT_DEATH(write_past(100), "heap-buffer-overflow");
}
#endif

}  // namespace
}  // namespace phitune
