#include "harness/measure/rotation.hpp"

#include <gtest/gtest.h>

#include <map>

namespace phitune {
namespace {

constexpr std::int64_t kL2 = 50 << 20;

TEST(RotationCopies, WhatLiesBetweenTwoUsesOfACopyExceedsTheCache) {
  for (const std::int64_t bytes : {std::int64_t{1} << 18, std::int64_t{1} << 20, std::int64_t{50} << 20, std::int64_t{1} << 33}) {
    const auto copies = rotation_copies(bytes, kL2);
    ASSERT_TRUE(copies) << bytes;
    EXPECT_GE(static_cast<double>(*copies - 1) * static_cast<double>(bytes), kEvictOverL2 * kL2);
    EXPECT_GE(*copies, 2u) << "one copy is no rotation";
  }
}

TEST(RotationCopies, WhatIsTooSmallIsSaidSo) {
  EXPECT_FALSE(rotation_copies(1000, kL2));
  EXPECT_FALSE(rotation_copies(0, kL2));
}

TEST(Turns, BetweenTwoUsesOfACopyAllOthersAreUsed) {
  for (const std::size_t copies : {2u, 3u, 7u})
    for (const std::size_t leads : {1u, 2u, 5u}) {
      Turns turns(copies);
      std::map<std::size_t, std::size_t> last;
      std::vector<std::size_t> timed(copies);
      std::size_t use = 0;
      for (int sample = 0; sample < 50; ++sample) {
        const Turn turn = turns.next(leads);
        EXPECT_EQ(turn.leads.size(), leads);
        std::vector<std::size_t> order = turn.leads;
        order.push_back(turn.timed);
        for (const std::size_t copy : order) {
          ASSERT_LT(copy, copies);
          if (last.contains(copy)) {
            EXPECT_EQ(use - last[copy], copies);
          }
          last[copy] = use++;
        }
      }
    }
}

TEST(LeadLaunches, NoneBeforeAFlushAndEnoughToHideTheHostOtherwise) {
  const Regime flush{}, hot{.cache = Regime::Cache::hot}, rotation{.cache = Regime::Cache::rotation};
  EXPECT_EQ(lead_launches(flush, 0.001), 0u);
  for (const Regime regime : {hot, rotation}) {
    EXPECT_EQ(lead_launches(regime, 5), 1u);
    EXPECT_GE(static_cast<double>(lead_launches(regime, 0.005)) * 0.005, 0.05);
    EXPECT_LE(lead_launches(regime, 0), 32u);
  }
}

}  // namespace
}  // namespace phitune
