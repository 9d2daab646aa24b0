// The twins of Hopper's instructions: what they compute, against plain definitions written from the PTX ISA, and what they refuse.
#include "kernel_templates/common/instructions_sm90.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::test_seed;

std::string fault(const std::function<void()>& kernel, unsigned threads = 128, std::size_t shared_bytes = 8192) {
  try {
    host::launch({1, 1, 1}, {threads, 1, 1}, shared_bytes, kernel);
  } catch (const host::LaunchError& error) {
    return error.what();
  }
  return "no fault";
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// ---- matrix products ----

/// Matrices of small integers, so that every sum is exact whatever its order.
struct Matrices {
  explicit Matrices(int columns) : n(columns), a(64 * 16), b(16u * static_cast<unsigned>(columns)) {
    std::mt19937_64 rng(test_seed());
    std::uniform_int_distribution<int> small(-8, 8);
    for (float& x : a) x = static_cast<float>(small(rng));
    for (float& x : b) x = static_cast<float>(small(rng));
  }
  int n;
  std::vector<float> a;  // [64][16]
  std::vector<float> b;  // [16][n]
  [[nodiscard]] float product(int m, int column) const {
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += a[static_cast<unsigned>(m * 16 + k)] * b[static_cast<unsigned>(k * n + column)];
    return sum;
  }
};

u16 encode(float x, bool half) { return half ? float_to_fp16(x) : float_to_bf16(x); }

/// Where an operand's element lies, as the canonical layouts of the PTX ISA draw it: lines of `line` bytes (16 without a swizzle) in blocks
/// of 8 lines; rows of the operand are m or n.
struct Layout {
  int line;
  bool rows_contiguous;
  int leading, stride;  // bytes
  u64 swizzle;          // bits 62-63 of a descriptor

  [[nodiscard]] int at(int row, int k) const {
    const int elements = line / 2;
    const int along = rows_contiguous ? row : k, across = rows_contiguous ? k : row;
    int address = across / 8 * (line == 16 && rows_contiguous ? leading : stride) + across % 8 * line + along % elements * 2;
    address += along / elements * (line == 16 && rows_contiguous ? stride : leading);
    if (line == 16) return address;
    // Chunk c of line l lies where chunk c ^ (l mod pattern) would.
    const int chunk = address / 16 % 8, number = address / 128 % (line / 16);
    return address / 128 * 128 + (chunk ^ number) * 16 + address % 16;
  }
  [[nodiscard]] u64 descriptor(const char* start) const {
    return static_cast<u64>(shared_address(start) >> 4) | static_cast<u64>(leading >> 4) << 16 | static_cast<u64>(stride >> 4) << 32 |
           swizzle << 62;
  }
};

struct ProductCase {
  const char* name;
  int n;
  Layout b;
  bool half = false;
  bool a_shared = false;
  Layout a = {};
};

class Product : public testing::TestWithParam<ProductCase> {};

constexpr std::size_t operand_bytes = 8192;

TEST_P(Product, IsTheProductOfItsMatrices) {
  const ProductCase& c = GetParam();
  const Matrices matrices(c.n);
  std::vector<float> out(64u * static_cast<unsigned>(c.n), -1);
  host::launch({1, 1, 1}, {128, 1, 1}, 2 * operand_bytes, [&] {
    char* const b = shared_memory();
    char* const a = shared_memory() + operand_bytes;
    const auto put = [&](char* to, float x) {
      const u16 bits = encode(x, c.half);
      std::memcpy(to, &bits, 2);
    };
    for (int i = thread_index(); i < 16 * c.n; i += 128) put(b + c.b.at(i % c.n, i / c.n), matrices.b[static_cast<unsigned>(i)]);
    if (c.a_shared)
      for (int i = thread_index(); i < 64 * 16; i += 128) put(a + c.a.at(i / 16, i % 16), matrices.a[static_cast<unsigned>(i)]);
    fence_async_shared();
    block_barrier();
    const int row = warp() * 16 + lane() / 4, column = 2 * (lane() % 4);
    u32 registers[4];
    for (int j = 0; j < 4; ++j) {
      const auto at = static_cast<unsigned>((row + j % 2 * 8) * 16 + column + j / 2 * 8);
      registers[j] = encode(matrices.a[at], c.half) | static_cast<u32>(encode(matrices.a[at + 1], c.half)) << 16;
    }
    std::vector<float> sums(static_cast<unsigned>(c.n) / 2, 5.0f);
    host::WarpgroupProduct product;
    product.c = sums.data();
    product.a = c.a_shared ? nullptr : registers;
    product.a_descriptor = c.a_shared ? c.a.descriptor(a) : 0;
    product.m_contiguous = c.a_shared && c.a.rows_contiguous;
    product.b_descriptor = c.b.descriptor(b);
    product.n_contiguous = c.b.rows_contiguous;
    product.n = c.n;
    product.half = c.half;
    wgmma_fence();
    for (const bool accumulate : {false, true}) {
      product.accumulate = accumulate;
      host::runtime->product(product, {"product", host::Where::current()});
    }
    wgmma_commit();
    EXPECT_TRUE(std::isnan(sums[0]));
    wgmma_wait<0>();
    for (int i = 0; i < c.n / 2; ++i) {
      const int m = row + i / 2 % 2 * 8, n = i / 4 * 8 + column + i % 2;
      out[static_cast<unsigned>(m * c.n + n)] = sums[static_cast<unsigned>(i)];
    }
  });
  for (int m = 0; m < 64; ++m) {
    for (int n = 0; n < c.n; ++n) ASSERT_EQ(out[static_cast<unsigned>(m * c.n + n)], 2 * matrices.product(m, n)) << m << ' ' << n;
  }
}

constexpr Layout plain_k{16, false, 128, 256, 0}, plain_n{16, true, 1024, 128, 0};
constexpr Layout swizzle_32_k{32, false, 16, 256, 3}, swizzle_64_k{64, false, 16, 512, 2}, swizzle_128_k{128, false, 16, 1024, 1};
constexpr Layout swizzle_32_n{32, true, 512, 256, 3}, swizzle_64_n{64, true, 1024, 512, 2}, swizzle_128_n{128, true, 2048, 1024, 1};

INSTANTIATE_TEST_SUITE_P(Forms, Product,
                         testing::Values(ProductCase{"plain_k", 16, plain_k}, ProductCase{"plain_n", 16, plain_n},
                                         ProductCase{"wide", 64, plain_n}, ProductCase{"with_denominator", 72, {16, true, 2048, 128, 0}},
                                         ProductCase{"half", 24, plain_n, true}, ProductCase{"swizzle_32_k", 32, swizzle_32_k},
                                         ProductCase{"swizzle_64_k", 32, swizzle_64_k}, ProductCase{"swizzle_128_k", 32, swizzle_128_k},
                                         ProductCase{"swizzle_32_n", 32, swizzle_32_n}, ProductCase{"swizzle_64_n", 64, swizzle_64_n},
                                         ProductCase{"swizzle_128_n", 128, swizzle_128_n},
                                         ProductCase{"a_plain_k", 32, plain_n, false, true, plain_k},
                                         ProductCase{"a_plain_m", 32, plain_k, false, true, plain_n},
                                         ProductCase{"a_swizzle_128_m", 16, plain_k, true, true, swizzle_128_n},
                                         ProductCase{"a_swizzle_64_k", 16, plain_k, false, true, swizzle_64_k}),
                         [](const auto& each) { return std::string(each.param.name); });

// One product of zeros and a step that is left out.
enum class Left { nothing, async_fence, product_fence, commit, wait, settled };

std::string product_without(Left left, float& seen) {
  return fault([&seen, left] {
    std::memset(shared_memory() + 16 * thread_index(), 0, 16);
    if (left != Left::async_fence) fence_async_shared();
    block_barrier();
    float c[8] = {};
    const u32 a[4] = {};
    if (left != Left::product_fence) wgmma_fence();
    wgmma_bf16<16, true>(c, a, core_matrices(shared_memory(), 256, 128), false);
    if (left == Left::settled) c[0] = 1;
    if (left != Left::commit) wgmma_commit();
    if (left != Left::wait) wgmma_wait<0>();
    if (thread_index() == 0) seen = c[0];
  });
}

TEST(Product, EveryMissingStepIsSeen) {
  float seen = 1;
  EXPECT_EQ(product_without(Left::nothing, seen), "no fault");
  EXPECT_EQ(seen, 0);
  EXPECT_CONTAINS(product_without(Left::async_fence, seen), "written by ordinary stores that no fence_async_shared has made known");
  EXPECT_CONTAINS(product_without(Left::product_fence, seen), "without a wgmma_fence");
  EXPECT_EQ(product_without(Left::commit, seen), "no fault");
  EXPECT_TRUE(std::isnan(seen));
  EXPECT_EQ(product_without(Left::wait, seen), "no fault");
  EXPECT_TRUE(std::isnan(seen));
  EXPECT_CONTAINS(product_without(Left::settled, seen), "accumulators were written while a product into them was in flight");
}

TEST(Product, ReadsItsOperandsAsTheyAreAtTheWait) {
  float seen = 0;
  host::launch({1, 1, 1}, {128, 1, 1}, 2048, [&] {
    std::memset(shared_memory() + 16 * thread_index(), 0, 16);
    fence_async_shared();
    block_barrier();
    float c[8] = {};
    u32 a[4] = {};
    wgmma_fence();
    wgmma_bf16<16, true>(c, a, core_matrices(shared_memory(), 256, 128), false);
    wgmma_commit();
    std::memset(shared_memory() + 16 * thread_index(), 0xFF, 16);  // too early
    wgmma_wait<0>();
    if (thread_index() == 0) seen = c[0];
  });
  EXPECT_TRUE(std::isnan(seen));
}

TEST(Product, NeedsWholeWarpgroups) {
  const auto use = [] { registers_decrease<40>(); };
  EXPECT_CONTAINS(fault(use, 96), "no whole warpgroup");
  EXPECT_EQ(fault(use, 256), "no fault");
  EXPECT_CONTAINS(fault([] {
                    if (thread_index() >= 32) registers_increase<240>();
                  }),
                  "threads 32-127 wait: registers_increase");
}

TEST(Product, OutsideSharedMemoryIsRefused) {
  EXPECT_CONTAINS(fault([] {
                    float c[8] = {};
                    const u32 a[4] = {};
                    wgmma_fence();
                    wgmma_bf16<16, true>(c, a, core_matrices(shared_memory() + 8000, 256, 128), false);
                  }),
                  "of the 8192 bytes of shared memory");
}

// ---- barriers and bulk copies ----

enum class Mistake { none, no_wait, wrong_parity, early_reuse, no_expect, expect_less, not_aligned };

/// A ring of two slots that thread 0 of the last warp fills from `source`; the first warp adds up every word.
std::string ring(Mistake mistake, std::uint64_t seed, float& sum) {
  static constexpr int slots = 2, words = 32, rounds = 7;
  alignas(16) static float source[words * rounds + 4];
  std::iota(source, source + words * rounds, 1.0f);
  sum = 0;
  std::vector<float> sums(32, 0.0f);
  const auto kernel = [&] {
    auto* const full = reinterpret_cast<Barrier*>(shared_memory());
    Barrier* const empty = full + slots;
    char* const data = shared_memory() + 64;
    if (thread_index() == 0) {
      for (int slot = 0; slot < slots; ++slot) {
        barrier_init(full + slot, 1);
        barrier_init(empty + slot, 1);
      }
      barrier_init_fence();
    }
    block_barrier();
    if (thread_index() >= 32) {
      if (lane() != 0) return;
      for (int round = 0; round < rounds; ++round) {
        const int slot = round % slots;
        if (mistake != Mistake::early_reuse) barrier_wait(empty + slot, (round / slots & 1) ^ 1);
        if (mistake == Mistake::no_expect)
          barrier_arrive(full + slot);
        else
          barrier_arrive_expect(full + slot, mistake == Mistake::expect_less ? words * 2 : words * 4);
        bulk_copy(data + slot * words * 4, source + words * round + (mistake == Mistake::not_aligned), words * 4, full + slot);
      }
      return;
    }
    for (int round = 0; round < rounds; ++round) {
      const int slot = round % slots;
      if (mistake != Mistake::no_wait) barrier_wait(full + slot, (round / slots & 1) ^ (mistake == Mistake::wrong_parity));
      sums[static_cast<unsigned>(lane())] += reinterpret_cast<float*>(data + slot * words * 4)[lane()];
      warp_barrier();
      if (lane() == 0) barrier_arrive(empty + slot);
    }
  };
  try {
    host::launch({1, 1, 1}, {64, 1, 1}, 64 + slots * words * 4, kernel, {.seed = seed});
  } catch (const host::LaunchError& error) {
    return error.what();
  }
  sum = std::accumulate(sums.begin(), sums.end(), 0.0f);
  return "no fault";
}

TEST(Ring, DeliversEveryWordUnderAnySchedule) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    float sum = 0;
    EXPECT_EQ(ring(Mistake::none, seed, sum), "no fault");
    EXPECT_EQ(sum, 224.0f * 225 / 2) << seed;
  }
}

TEST(Ring, EveryMistakeIsSeen) {
  const auto wrong = [](Mistake mistake) {
    float sum = 0;
    const std::string message = ring(mistake, 0, sum);
    return message != "no fault" ? message : sum == 224.0f * 225 / 2 ? "right all the same" : "wrong sum";
  };
  EXPECT_NE(wrong(Mistake::no_wait), "right all the same");
  EXPECT_NE(wrong(Mistake::wrong_parity), "right all the same");
  EXPECT_NE(wrong(Mistake::early_reuse), "right all the same");
  EXPECT_NE(wrong(Mistake::no_expect), "right all the same");
  EXPECT_CONTAINS(wrong(Mistake::expect_less), "bytes more than its barrier expected");
  EXPECT_CONTAINS(wrong(Mistake::not_aligned), "not aligned to 16 bytes");
}

// A warp's one arrival comes when all of its lanes are there, and counts once.
TEST(CountingBarrier, AWarpArrivesOnce) {
  const auto waits_for = [](int arrivals) {
    return fault([arrivals] {
      auto* barrier = reinterpret_cast<Barrier*>(shared_memory());
      if (thread_index() == 0) barrier_init(barrier, arrivals), barrier_init_fence();
      block_barrier();
      barrier_arrive_warp(barrier);
      barrier_wait(barrier, 0);
    });
  };
  EXPECT_EQ(waits_for(4), "no fault") << "of a block of four warps";
  EXPECT_CONTAINS(waits_for(5), "deadlock");
}

TEST(CountingBarrier, ReportsMistakes) {
  EXPECT_CONTAINS(fault([] { barrier_arrive(reinterpret_cast<Barrier*>(shared_memory())); }), "no barrier was initialised at byte 0");
  EXPECT_CONTAINS(fault([] {
                    auto* const barrier = reinterpret_cast<Barrier*>(shared_memory());
                    if (thread_index() == 0) barrier_init(barrier, 1);
                    block_barrier();
                    barrier_wait(barrier, 0);
                  }),
                  "threads 0-127 wait: barrier_wait at ");
  EXPECT_CONTAINS(fault([] { barrier_init(reinterpret_cast<Barrier*>(shared_memory() + 4), 1); }), "not aligned to 8 bytes");
  EXPECT_CONTAINS(fault([] {
                    alignas(16) static float source[4] = {};
                    auto* const barrier = reinterpret_cast<Barrier*>(shared_memory());
                    if (thread_index() != 0) return;
                    barrier_init(barrier, 1);
                    bulk_copy(shared_memory() + 16, source, 16, barrier);
                  }),
                  "the block ended while a bulk copy");
}

TEST(Stmatrix, StoresWhatLdmatrixLoads) {
  host::launch({1, 1, 1}, {32, 1, 1}, 512, [] {
    const auto l = static_cast<u32>(lane());
    const u32 stored[4] = {l, 100 + l, 200 + l, 300 + l};
    stmatrix_x4_trans(shared_memory() + 16 * lane(), stored);
    warp_barrier();
    u32 loaded[4];
    ldmatrix_x4_trans(loaded, shared_memory() + 16 * lane());
    for (int i = 0; i < 4; ++i) EXPECT_EQ(loaded[i], stored[i]);
    // Row c of matrix 0 is column c of the registers: its first element is in the low half of lane 4 * 0 + c / 2 or the high half.
    u16 element;
    std::memcpy(&element, shared_memory() + 16 * 2, 2);
    EXPECT_EQ(element, 1);
  });
}

}  // namespace
}  // namespace phitune
