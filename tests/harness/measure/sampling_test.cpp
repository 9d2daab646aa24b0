// Which samples are taken, in which order, and which count.
#include "harness/measure/sampling.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "harness/measure/statistics.hpp"

namespace phitune {
namespace {

Sample sample_of(double ms, bool slowed = false) {
  Sample sample;
  sample.ms = ms;
  sample.state = {.sm_clock_mhz = slowed ? 1200.0 : 1980.0,
                  .temperature_c = 60,
                  .throttle_reasons = slowed ? "hardware thermal" : "",
                  .slowed = slowed};
  return sample;
}

TEST(SampleAlone, ThrottledSamplesAreThrownAwayAndCounted) {
  int taken = 0;
  const Timing timing = sample_alone(
      [&](std::size_t) {
        const bool slowed = ++taken % 3 == 0;
        return sample_of(slowed ? 9 : 1, slowed);
      },
      {});
  EXPECT_EQ(std::ranges::count(timing.samples_ms, 9.0), 0);
  EXPECT_EQ(timing.samples_ms.size() + static_cast<std::size_t>(timing.discarded), static_cast<std::size_t>(taken));
  EXPECT_GT(timing.discarded, 0);
  EXPECT_EQ(timing.throttle_reasons, "hardware thermal") << "said even though those samples do not count";
  EXPECT_EQ(timing.sm_clock_mhz, 1980);
  EXPECT_EQ(timing.sm_clocks_mhz.size(), timing.samples_ms.size());
}

TEST(SampleAlone, WhatIsGivenUpCarriesItsProof) {
  MeasurePolicy policy;
  policy.time_to_beat_ms = 1;
  policy.samples_to_beat = {0.9, 1, 1, 1, 1, 1, 1, 1, 1, 1.1};
  const Timing slow = sample_alone([](std::size_t) { return sample_of(2.2); }, policy);
  ASSERT_TRUE(slow.beaten.has_value());
  EXPECT_EQ(slow.samples_ms.size(), 2u);
  EXPECT_EQ(slow.beaten->by_ms, 1);
  EXPECT_DOUBLE_EQ(slow.beaten->low, 2);
  EXPECT_DOUBLE_EQ(slow.beaten->high, 2.2 / 0.9);
  EXPECT_FALSE(sample_alone([](std::size_t) { return sample_of(1); }, policy).beaten.has_value());
}

TEST(SampleAlone, ADeviceThatIsAlwaysSlowedIsMeasuredAllTheSame) {
  const MeasurePolicy policy;
  const Timing timing = sample_alone([](std::size_t) { return sample_of(2, true); }, policy);
  EXPECT_EQ(timing.discarded, max_discarded(policy));
  EXPECT_EQ(timing.median_ms, 2);
  EXPECT_EQ(timing.throttle_reasons, "hardware thermal");
}

TEST(SampleAlone, ClocksThatNobodyReportsAreNotThere) {
  const Timing timing = sample_alone([](std::size_t) { return Sample{.ms = 1, .state = {}}; }, {});
  EXPECT_EQ(timing.sm_clock_mhz, 0);
  EXPECT_TRUE(timing.sm_clocks_mhz.empty());
}

TEST(SampleInRounds, EveryRoundHasEachOnceInShuffledOrder) {
  std::vector<std::size_t> order;
  MeasurePolicy policy;
  policy.min_samples = policy.max_samples = 12;
  const auto timings = sample_in_rounds(
      4,
      [&](std::size_t i) {
        order.push_back(i);
        return sample_of(1 + static_cast<double>(i));
      },
      policy);
  ASSERT_EQ(order.size(), 48u);
  std::size_t in_order = 0;
  for (std::size_t round = 0; round < 12; ++round) {
    std::vector<std::size_t> places(order.begin() + static_cast<std::ptrdiff_t>(4 * round),
                                    order.begin() + static_cast<std::ptrdiff_t>(4 * round + 4));
    in_order += std::ranges::is_sorted(places) ? 1 : 0;
    std::ranges::sort(places);
    EXPECT_EQ(places, (std::vector<std::size_t>{0, 1, 2, 3}));
  }
  EXPECT_LT(in_order, 6u) << "a shuffle leaves the order as it is once in 24";
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(timings[i].median_ms, 1 + static_cast<double>(i));
}

// Clocks fall by a third over the measurement; the faster candidate is first in the list, then last, and wins both times.
TEST(SampleInRounds, DriftDoesNotPickTheWinner) {
  for (const bool faster_first : {true, false}) {
    double clock = 1;
    const auto timings = sample_in_rounds(2,
                                          [&](std::size_t i) {
                                            clock *= 1.01;
                                            return sample_of(((i == 0) == faster_first ? 1.0 : 1.03) * clock);
                                          },
                                          {});
    const std::vector<double> differences =
        paired_differences(timings[faster_first ? 1 : 0].samples_ms, timings[faster_first ? 0 : 1].samples_ms);
    EXPECT_GT(median(differences), 0) << faster_first;
  }
}

TEST(SampleInRounds, ARoundWithAThrottledSampleIsThrownAwayForAll) {
  int taken = 0;
  const auto timings = sample_in_rounds(2,
                                        [&](std::size_t) {
                                          const bool slowed = ++taken % 7 == 0;
                                          return sample_of(slowed ? 9 : 1, slowed);
                                        },
                                        {});
  EXPECT_EQ(timings[0].samples_ms.size(), timings[1].samples_ms.size());
  EXPECT_GT(timings[0].discarded, 0);
  EXPECT_EQ(timings[0].discarded, timings[1].discarded);
  for (const Timing& timing : timings) EXPECT_EQ(std::ranges::count(timing.samples_ms, 9.0), 0);
}

// Two that are close need many rounds; a third, ten times slower, is in the first ones only, and its samples stay pairs of theirs.
TEST(SampleInRounds, WhoIsMuchSlowerLeaves) {
  MeasurePolicy policy;
  policy.min_samples = 8;
  policy.max_samples = 40;
  std::vector<int> taken(3, 0);
  int all = 0;
  const auto timings = sample_in_rounds(
      3,
      [&](std::size_t i) {
        ++taken[i];
        const double noise = ++all % 2 == 0 ? 1.02 : 0.98;
        return sample_of((i == 2 ? 10 : 1) * noise);
      },
      policy);
  EXPECT_EQ(taken, (std::vector<int>{40, 40, 8}));
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(timings[i].samples_ms.size(), static_cast<std::size_t>(taken[i]));
}

TEST(Rest, IsAShareOfTheLastSampleButNoLongWait) {
  MeasurePolicy policy;
  policy.rest = 2;
  EXPECT_DOUBLE_EQ(rest_ms(policy, 3), 6);
  EXPECT_DOUBLE_EQ(rest_ms(policy, 1e6), 100);
  policy.rest = 0;
  EXPECT_DOUBLE_EQ(rest_ms(policy, 3), 0);
}

TEST(SampleInRounds, StopsOnceTheDifferenceIsSure) {
  MeasurePolicy policy;
  policy.min_samples = 6;
  policy.max_samples = 1000;
  policy.target_relative_ci = 0.005;
  const auto timings = sample_in_rounds(
      2, [](std::size_t i) { return sample_of(i == 0 ? 1 : 1.5); }, policy);
  EXPECT_EQ(timings[0].samples_ms.size(), 6u);
}

}  // namespace
}  // namespace phitune
