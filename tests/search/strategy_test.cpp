#include "search/strategy.hpp"

#include <algorithm>
#include <set>
#include <stdexcept>

#include <gtest/gtest.h>

namespace phitune {
namespace {

Space space_of(std::int64_t points) {
  Knob knob{"k", {}, ""};
  for (std::int64_t i = 0; i < points; ++i) knob.values.push_back(i);
  return Space({knob}, {});
}

std::vector<std::size_t> run(Strategy& strategy, std::size_t batch) {
  std::vector<std::size_t> order;
  for (auto asked = strategy.ask(batch); !asked.empty(); asked = strategy.ask(batch)) {
    EXPECT_LE(asked.size(), batch);
    for (const std::size_t index : asked) strategy.tell(index, index % 3 == 0 ? Outcome::compile_failed : Outcome::ok, 1.0);
    order.insert(order.end(), asked.begin(), asked.end());
  }
  return order;
}

TEST(Strategy, EveryStrategyAsksEachConfigExactlyOnce) {
  const Space space = space_of(57);
  for (const std::string& name : strategy_names()) {
    const auto order = run(*make_strategy(name, space, 5), 10);
    EXPECT_EQ(order.size(), space.size()) << name;
    EXPECT_EQ(std::set(order.begin(), order.end()).size(), space.size()) << name;
  }
}

TEST(Strategy, ExhaustiveGoesInOrder) {
  const Space space = space_of(23);
  EXPECT_TRUE(std::ranges::is_sorted(run(*make_strategy("exhaustive", space, 0), 4)));
}

TEST(Strategy, RandomDependsOnTheSeedAloneAndNotOnTheBatch) {
  const Space space = space_of(40);
  const auto order = [&](std::uint64_t seed, std::size_t batch) { return run(*make_strategy("random", space, seed), batch); };
  EXPECT_EQ(order(1, 1), order(1, 7));
  EXPECT_NE(order(1, 1), order(2, 1));
  EXPECT_FALSE(std::ranges::is_sorted(order(1, 1)));
  // The same on every machine: databases name the seed, and a resumed sweep continues the order.
  const auto first = order(1, 1);
  EXPECT_EQ(std::vector<std::size_t>(first.begin(), first.begin() + 5), (std::vector<std::size_t>{8, 1, 34, 2, 4}));
}

TEST(Strategy, AnEmptySpaceIsDoneAtOnce) {
  const Space empty({{"k", {1}, ""}}, {{"never", {}, [](const Config&) { return false; }}});
  for (const std::string& name : strategy_names()) EXPECT_TRUE(make_strategy(name, empty, 0)->ask(8).empty()) << name;
}

TEST(Strategy, BeingToldNonsenseIsAnError) {
  const Space space = space_of(4);
  const auto strategy = make_strategy("exhaustive", space, 0);
  EXPECT_THROW(strategy->tell(0, Outcome::ok, 1), std::logic_error);
  ASSERT_EQ(strategy->ask(1).size(), 1);
  strategy->tell(0, Outcome::ok, 1);
  EXPECT_THROW(strategy->tell(0, Outcome::ok, 1), std::logic_error);
  EXPECT_THROW(strategy->tell(99, Outcome::ok, 1), std::logic_error);
}

TEST(Strategy, AnUnknownNameListsTheKnownOnes) {
  const Space space = space_of(1);
  try {
    (void)make_strategy("rundom", space, 0);
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "'rundom' is not a search strategy (exhaustive or random): did you mean 'random'?");
  }
}

}  // namespace
}  // namespace phitune
