#include "search/strategy.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "search/constraints.hpp"
#include "search/replay.hpp"
#include "tests/search/random_problem.hpp"

namespace phitune {
namespace {

Space space_of(std::int64_t points) { return Space({whole_numbers("k", 0, points - 1)}, {}); }

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
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  const Space small = space_of(57);
  const Space wide({whole_numbers("a", 1, 5), one_of("b", {"x", "y", "z"}), powers_of_two("c", 1, 8), whole_numbers("d", 7, 7)},
                   {divides("c divides a", "c", "a")});
  for (const Space* space : {&small, &wide}) {
    for (const std::string& name : strategy_names()) {
      const auto order = run(*make_strategy(name, *space, seed), 10);
      EXPECT_EQ(order.size(), space->size()) << name;
      EXPECT_EQ(std::set(order.begin(), order.end()).size(), space->size()) << name;
    }
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

// A rugged bowl of 20 x 20 x 8 x 3 with one optimum, rules that leave half of it, and a part in which everything fails.
RecordedSpace bowl() {
  const std::vector<Knob> knobs = {whole_numbers("x", 1, 20), whole_numbers("y", 1, 20), powers_of_two("z", 1, 128),
                                   one_of("mode", {"a", "b", "c"})};
  RecordedSpace space{"bowl", Space(knobs, product_at_most("too large", {knobs[0], knobs[1]}, 100)), {}};
  for (std::size_t i = 0; i < space.space.size(); ++i) {
    const Config c = space.space.at(i);
    const auto x = static_cast<double>(c.at("x")), y = static_cast<double>(c.at("y")), z = std::log2(static_cast<double>(c.at("z")));
    const double time =
        1 + 0.1 * std::abs(x - 12) + 0.1 * std::abs(y - 7) + 0.3 * std::abs(z - 5) + 0.5 * (c.at("mode") != 1) + 0.05 * std::fmod(x * y, 3);
    space.trials.push_back({c.at("z") == 32 && c.at("x") > 14 ? Outcome::launch_failed : Outcome::ok, time, 1000});
  }
  return space;
}

// How far above the optimum a strategy ends after 100 trials, the mean of 20 seeds.
double gap_on(const RecordedSpace& space, const std::string& name) {
  double mean = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Replay run = replay(space, *make_strategy(name, space.space, seed), {.ms = 100e3}, Thinking::free);
    EXPECT_EQ(run.trials, 100U) << name;
    mean += (run.improvements.back().best_ms / facts_of(space)->best_ms - 1) / 20;
  }
  return mean;
}

TEST(Strategy, EveryLearnerComesNearerTheOptimumOfARuggedBowlThanChance) {
  const RecordedSpace space = bowl();
  const double by_chance = gap_on(space, "random");
  EXPECT_GT(by_chance, 0.2) << "too easy a space to tell anything";
  for (const std::string& name : strategy_names()) {
    if (name == "random" || name == "exhaustive") continue;
    EXPECT_LT(gap_on(space, name), (name == "auto" ? 0.05 : 0.6) * by_chance) << name;
  }
}

// A prior that is right about half of what matters saves the trials that would find that out; one that is wrong costs some.
TEST(Strategy, WhatIsKnownBeforehandSavesTrials) {
  const RecordedSpace space = bowl();
  const Prior right = [&](std::size_t index) { return std::log(space.trials[index].time_ms) + 0.05 * static_cast<double>(index % 7); };
  const Prior wrong = [&](std::size_t index) { return -std::log(space.trials[index].time_ms); };
  const auto trials_to = [&](const Prior& prior, std::uint64_t seeds) {
    std::size_t sum = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed)
      sum += replay(space, *make_strategy("auto", space.space, seed, prior), {.good_enough_ms = 1.01 * facts_of(space)->best_ms},
                    Thinking::free)
                 .trials;
    return sum;
  };
  EXPECT_LT(3 * trials_to(right, 5), trials_to({}, 5));
  EXPECT_LT(trials_to(wrong, 1), space.trials.size() / 2) << "it never finds out";
}

// What every trial teaches counts where there are few: of 384 configs, whose 6 knobs act one by one, the best is found within 20 trials. A
// forest that only tells good from bad takes 38.
TEST(Strategy, AForestLearnsFromItsFirstTrials) {
  RecordedSpace space{.name = "small",
                      .space = Space({whole_numbers("a", 1, 4), whole_numbers("b", 1, 4), powers_of_two("c", 1, 4), one_of("d", {"x", "y"}),
                                      one_of("e", {"x", "y"}), one_of("f", {"x", "y"})},
                                     {}),
                      .trials = {}};
  for (std::size_t i = 0; i < space.space.size(); ++i) {
    const Config c = space.space.at(i);
    const double ms = 1 + 0.2 * std::abs(static_cast<double>(c.at("a")) - 3) + 0.15 * static_cast<double>(c.at("b")) +
                      0.1 * static_cast<double>(4 - c.at("c")) + 0.3 * static_cast<double>(c.at("d")) +
                      0.2 * static_cast<double>(1 - c.at("e")) + 0.1 * static_cast<double>(c.at("f"));
    space.trials.push_back({.outcome = Outcome::ok, .time_ms = ms, .cost_ms = 1});
  }
  double trials = 0;
  for (std::uint64_t seed = 1; seed <= 50; ++seed)
    trials += static_cast<double>(replay(space, *make_strategy("forest", space.space, seed),
                                         {.good_enough_ms = 1.001 * facts_of(space)->best_ms}, Thinking::free)
                                      .trials) /
              50;
  EXPECT_LT(trials, 20);
}

// One config per forest while there is little to learn from, three later.
TEST(Strategy, AForestPicksMoreAtOnceTheMoreItKnows) {
  const RecordedSpace space = bowl();
  const auto strategy = make_strategy("forest", space.space, 1);
  std::vector<std::size_t> sizes;
  for (std::size_t told = 0; told < 36; told += sizes.back()) {
    const auto asked = strategy->ask(16);
    sizes.push_back(asked.size());
    for (const std::size_t index : asked) strategy->tell(index, space.trials[index].outcome, space.trials[index].time_ms);
  }
  // 6 at random, 1 at a time until 20 are told, 2 until 30.
  std::vector<std::size_t> expected(1, 6);
  expected.insert(expected.end(), 14, 1);
  expected.insert(expected.end(), 5, 2);
  expected.insert(expected.end(), 2, 3);
  EXPECT_EQ(sizes, expected);
}

TEST(Strategy, OnlyWhoLearnsFromAPriorHeedsIt) {
  const Space space = space_of(300);
  const Prior prior = [](std::size_t index) { return std::abs(static_cast<double>(index) - 217); };
  for (const std::string& name : strategy_names()) {
    const auto with = make_strategy(name, space, 1, prior)->ask(3), without = make_strategy(name, space, 1)->ask(3);
    EXPECT_EQ(with != without, heeds_prior(name)) << name;
    if (heeds_prior(name)) {
      EXPECT_EQ(with.front(), 217U) << name;
    }
  }
}

// Times that follow the prior leave nothing to gain after its best; a strategy that was told nothing, or expects nothing, cannot tell.
TEST(Strategy, TheChanceOfAGainFallsOnceTheBestExpectedAreTried) {
  const Space space = space_of(300);
  const Prior prior = [](std::size_t index) { return 0.01 * std::abs(static_cast<double>(index) - 217); };
  const auto strategy = make_strategy("auto", space, 1, prior);
  EXPECT_FALSE(strategy->chance_of_gain(0.01, 10).has_value());
  EXPECT_FALSE(make_strategy("forest", space, 1)->chance_of_gain(0.01, 10).has_value());
  for (int round = 0; round < 8; ++round)
    for (const std::size_t index : strategy->ask(3)) strategy->tell(index, Outcome::ok, std::exp(prior(index)));
  EXPECT_LT(strategy->chance_of_gain(0.01, 10).value(), 0.01);
  EXPECT_GT(strategy->chance_of_gain(-1.0, 10).value(), 0.99) << "any config is faster than twice the best";
}

TEST(Strategy, FailuresDoNotDerailALearner) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  RecordedSpace space = bowl();
  // Nine of ten fail, the best among them not.
  std::mt19937_64 rng(seed);
  const double best = facts_of(space)->best_ms;
  for (RecordedTrial& trial : space.trials)
    if (trial.time_ms > best && draw_below(10, rng) > 0) trial.outcome = Outcome::compile_failed;
  for (const std::string& name : strategy_names()) {
    if (name == "random" || name == "exhaustive") continue;
    const Replay run = replay(space, *make_strategy(name, space.space, seed), {.ms = 400e3}, Thinking::free);
    EXPECT_EQ(run.trials, 400U) << name;
    ASSERT_FALSE(run.improvements.empty()) << name << " found none of the tenth that is right";
  }
}

// Wide tiles hold the best config, but those of them that are expected to be the best fail. A search to which failures are merely slow blames
// the tile, the one knob by which they differ from what it finds to be good, and leaves that half of the space for last.
TEST(Strategy, OneFailureDoesNotCondemnAllThatSharesAKnobWithIt) {
  const std::vector<Knob> knobs = {{"tile", {64, 128}, ""}, {"warps", {1, 2, 3}, ""}, {"stages", {2, 3, 4, 6}, ""}, {"ahead", {1, 2, 3}, ""},
                                   {"m", {1, 2}, ""}};
  RecordedSpace space{.name = "half", .space = Space(knobs, {}), .trials = {}, .has_costs = false};
  std::vector<double> expected;
  for (std::size_t i = 0; i < space.space.size(); ++i) {
    const Config c = space.space.at(i);
    const bool wide = c.at("tile") == 128, favoured = c.at("warps") == 2 && c.at("m") == 2;
    const bool best = wide && c.at("warps") == 3 && c.at("m") == 1 && c.at("stages") == 3 && c.at("ahead") == 3;
    const double ms = best ? 0.9 : (favoured ? 1.0 : 1.1) + 0.02 * static_cast<double>(6 - c.at("stages")) + (c.at("warps") == 1 ? 0.5 : 0);
    space.trials.push_back({.outcome = wide && favoured ? Outcome::compile_failed : Outcome::ok, .time_ms = ms, .cost_ms = 1});
    expected.push_back(std::log(best ? 1.14 : ms) - (wide && favoured ? 0.1 : 0));
  }
  const Prior prior = [&](std::size_t index) { return expected[index]; };
  const std::size_t trials = replay(space, *make_strategy("informed", space.space, 1, prior),
                                    {.good_enough_ms = 1.001 * facts_of(space)->best_ms}, Thinking::free)
                                 .trials;
  EXPECT_LT(trials, space.trials.size() / 2) << "of " << space.trials.size();
}

TEST(Strategy, AllFailingAndSinglePointSpacesEnd) {
  const Space one = space_of(1), many = space_of(100);
  for (const std::string& name : strategy_names()) {
    EXPECT_EQ(run(*make_strategy(name, one, 3), 8).size(), 1U) << name;
    const auto strategy = make_strategy(name, many, 3);
    std::size_t asked = 0;
    for (auto batch = strategy->ask(7); !batch.empty(); batch = strategy->ask(7)) {
      for (const std::size_t index : batch) strategy->tell(index, Outcome::wrong_result, 0);
      asked += batch.size();
    }
    EXPECT_EQ(asked, 100U) << name;
  }
}

// The compile pool asks again before anything was told.
TEST(Strategy, AskingAheadNeverRepeatsAndNeverEndsEarly) {
  const Space space = space_of(90);
  for (const std::string& name : strategy_names()) {
    const auto strategy = make_strategy(name, space, 4);
    std::set<std::size_t> all;
    std::vector<std::size_t> waiting;
    while (true) {
      const auto asked = strategy->ask(6);
      if (asked.empty()) break;
      for (const std::size_t index : asked) EXPECT_TRUE(all.insert(index).second) << name;
      waiting.insert(waiting.end(), asked.begin(), asked.end());
      for (; waiting.size() > 20; waiting.erase(waiting.begin()))
        strategy->tell(waiting.front(), Outcome::ok, 1.0 + static_cast<double>(waiting.front()));
    }
    EXPECT_EQ(all.size(), space.size()) << name;
  }
}

TEST(Strategy, IsTheSameForASeedAndNotForAnother) {
  const RecordedSpace space = bowl();
  for (const std::string& name : strategy_names()) {
    const auto order = [&](std::uint64_t seed) {
      const auto strategy = make_strategy(name, space.space, seed);
      std::vector<std::size_t> asked;
      while (asked.size() < 120) {
        for (const std::size_t index : strategy->ask(5)) {
          strategy->tell(index, space.trials[index].outcome, space.trials[index].time_ms);
          asked.push_back(index);
        }
      }
      return asked;
    };
    EXPECT_EQ(order(1), order(1)) << name;
    if (name != "exhaustive") {
      EXPECT_NE(order(1), order(2)) << name;
    }
  }
}

TEST(Strategy, AnEmptySpaceIsDoneAtOnce) {
  const Space empty({{"k", {1}, ""}}, {{"never", {}, [](const Config&) { return false; }}});
  for (const std::string& name : strategy_names()) EXPECT_TRUE(make_strategy(name, empty, 0)->ask(8).empty()) << name;
}

TEST(Strategy, BeingToldNonsenseIsAnError) {
  const Space space = space_of(4);
  for (const std::string& name : strategy_names()) {
    const auto strategy = make_strategy(name, space, 0);
    EXPECT_THROW(strategy->tell(0, Outcome::ok, 1), std::logic_error) << name;
    const auto asked = strategy->ask(1);
    ASSERT_EQ(asked.size(), 1) << name;
    EXPECT_THROW(strategy->tell(asked[0], Outcome::ok, std::nan("")), std::logic_error) << name;
    strategy->tell(asked[0], Outcome::ok, 1);
    EXPECT_THROW(strategy->tell(asked[0], Outcome::ok, 1), std::logic_error) << name;
    EXPECT_THROW(strategy->tell(99, Outcome::ok, 1), std::logic_error) << name;
  }
}

TEST(Strategy, AnUnknownNameListsTheKnownOnes) {
  const Space space = space_of(1);
  try {
    (void)make_strategy("rundom", space, 0);
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(),
                 "'rundom' is not a search strategy (auto, informed, forest, genetic, evolution, local, annealing, random or exhaustive): "
                 "did you mean "
                 "'random'?");
  }
}

}  // namespace
}  // namespace phitune
