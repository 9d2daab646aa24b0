// Every instruction twin against a plain definition of its own, written from the PTX ISA's tables and not from the twin.
#include "kernel_templates/common/instructions.cuh"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernel_templates/common/fragments.cuh"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::test_seed;

void one_warp(std::size_t shared_bytes, const std::function<void()>& kernel) { host::launch({1, 1, 1}, {32, 1, 1}, shared_bytes, kernel); }

// ---- matrices from shared memory ----

struct LdmatrixCase {
  int matrices;
  bool transposed;
};

class Ldmatrix : public testing::TestWithParam<LdmatrixCase> {};

TEST_P(Ldmatrix, GivesEachLaneItsElements) {
  const auto [matrices, transposed] = GetParam();
  // Rows scattered over shared memory, 16-byte aligned; element e of row r of matrix m is m * 64 + r * 8 + e.
  std::vector<std::size_t> places(64);
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = 16 * i;
  std::mt19937_64 rng(test_seed());
  std::shuffle(places.begin(), places.end(), rng);
  std::array<std::array<u32, 4>, 32> got{};
  one_warp(64 * 16, [&] {
    const auto l = static_cast<unsigned>(lane());
    for (u16 e = 0; e < 8; ++e) {
      const u16 value = static_cast<u16>(l * 8 + e);
      std::memcpy(shared_memory() + places[l] + 2u * e, &value, 2);
    }
    block_barrier();
    const bool counts = l < 8u * static_cast<unsigned>(matrices);
    // Lanes beyond the matrices may pass anything.
    const void* row = counts ? shared_memory() + places[l] : nullptr;
    u32 r4[4] = {}, r2[2] = {};
    if (matrices == 4)
      transposed ? ldmatrix_x4_trans(r4, row) : ldmatrix_x4(r4, row);
    else
      transposed ? ldmatrix_x2_trans(r2, row) : ldmatrix_x2(r2, row);
    got[l] = matrices == 4 ? std::array<u32, 4>{r4[0], r4[1], r4[2], r4[3]} : std::array<u32, 4>{r2[0], r2[1], 0, 0};
  });
  for (unsigned l = 0; l < 32; ++l) {
    for (unsigned m = 0; m < static_cast<unsigned>(matrices); ++m) {
      for (unsigned half = 0; half < 2; ++half) {
        const unsigned row = transposed ? 2 * (l % 4) + half : l / 4;
        const unsigned column = transposed ? l / 4 : 2 * (l % 4) + half;
        EXPECT_EQ((got[l][m] >> (16 * half)) & 0xffff, m * 64 + row * 8 + column) << "lane " << l << " matrix " << m << " half " << half;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Ldmatrix,
                         testing::Values(LdmatrixCase{4, false}, LdmatrixCase{4, true}, LdmatrixCase{2, false}, LdmatrixCase{2, true}),
                         [](const auto& form) {
                           return "x" + std::to_string(form.param.matrices) + (form.param.transposed ? "_trans" : "");
                         });

// ---- matrix products ----

template <Math M>
double rounded(double x) {
  if constexpr (M == Math::bf16) return bf16_to_float(float_to_bf16(static_cast<float>(x)));
  if constexpr (M == Math::fp16) return fp16_to_float(float_to_fp16(static_cast<float>(x)));
  return bits_float(round_tf32(static_cast<float>(x)));
}

struct Product {
  std::array<std::array<double, 16>, 16> a;
  std::array<std::array<double, 8>, 16> b;
  std::array<std::array<double, 8>, 16> c;
};

Product random_product(std::mt19937_64& rng, double (*round)(double)) {
  std::normal_distribution<double> normal;
  Product p;
  for (auto& row : p.a)
    for (double& x : row) x = round(normal(rng));
  for (auto& row : p.b)
    for (double& x : row) x = round(normal(rng));
  for (auto& row : p.c)
    for (double& x : row) x = static_cast<float>(normal(rng));
  return p;
}

// Largest difference of fragments.cuh's mma from the sum in double.
template <Math M>
double product_error(const Product& p) {
  double worst = 0;
  one_warp(0, [&] {
    const auto g = static_cast<unsigned>(lane()) / 4, t = static_cast<unsigned>(lane()) % 4;
    FragA<M> a;
    FragB<M> b;
    for (unsigned s = 0; s < 4; ++s) {
      const auto& row = p.a[g + 8 * (s & 1)];
      const unsigned k = 2 * t + 8 * (s >> 1);
      a.set(static_cast<int>(s), pair_from_floats<M>(static_cast<float>(row[k]), static_cast<float>(row[k + 1])));
    }
    for (unsigned s = 0; s < 2; ++s) {
      const unsigned k = 2 * t + 8 * s;
      b.set(static_cast<int>(s), pair_from_floats<M>(static_cast<float>(p.b[k][g]), static_cast<float>(p.b[k + 1][g])));
    }
    float c[4];
    for (unsigned j = 0; j < 4; ++j) c[j] = static_cast<float>(p.c[g + j / 2 * 8][2 * t + j % 2]);
    mma(c, a, b);
    for (unsigned j = 0; j < 4; ++j) {
      const unsigned m = g + j / 2 * 8, n = 2 * t + j % 2;
      double expected = p.c[m][n];
      for (unsigned k = 0; k < 16; ++k) expected += p.a[m][k] * p.b[k][n];
      const double error = std::fabs(c[j] - expected);
      worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
    }
  });
  return worst;
}

TEST(Mma, Bf16IsTheProductWithFp32Accumulation) {
  std::mt19937_64 rng(test_seed());
  for (int i = 0; i < 20; ++i) EXPECT_LT(product_error<Math::bf16>(random_product(rng, rounded<Math::bf16>)), 1e-5);
}
TEST(Mma, Fp16IsTheProductWithFp32Accumulation) {
  std::mt19937_64 rng(test_seed());
  for (int i = 0; i < 20; ++i) EXPECT_LT(product_error<Math::fp16>(random_product(rng, rounded<Math::fp16>)), 1e-5);
}
TEST(Mma, Tf32IsTheProductWithFp32Accumulation) {
  std::mt19937_64 rng(test_seed());
  for (int i = 0; i < 20; ++i) EXPECT_LT(product_error<Math::tf32>(random_product(rng, rounded<Math::tf32>)), 1e-5);
}

// The layout of m16n8k8 itself, which fragments.cuh permutes: one element of A and of B set at a time meet in one element of C.
TEST(Mma, Tf32PlacesSingleElements) {
  for (unsigned m = 0; m < 16; ++m) {
    for (unsigned k = 0; k < 8; ++k) {
      const unsigned n = (m + 3 * k) % 8;
      one_warp(0, [&] {
        const auto g = static_cast<unsigned>(lane()) / 4, t = static_cast<unsigned>(lane()) % 4;
        u32 a[4] = {}, b[2] = {};
        if (g == m % 8 && t == k % 4) a[(m / 8) + 2 * (k / 4)] = to_tf32(3.0f);
        if (g == n && t == k % 4) b[k / 4] = to_tf32(5.0f);
        float c[4] = {};
        mma_m16n8k8_tf32(c, a, b);
        for (unsigned j = 0; j < 4; ++j) EXPECT_EQ(c[j], g + j / 2 * 8 == m && 2 * t + j % 2 == n ? 15.0f : 0.0f);
      });
    }
  }
}

TEST(Mma, Tf32IgnoresTheLowBitsOfOperands) {
  one_warp(0, [] {
    u32 a[4], b[2];
    for (u32& x : a) x = float_bits(1.0f) | 0x1fffu;
    for (u32& x : b) x = float_bits(1.0f) | 0x1fffu;
    float c[4] = {};
    mma_m16n8k8_tf32(c, a, b);
    EXPECT_EQ(c[0], 8.0f);
  });
}

TEST(Mma, NanInOneOperandReachesItsRowOnly) {
  one_warp(0, [] {
    const u32 one = pack_bf16x2(1, 1);
    u32 a[4] = {one, one, one, one};
    const u32 b[2] = {one, one};
    if (lane() == 0) a[1] = 0xffffffffu;
    float c[4] = {};
    mma_m16n8k16_bf16(c, a, b);
    EXPECT_EQ(c[0], 16.0f);
    EXPECT_EQ(std::isnan(c[2]), lane() / 4 == 0);
  });
}

// ---- 16-bit arithmetic and conversions ----

// The nearest value of a format with `mantissa` bits and smallest exponent `lowest`, ties to even; values in range only.
double nearest(double x, int mantissa, int lowest) {
  if (x == 0) return 0;
  const int exponent = std::max(std::ilogb(x), lowest);
  const double unit = std::ldexp(1.0, exponent - mantissa);
  return std::nearbyint(x / unit) * unit;
}

TEST(Packed, ConversionsRoundToNearestEven) {
  std::mt19937_64 rng(test_seed());
  std::uniform_real_distribution<double> exponent(-30, 15);
  std::normal_distribution<double> normal;
  for (int i = 0; i < 200000; ++i) {
    const auto x = static_cast<float>(normal(rng) * std::exp2(exponent(rng)));
    const auto y = static_cast<float>(normal(rng));
    EXPECT_EQ(low_bf16(pack_bf16x2(x, y)), nearest(x, 7, -126)) << x;
    EXPECT_EQ(high_bf16(pack_bf16x2(y, x)), nearest(x, 7, -126)) << x;
    if (std::fabs(x) > 65000) continue;
    EXPECT_EQ(low_f16(pack_f16x2(x, y)), nearest(x, 10, -14)) << x;
    EXPECT_EQ(high_f16(pack_f16x2(y, x)), nearest(x, 10, -14)) << x;
  }
}

TEST(Packed, TiesAndLimits) {
  EXPECT_EQ(low_bf16(pack_bf16x2(1.00390625f, 0)), 1.0f);       // 1 + 2^-8: tie, down to even
  EXPECT_EQ(low_bf16(pack_bf16x2(1.01171875f, 0)), 1.015625f);  // 1 + 3 * 2^-8: tie, up to even
  EXPECT_EQ(low_f16(pack_f16x2(1.00048828125f, 0)), 1.0f);      // 1 + 2^-11
  EXPECT_EQ(low_f16(pack_f16x2(65519.0f, 0)), 65504.0f);
  EXPECT_EQ(low_f16(pack_f16x2(65520.0f, 0)), std::numeric_limits<float>::infinity());
  EXPECT_EQ(low_f16(pack_f16x2(0x1p-24f, 0)), 0x1p-24f);
  EXPECT_EQ(low_f16(pack_f16x2(0x1p-25f, 0)), 0.0f);
  EXPECT_EQ(low_f16(pack_f16x2(-0.0f, 0)), 0.0f);
  EXPECT_EQ(pack_bf16x2(std::nanf(""), 0), 0x7fffu);
  EXPECT_EQ(pack_f16x2(std::nanf(""), 0), 0x7fffu);
  EXPECT_EQ(pack_bf16x2(1, 2), 0x40003f80u);
}

TEST(Packed, EveryHalfAndBf16SurvivesARoundTrip) {
  for (u32 bits = 0; bits < 0x10000; ++bits) {
    if (!std::isnan(low_bf16(bits))) {
      EXPECT_EQ(pack_bf16x2(low_bf16(bits), 0), bits);
    }
    if (!std::isnan(low_f16(bits))) {
      EXPECT_EQ(pack_f16x2(low_f16(bits), 0), bits);
    }
  }
}

TEST(Packed, ProductsRoundOnce) {
  std::mt19937_64 rng(test_seed());
  for (int i = 0; i < 500000; ++i) {
    const auto a = static_cast<u32>(rng()), b = static_cast<u32>(rng());
    const double exact = static_cast<double>(low_bf16(a)) * low_bf16(b);
    const double exact_high = static_cast<double>(high_f16(a)) * high_f16(b);
    const u32 bf16 = mul_bf16x2(a, b), fp16 = mul_f16x2(a, b);
    if (std::fabs(exact) < 0x1.fep127) {
      EXPECT_EQ(low_bf16(bf16), nearest(exact, 7, -126)) << a << ' ' << b;
    }
    if (std::fabs(exact_high) < 65504) {
      EXPECT_EQ(high_f16(fp16), nearest(exact_high, 10, -14)) << a << ' ' << b;
    }
    if (std::isnan(exact)) {
      EXPECT_TRUE(std::isnan(low_bf16(bf16)));
    }
    if (std::isnan(exact_high)) {
      EXPECT_TRUE(std::isnan(high_f16(fp16)));
    }
  }
  EXPECT_EQ(mul_bf16x2(pack_bf16x2(2, -3), pack_bf16x2(5, 7)), pack_bf16x2(10, -21));
  EXPECT_EQ(mul_f16x2(pack_f16x2(2, -3), pack_f16x2(5, 7)), pack_f16x2(10, -21));
}

TEST(Packed, MultiplyAddsRoundOnce) {
  std::mt19937_64 rng(test_seed());
  for (int i = 0; i < 500000; ++i) {
    const auto a = static_cast<u32>(rng()), b = static_cast<u32>(rng());
    // Half of them near the product, so that sums cancel, and lie between two numbers of bf16.
    const u32 c = i % 2 == 0 ? static_cast<u32>(rng()) : mul_bf16x2(a, b) ^ 0x80008000u ^ static_cast<u32>(rng() % 4);
    const double product = static_cast<double>(low_bf16(a)) * low_bf16(b), exact = product + low_bf16(c);
    // (Where fp64 itself has all digits of the sum.)
    if (!(std::fabs(exact) < 0x1.fep127) || exact - product != low_bf16(c) || exact - low_bf16(c) != product) continue;
    EXPECT_EQ(low_bf16(fma_bf16x2(a, b, c)), nearest(exact, 7, -126)) << a << ' ' << b << ' ' << c;
  }
  EXPECT_EQ(fma_bf16x2(pack_bf16x2(2, -3), pack_bf16x2(5, 7), pack_bf16x2(1, 1)), pack_bf16x2(11, -20));
  // The product is the middle of 1.125 and its neighbour; what is added decides, and fp32 would lose it.
  const u32 root = pack_bf16x2(1.0f + 0x1p-4f, 1.0f + 0x1p-4f);
  EXPECT_EQ(fma_bf16x2(root, root, pack_bf16x2(0x1p-30f, -0x1p-30f)), pack_bf16x2(1.125f + 0x1p-7f, 1.125f));
  // And fp64, too.
  EXPECT_EQ(fma_bf16x2(root, root, pack_bf16x2(0x1p-100f, -0x1p-100f)), pack_bf16x2(1.125f + 0x1p-7f, 1.125f));
}

TEST(Tf32, RoundsTiesAwayFromZero) {
  EXPECT_EQ(bits_float(to_tf32(1.0f + 0x1p-11f)), 1.0f + 0x1p-10f);
  EXPECT_EQ(bits_float(to_tf32(-1.0f - 0x1p-11f)), -1.0f - 0x1p-10f);
  EXPECT_EQ(bits_float(to_tf32(1.0f + 0x1.fp-12f)), 1.0f);
  std::mt19937_64 rng(test_seed());
  std::normal_distribution<float> normal;
  for (int i = 0; i < 100000; ++i) {
    const float x = normal(rng);
    EXPECT_LE(std::fabs(bits_float(to_tf32(x)) - x), std::ldexp(1.0f, std::ilogb(x) - 11));
    EXPECT_EQ(to_tf32(x) & 0x1fffu, 0u);
  }
}

TEST(Exp2, IsCloseAndFlushesSubnormals) {
  for (float x = -126; x < 20; x += 0.37f) EXPECT_NEAR(exp2_approx(x) / std::exp2(static_cast<double>(x)), 1.0, 3e-7) << x;
  EXPECT_EQ(exp2_approx(-126.5f), 0.0f);
  EXPECT_EQ(exp2_approx(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_TRUE(std::isnan(exp2_approx(std::nanf(""))));
}

// ---- bytes and shuffles ----

TEST(PermuteBytes, PicksBytesOfBothWords) {
  const u32 a = 0x33221100u, b = 0x77665544u;
  EXPECT_EQ(permute_bytes(a, b, 0x3210u), a);
  EXPECT_EQ(permute_bytes(a, b, 0x7654u), b);
  EXPECT_EQ(permute_bytes(a, b, 0x1010u), 0x11001100u);
  EXPECT_EQ(permute_bytes(a, b, 0x5432u), 0x55443322u);
  EXPECT_EQ(permute_bytes(0x80u, 0x7fu, 0xc8c8u), 0x00ff00ffu);  // bit 3: the sign of the byte, spread
}

TEST(Shuffle, MovesValuesBetweenLanes) {
  for (int mask = 1; mask < 32; ++mask) {
    one_warp(0, [&] {
      EXPECT_EQ(shuffle_xor(static_cast<u32>(lane()), mask), static_cast<u32>(lane() ^ mask));
      EXPECT_EQ(shuffle_xor(static_cast<float>(lane()) + 0.5f, mask), static_cast<float>(lane() ^ mask) + 0.5f);
      EXPECT_EQ(shuffle(static_cast<u32>(lane()), mask), static_cast<u32>(mask));
      EXPECT_EQ(shuffle(static_cast<float>(lane()), (lane() + mask) % 32), static_cast<float>((lane() + mask) % 32));
    });
  }
}

TEST(Shuffle, StaysInItsWarp) {
  host::launch({1, 1, 1}, {128, 1, 1}, 0,
               [] { EXPECT_EQ(shuffle(static_cast<u32>(thread_index()), 7), static_cast<u32>(thread_index() / 32 * 32 + 7)); });
}

// ---- global memory ----

TEST(GlobalMemory, MovesSixteenAlignedBytes) {
  kernel_test::Memory from(32 * 16), to(32 * 16);
  for (unsigned i = 0; i < 128; ++i) from.as<u32>()[i] = i;
  one_warp(0, [&] {
    const U4 value = lane() % 2 == 0 ? load_global_16(from.as<U4>() + lane()) : load_global_16_streaming(from.as<U4>() + lane());
    if (lane() % 3 == 0)
      store_global_16(to.as<U4>() + lane(), value);
    else
      store_global_16_streaming(to.as<U4>() + lane(), value);
  });
  EXPECT_EQ(std::memcmp(from.data(), to.data(), from.bytes()), 0);
  EXPECT_THROW(one_warp(0, [&] { (void)load_global_16(from.as<char>() + 8); }), host::LaunchError);
  EXPECT_THROW(one_warp(0, [&] { store_global_16(to.as<char>() + 4, {}); }), host::LaunchError);
  EXPECT_THROW(one_warp(0, [&] { store_global_16_streaming(to.as<char>() + 4, {}); }), host::LaunchError);
}

TEST(LdmatrixRows, RefusesRowsOutsideSharedMemory) {
  u32 global[64];
  EXPECT_THROW(one_warp(256,
                        [&] {
                          u32 r[4];
                          ldmatrix_x4(r, lane() == 31 ? static_cast<void*>(global) : shared_memory());
                        }),
               host::LaunchError);
  EXPECT_THROW(one_warp(256,
                        [&] {
                          u32 r[2];
                          ldmatrix_x2(r, shared_memory() + 16 * lane() + 16);
                        }),
               host::LaunchError);
}

}  // namespace
}  // namespace phitune
