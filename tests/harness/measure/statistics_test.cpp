// Protects what a time means: order statistics, the confidence interval's coverage, and the rules that end a measurement.
#include "harness/measure/statistics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <numeric>
#include <random>
#include <vector>

namespace phitune {
namespace {

TEST(Quantile, InterpolatesBetweenOrderStatistics) {
  const std::vector<double> samples{4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(median(samples), 2.5);
  EXPECT_DOUBLE_EQ(quantile(samples, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(samples, 1), 4);
  EXPECT_DOUBLE_EQ(interquartile_range(samples), 1.5);
  EXPECT_DOUBLE_EQ(median(std::vector<double>{7}), 7);
  EXPECT_THROW(static_cast<void>(median({})), std::invalid_argument);
}

TEST(MedianInterval, HasTheRanksOfTheBinomialTable) {
  const auto ranks = [](int n) {
    std::vector<double> samples;
    for (int i = 1; i <= n; ++i) samples.push_back(i);
    return median_interval(samples);
  };
  EXPECT_FALSE(ranks(5));
  EXPECT_EQ(ranks(6)->low, 1);
  EXPECT_EQ(ranks(6)->high, 6);
  EXPECT_EQ(ranks(10)->low, 2);
  EXPECT_EQ(ranks(10)->high, 9);
  EXPECT_EQ(ranks(20)->low, 6);
  EXPECT_EQ(ranks(20)->high, 15);
  EXPECT_EQ(ranks(30)->low, 10);
  EXPECT_EQ(ranks(30)->high, 21);
}

TEST(MedianInterval, CoversTheMedianAtLeast95TimesInAHundred) {
  const std::uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << std::endl;
  std::mt19937_64 rng(seed);
  std::lognormal_distribution<double> skewed(0, 1);  // median 1
  for (const int n : {6, 10, 17, 30}) {
    int covered = 0;
    const int rounds = 4000;
    for (int round = 0; round < rounds; ++round) {
      std::vector<double> samples(static_cast<std::size_t>(n));
      std::ranges::generate(samples, [&] { return skewed(rng); });
      const Interval interval = *median_interval(samples);
      covered += interval.low <= 1 && 1 <= interval.high;
    }
    EXPECT_GT(covered, static_cast<int>(0.935 * rounds)) << n;
  }
}

/// How many samples are taken of a source, and how it ended.
struct Ending {
  std::size_t samples;
  Next next;
};
template <typename Source>
Ending run(const MeasurePolicy& policy, Source&& source) {
  std::vector<double> samples;
  Next next = Next::sample;
  while (next == Next::sample) {
    samples.push_back(source());
    next = next_step(samples, policy);
  }
  return {samples.size(), next};
}

TEST(NextStep, StopsATightContenderAtTenSamples) {
  const Ending ending = run({}, [] { return 1.0; });
  EXPECT_EQ(ending.samples, 10u);
  EXPECT_EQ(ending.next, Next::stop);
}

TEST(NextStep, StopsANonContenderEarlier) {
  MeasurePolicy policy;
  policy.time_to_beat_ms = 1;
  EXPECT_EQ(run(policy, [] { return 1.2; }).samples, 6u);    // beaten by 20 %: as soon as there is an interval
  EXPECT_EQ(run(policy, [] { return 1.05; }).samples, 10u);  // within 10 %: a contender
}

// The fewest samples that prove it: with ten to beat, two above all of them leave 1 chance in 66.
TEST(NextStep, AbandonsTheProvenSlower) {
  MeasurePolicy policy;
  policy.time_to_beat_ms = 1;
  policy.samples_to_beat.assign(10, 1.0);
  const Ending slower = run(policy, [] { return 1.06; });
  EXPECT_EQ(slower.samples, 2u);
  EXPECT_EQ(slower.next, Next::abandon);
  const Ending near = run(policy, [] { return 1.04; });
  EXPECT_EQ(near.samples, 10u);
  EXPECT_EQ(near.next, Next::stop);
  policy.samples_to_beat.assign(5, 1.0);
  EXPECT_EQ(run(policy, [] { return 9.0; }).samples, 3u);
  policy.samples_to_beat.clear();
  EXPECT_EQ(run(policy, [] { return 9.0; }).next, Next::stop) << "nothing to prove it by";
}

TEST(NextStep, HardlyEverAbandonsWhatIsAsFast) {
  std::mt19937_64 rng(7);
  std::lognormal_distribution<double> noise(0, 0.03);
  int abandoned = 0;
  for (int repeat = 0; repeat < 2000; ++repeat) {
    MeasurePolicy policy;
    policy.time_to_beat_ms = 1;
    for (int i = 0; i < 10; ++i) policy.samples_to_beat.push_back(noise(rng));
    abandoned += run(policy, [&] { return noise(rng); }).next == Next::abandon;
  }
  EXPECT_LT(abandoned, 20);
}

TEST(RatioInterval, ByHand) {
  std::vector<double> ten(10);
  std::iota(ten.begin(), ten.end(), 1.0);
  // 20 ratios, none of which may lie the wrong way round.
  const Interval interval = ratio_interval(std::vector{20.0, 30.0}, ten).value();
  EXPECT_DOUBLE_EQ(interval.low, 2);
  EXPECT_DOUBLE_EQ(interval.high, 30);
  const std::span<const double> all = ten;
  EXPECT_TRUE(ratio_interval(all.first(2), all.first(8)).has_value());
  EXPECT_FALSE(ratio_interval(all.first(2), all.first(7)).has_value());
  EXPECT_TRUE(ratio_interval(all.first(3), all.first(5)).has_value());
  EXPECT_FALSE(ratio_interval(all.first(3), all.first(4)).has_value());
  EXPECT_FALSE(ratio_interval({}, ten).has_value());
}

TEST(RatioInterval, HoldsTheRatioAsOftenAsItSays) {
  std::mt19937_64 rng(11);
  std::lognormal_distribution<double> noise(0, 0.05);
  for (const std::size_t n : {3, 6, 15}) {
    int held = 0;
    constexpr int repeats = 4000;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      std::vector<double> a(n), b(10);
      for (double& sample : a) sample = 1.3 * noise(rng);
      for (double& sample : b) sample = noise(rng);
      const Interval interval = ratio_interval(a, b).value();
      held += interval.low <= 1.3 && 1.3 <= interval.high;
    }
    EXPECT_GT(held, 0.94 * repeats) << n;
    EXPECT_LT(held, (n < 6 ? 0.985 : 0.967) * repeats) << n << ": wider than it need be";
  }
}

TEST(NextStep, GivesNoisySourcesUpToTheMaximum) {
  int n = 0;
  const Ending ending = run({}, [&] { return ++n % 2 == 0 ? 1.0 : 1.5; });
  EXPECT_EQ(ending.samples, 30u);
  EXPECT_EQ(ending.next, Next::stop);
}

TEST(PairedDifferences, AreThoseOfEachPair) {
  const std::vector<double> a = {1.1, 2.0, 3.3}, b = {1.0, 2.0, 3.0};
  const std::vector<double> differences = paired_differences(a, b);
  ASSERT_EQ(differences.size(), 3u);
  EXPECT_NEAR(differences[0], 0.1, 1e-12);
  EXPECT_EQ(differences[1], 0);
  EXPECT_NEAR(differences[2], 0.1, 1e-12);
  EXPECT_THROW(static_cast<void>(paired_differences(a, std::vector<double>(2, 1.0))), std::invalid_argument);
}

// Common drift of 10 % hides a difference of 1 % from medians, and not from pairs.
TEST(Settled, PairsSeeWhatDriftHides) {
  std::vector<std::vector<double>> candidates(2);
  for (int round = 0; round < 12; ++round) {
    const double drift = 1 + 0.01 * round;
    candidates[0].push_back(drift);
    candidates[1].push_back(1.01 * drift);
  }
  EXPECT_TRUE(settled(candidates, 0.005));
  EXPECT_FALSE(settled(std::span(candidates).first(1), 0.005)) << "alone it drifts too far";
}

TEST(Settled, NotWhileADifferenceMayBeEitherWay) {
  std::vector<std::vector<double>> candidates(2);
  for (int round = 0; round < 12; ++round) {
    candidates[0].push_back(1);
    candidates[1].push_back(round % 2 == 0 ? 0.96 : 1.05);
  }
  EXPECT_FALSE(settled(candidates, 0.005));
}

// Two sweeps must find the same ones tied: an interval on both sides of the bound says neither.
TEST(Settled, NotWhileATieMayBeNone) {
  const auto with = [](double least, double most) {
    std::vector<std::vector<double>> candidates(2);
    for (int round = 0; round < 12; ++round) {
      candidates[0].push_back(1);
      candidates[1].push_back(round % 2 == 0 ? 1 + least : 1 + most);
    }
    return settled(candidates, 0.005);
  };
  EXPECT_FALSE(with(0.003, 0.008)) << "slower, and by how much is open";
  EXPECT_TRUE(with(0.006, 0.02)) << "not tied";
  EXPECT_TRUE(with(0.001, 0.004)) << "tied";
}

TEST(Settled, NotWithFewerPairsThanAnIntervalNeeds) {
  const std::vector<std::vector<double>> candidates = {{1, 1, 1}, {2, 2, 2}};
  EXPECT_FALSE(settled(candidates, 0.005));
}

TEST(Unstable, NeedsBothAShareAndAnAbsoluteSpread) {
  EXPECT_FALSE(unstable(std::vector<double>{1, 1.01, 0.99, 1}));
  EXPECT_TRUE(unstable(std::vector<double>{1, 2, 1, 2}));
  EXPECT_FALSE(unstable(std::vector<double>{0.002, 0.004, 0.002, 0.004}));  // two microseconds of jitter are the clock's
}

}  // namespace
}  // namespace phitune
