// How the loading warps of the Hopper update_state kernel weigh keys: as if in fp32, although in packed pairs.
#include "kernel_templates/sm90/update_loader.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune::sm90 {
namespace {

using Loader = UpdateLoader<UpdateStateConfig{.d = 64,
                                              .e = 64,
                                              .p = 2,
                                              .d_tile = 8,
                                              .final_state = false,
                                              .gated = true,
                                              .sum = true,
                                              .warpgroups = 2,
                                              .m_tiles = 4,
                                              .token_tile = 64,
                                              .stages = 4,
                                              .prefetch = 2,
                                              .consumer_registers = 200,
                                              .loader_registers = 64}>;

TEST(UpdateLoader, KeysAreWeighedAsInFp32) {
  std::mt19937_64 rng(kernel_test::test_seed());
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> gates(-3.0f, 0.0f);
  int different = 0;
  constexpr int pairs = 20000;
  for (int i = 0; i < pairs; ++i) {
    const u32 pair = pack_bf16x2(normal(rng), normal(rng));
    const float weight = std::exp(gates(rng));
    const u32 weighed = Loader::weigh(pair, Loader::Weight(weight));
    const u32 expected = pack_bf16x2(low_bf16(pair) * weight, high_bf16(pair) * weight);
    different += weighed != expected;
    EXPECT_NEAR(low_bf16(weighed), low_bf16(pair) * weight, 0x1.04p-8 * std::fabs(low_bf16(pair) * weight));
    EXPECT_NEAR(high_bf16(weighed), high_bf16(pair) * weight, 0x1.04p-8 * std::fabs(high_bf16(pair) * weight));
  }
  EXPECT_LT(different, pairs / 100) << "roundings that differ from those of one product in fp32";
}

}  // namespace
}  // namespace phitune::sm90
