// That pair slots mean what fragments.cuh says, for every operand type: products of known matrices on the CPU emulator.
#include "kernel_templates/common/fragments.cuh"

#include <gtest/gtest.h>

#include <array>

#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::test_seed;

struct Product {
  std::array<double, 16 * 16> a{};
  std::array<double, 16 * 8> b{};
  std::array<double, 16 * 8> c{};  // start, then result
};

template <Math M>
double rounded(double x) {
  const auto f = static_cast<float>(x);
  if (M == Math::bf16) return bf16_to_float(float_to_bf16(f));
  if (M == Math::fp16) return fp16_to_float(float_to_fp16(f));
  return bits_float(round_tf32(f));
}

// Fills slots by the definition, multiplies, and writes C back by the definition.
template <Math M>
void multiply(Product& x) {
  const int g = lane() / 4, t = lane() % 4;
  const auto a_at = [&x](int row, int k) { return static_cast<float>(x.a[static_cast<std::size_t>(row * 16 + k)]); };
  const auto b_at = [&x](int k, int column) { return static_cast<float>(x.b[static_cast<std::size_t>(k * 8 + column)]); };
  FragA<M> a;
  FragB<M> b;
  for (int s = 0; s < 4; ++s) {
    const int row = g + 8 * (s & 1), k = 2 * t + 8 * (s >> 1);
    a.set(s, pair_from_floats<M>(a_at(row, k), a_at(row, k + 1)));
  }
  for (int s = 0; s < 2; ++s) b.set(s, pair_from_floats<M>(b_at(2 * t + 8 * s, g), b_at(2 * t + 8 * s + 1, g)));
  float c[4];
  const auto index = [&](int i) { return static_cast<std::size_t>((g + 8 * (i / 2)) * 8 + 2 * t + i % 2); };
  for (int i = 0; i < 4; ++i) c[i] = static_cast<float>(x.c[index(i)]);
  mma<M>(c, a, b);
  for (int i = 0; i < 4; ++i) x.c[index(i)] = c[i];
}

template <Math M>
void expect_product() {
  std::mt19937_64 rng(test_seed());
  std::normal_distribution<double> normal;
  Product x;
  for (double& v : x.a) v = normal(rng);
  for (double& v : x.b) v = normal(rng);
  for (double& v : x.c) v = static_cast<float>(normal(rng));
  Product expected = x;
  for (std::size_t row = 0; row < 16; ++row)
    for (std::size_t column = 0; column < 8; ++column)
      for (std::size_t k = 0; k < 16; ++k) expected.c[row * 8 + column] += rounded<M>(x.a[row * 16 + k]) * rounded<M>(x.b[k * 8 + column]);
  host::launch({1, 1, 1}, {32, 1, 1}, 128, [&x] { multiply<M>(x); });
  for (std::size_t i = 0; i < expected.c.size(); ++i) EXPECT_NEAR(x.c[i], expected.c[i], 1e-4) << "row " << i / 8 << " column " << i % 8;
}

TEST(Fragments, SlotsGiveTheMatrixProduct) {
  expect_product<Math::bf16>();
  expect_product<Math::fp16>();
  expect_product<Math::tf32>();
}

TEST(Fragments, PairsRoundOnceAndMultiplyElementwise) {
  std::mt19937_64 rng(test_seed());
  std::normal_distribution<float> normal;
  for (int i = 0; i < 100; ++i) {
    const float lo = normal(rng), hi = normal(rng);
    const Pair<Math::bf16> b = pair_from_floats<Math::bf16>(lo, hi);
    EXPECT_EQ(pair_low(b), static_cast<float>(rounded<Math::bf16>(lo)));
    EXPECT_EQ(pair_high(b), static_cast<float>(rounded<Math::bf16>(hi)));
    EXPECT_EQ(pair_low(mul(b, b)), static_cast<float>(rounded<Math::bf16>(pair_low(b) * pair_low(b))));
    const Pair<Math::fp16> h = pair_from_floats<Math::fp16>(lo, hi);
    EXPECT_EQ(pair_high(mul(h, h)), static_cast<float>(rounded<Math::fp16>(pair_high(h) * pair_high(h))));
    // tf32 pairs stay fp32 until they enter a fragment.
    EXPECT_EQ(pair_high(pair_from_floats<Math::tf32>(lo, hi)), hi);
    EXPECT_EQ(pair_low((pair_from_packed<Math::tf32, Storage::fp16>(h.bits))), pair_low(h));
    EXPECT_EQ((pair_from_packed<Math::bf16, Storage::bf16>(b.bits).bits), b.bits);
  }
}

TEST(Fragments, ElementsAndPairsGoThroughMemory) {
  alignas(16) std::array<char, 64> memory{};
  store_pair<Storage::bf16>(memory.data() + 4, 1.5f, -2.0f);
  EXPECT_EQ(load_element<Storage::bf16>(memory.data(), 2), 1.5f);
  EXPECT_EQ(load_element<Storage::bf16>(memory.data(), 3), -2.0f);
  store_element<Storage::fp16>(memory.data(), 9, 0.25f);
  EXPECT_EQ(load_pair<Storage::fp16>(memory.data() + 16).y, 0.25f);
  store_pair<Storage::fp32>(memory.data() + 32, 3.0f, 1e-30f);
  EXPECT_EQ(load_element<Storage::fp32>(memory.data(), 9), 1e-30f);
}

TEST(Numeric, SixteenBitConversionsRoundTrip) {
  for (u32 bits = 0; bits < 0x10000u; ++bits) {
    const auto x = static_cast<u16>(bits);
    if ((x & 0x7c00u) != 0x7c00u) {
      EXPECT_EQ(float_to_fp16(fp16_to_float(x)), x);
    }
    if ((x & 0x7f80u) != 0x7f80u) {
      EXPECT_EQ(float_to_bf16(bf16_to_float(x)), x);
    }
  }
}

// Against the definition: the nearest representable value, ties to the one with an even last bit.
TEST(Numeric, HalvesBetweenNeighboursGoToEven) {
  for (u16 x = 0; x < 0x7bffu; ++x) {
    const auto next = static_cast<u16>(x + 1);
    const float middle = 0.5f * (fp16_to_float(x) + fp16_to_float(next));
    EXPECT_EQ(float_to_fp16(middle), x % 2 == 0 ? x : next);
    EXPECT_EQ(float_to_fp16(bits_float(float_bits(middle) + 1)), next);
    EXPECT_EQ(float_to_fp16(bits_float(float_bits(middle) - 1)), x);
  }
  EXPECT_EQ(float_to_fp16(65520.0f), 0x7c00u);
  EXPECT_EQ(float_to_fp16(65519.0f), 0x7bffu);
  EXPECT_EQ(float_to_bf16(bits_float(0x3f808000u)), 0x3f80u);
  EXPECT_EQ(float_to_bf16(bits_float(0x3f818000u)), 0x3f82u);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_EQ(round_tf32(bits_float(0x3f801000u)), 0x3f802000u);
}

}  // namespace
}  // namespace phitune
