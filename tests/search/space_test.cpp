#include "search/space.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "search/constraints.hpp"
#include "tests/search/random_problem.hpp"

namespace phitune {
namespace {

// Shared memory of a made-up kernel: declared first, but decidable only after the two others.
std::vector<Constraint> example_constraints() {
  return {{"shared memory", {"tile", "stages"}, [](const Config& c) { return c.at("tile") * c.at("stages") <= 256; }},
          {"warps cover the tile", {"warps", "tile"}, [](const Config& c) { return c.at("warps") * 16 >= c.at("tile"); }},
          {"no ring of one with big tiles", {"tile", "stages"}, [](const Config& c) { return c.at("stages") > 1 || c.at("tile") < 128; }}};
}

std::vector<Knob> example_knobs() {
  return {{"warps", {4, 8}, ""}, {"tile", {32, 64, 128}, ""}, {"stages", {1, 2, 3, 4}, ""}, {"mode", {0, 1}, "", {"plain", "wide"}}};
}

// A space with random knobs and random linear rules over one to three of them.
Space random_space(std::mt19937_64& rng) {
  std::vector<Knob> knobs;
  for (std::uint64_t k = draw_below(5, rng); k > 0; --k) {
    Knob knob{fmt::format("k{}", knobs.size()), {}, ""};
    for (std::uint64_t v = 1 + draw_below(5, rng); v > 0; --v) knob.values.push_back(static_cast<std::int64_t>(v * 7 % 11));
    knobs.push_back(std::move(knob));
  }
  std::vector<Constraint> constraints;
  for (std::uint64_t c = knobs.empty() ? 0 : draw_below(4, rng); c > 0; --c) {
    std::vector<std::string> names;
    for (std::uint64_t n = 1 + draw_below(3, rng); n > 0; --n) names.push_back(knobs[draw_below(knobs.size(), rng)].name);
    const auto limit = static_cast<std::int64_t>(draw_below(25, rng));
    constraints.push_back({fmt::format("rule {}", c), names, [names, limit](const Config& config) {
                             std::int64_t sum = 0;
                             for (const std::string& name : names) sum += config.at(name);
                             return sum <= limit;
                           }});
  }
  return {std::move(knobs), std::move(constraints)};
}

// Every point of the product, in order of (knob, value), found by counting alone.
std::vector<Config> whole_product(const std::vector<Knob>& knobs) {
  std::vector<Config> points(1);
  for (const Knob& knob : knobs) {
    std::vector<Config> longer;
    for (const Config& point : points) {
      for (const std::int64_t value : knob.values) {
        longer.push_back(point);
        longer.back().set(knob.name, value);
      }
    }
    points = std::move(longer);
  }
  return points;
}

void expect_equals_brute_force(const Space& space) {
  std::vector<Config> survivors;
  std::map<std::string, std::uint64_t> refused;
  const std::vector<Config> product = whole_product(space.knobs());
  for (const Config& point : product) {
    if (const auto reason = space.why_not(point)) {
      ++refused[*reason];
    } else {
      survivors.push_back(point);
    }
  }
  ASSERT_EQ(space.product_size(), product.size());
  ASSERT_EQ(space.size(), survivors.size());
  for (std::size_t i = 0; i < survivors.size(); ++i) {
    ASSERT_EQ(space.at(i), survivors[i]);
    ASSERT_EQ(space.find(survivors[i]), i);
  }
  std::uint64_t removed = 0;
  for (const auto& [reason, configs] : space.removals()) {
    EXPECT_EQ(configs, refused[reason]) << reason;
    removed += configs;
  }
  EXPECT_EQ(space.size() + removed, product.size());
}

TEST(Space, EqualsBruteForceWithItsRemovalsCounted) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 rng(seed);
  for (int i = 0; i < 300; ++i) expect_equals_brute_force(random_space(rng));
  expect_equals_brute_force(Space(example_knobs(), example_constraints()));
}

// why_not judges whole configs, so this checks the surviving set against the rules themselves and not against why_not.
TEST(Space, HoldsExactlyTheConfigsThatMeetEveryRule) {
  const Space space(example_knobs(), example_constraints());
  std::size_t expected = 0;
  for (const Config& c : whole_product(example_knobs())) {
    const bool meets =
        c.at("tile") * c.at("stages") <= 256 && c.at("warps") * 16 >= c.at("tile") && (c.at("stages") > 1 || c.at("tile") < 128);
    EXPECT_EQ(space.find(c).has_value(), meets) << c.text();
    expected += meets;
  }
  EXPECT_EQ(space.size(), expected);
}

TEST(Space, CountsEachPointForTheFirstRuleThatCouldRefuseIt) {
  const Space space(example_knobs(), example_constraints());
  // warps and tile are set first: 4 warps with tile 128 loses 4 stages x 2 modes; the rest by hand from the two other rules.
  std::map<std::string, std::uint64_t> removed;
  for (const auto& [reason, configs] : space.removals()) removed[reason] = configs;
  EXPECT_EQ(removed.at("warps cover the tile"), 8);
  EXPECT_EQ(removed.at("shared memory"), 4);                  // 8 warps, tile 128, stages 3 and 4
  EXPECT_EQ(removed.at("no ring of one with big tiles"), 2);  // 8 warps, tile 128, stages 1
}

TEST(Space, MayBeEmptyAndSaysWhy) {
  const Space space({{"warps", {4, 8}, ""}, {"tile", {32, 64}, ""}},
                    {{"this device has no tensor cores", {}, [](const Config&) { return false; }}});
  EXPECT_TRUE(space.empty());
  EXPECT_EQ(space.removals().at(0).configs, 4);
  EXPECT_EQ(space.why_not(Config{{"warps", 4}, {"tile", 32}}), "this device has no tensor cores");
  std::mt19937_64 rng(1);
  EXPECT_TRUE(space.sample(3, rng).empty());
  EXPECT_THROW((void)space.at(0), std::out_of_range);
}

TEST(Space, WithoutKnobsHasOneConfig) {
  const Space space({}, {});
  EXPECT_EQ(space.size(), 1);
  EXPECT_EQ(space.at(0), Config{});
  EXPECT_EQ(space.find(Config{}), 0);
  EXPECT_TRUE(space.neighbours(0).empty());
}

TEST(Space, ExplainsWhyAConfigIsNotInIt) {
  const Space space(example_knobs(), example_constraints());
  const auto why = [&](std::string_view text) { return space.why_not(Config::parse(text)).value_or("in"); };
  EXPECT_EQ(why("warps=8 tile=64 stages=2 mode=0"), "in");
  EXPECT_EQ(why("warps=8 tile=64 stages=2"), "knob 'mode' is not set");
  EXPECT_EQ(why("warps=8 tile=64 stages=2 mode=0 extra=1"), "there is no knob 'extra'");
  EXPECT_EQ(space.find(Config::parse("warps=8 tile=64 stages=2 mode=0 extra=1")), std::nullopt);
  EXPECT_EQ(space.find(Config::parse("warps=8 tile=64 stages=2")), std::nullopt);
  EXPECT_EQ(why("warps=5 tile=64 stages=2 mode=0"), "knob 'warps' cannot be 5: it is one of 4, 8");
  EXPECT_EQ(why("warps=8 tile=128 stages=4 mode=0"), "shared memory");
}

// Chi-square of the frequency of each index; 1 of 1e6 fair samplers would exceed the bound (normal approximation, 4.75 sigma).
TEST(Space, SamplesUniformlyWithoutRepeating) {
  const Space space(example_knobs(), example_constraints());
  std::mt19937_64 rng(20250711);
  std::vector<double> hits(space.size(), 0);
  const std::size_t draws = 4;
  const int rounds = 20000;
  for (int round = 0; round < rounds; ++round) {
    const auto sample = space.sample(draws, rng);
    ASSERT_EQ(std::set(sample.begin(), sample.end()).size(), draws);
    for (const std::size_t index : sample) hits[index] += 1;
  }
  const double expected = static_cast<double>(draws) * rounds / static_cast<double>(space.size());
  double chi_square = 0;
  for (const double count : hits) chi_square += (count - expected) * (count - expected) / expected;
  const double freedom = static_cast<double>(space.size()) - 1;
  EXPECT_LT(chi_square, freedom + 4.75 * std::sqrt(2 * freedom));
  EXPECT_GT(chi_square, freedom - 4.75 * std::sqrt(2 * freedom)) << "suspiciously even";
}

TEST(Space, SamplingMoreThanThereIsGivesAll) {
  const Space space(example_knobs(), example_constraints());
  std::mt19937_64 rng(7);
  auto all = space.sample(space.size() + 100, rng);
  EXPECT_FALSE(std::ranges::is_sorted(all)) << "not shuffled";
  std::ranges::sort(all);
  for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], i);
  EXPECT_EQ(all.size(), space.size());
}

TEST(Space, NeighboursDifferInExactlyOneKnob) {
  const Space space(example_knobs(), example_constraints());
  const auto differing = [&](std::size_t i, std::size_t j) {
    const Config a = space.at(i);
    const Config b = space.at(j);
    int knobs = 0;
    for (const Knob& knob : space.knobs()) knobs += a.at(knob.name) != b.at(knob.name);
    return knobs;
  };
  for (std::size_t i = 0; i < space.size(); ++i) {
    std::vector<std::size_t> expected;
    for (std::size_t j = 0; j < space.size(); ++j) {
      if (differing(i, j) == 1) expected.push_back(j);
    }
    EXPECT_EQ(space.neighbours(i), expected) << space.at(i).text();
  }
}

// Written into databases: fixed for ever.
// A product of 1.3e9 points: what cannot be listed is counted, drawn, found and left for a neighbour all the same.
Space huge_space() {
  std::vector<Knob> knobs = {whole_numbers("block_x", 16, 256, 16), powers_of_two("block_y", 1, 16), whole_numbers("tile_x", 1, 16),
                             whole_numbers("tile_y", 1, 16)};
  std::vector<Constraint> constraints = product_at_most("threads", {knobs[0], knobs[1]}, 1024);
  for (const Constraint& c : product_at_most("registers", {knobs[2], knobs[3]}, 48)) constraints.push_back(c);
  for (Knob knob : {whole_numbers("unroll", 1, 16), powers_of_two("vector", 1, 8), whole_numbers("stages", 1, 8),
                    one_of("cache", {"none", "l1", "shared"}), whole_numbers("pad", 0, 7), whole_numbers("split", 1, 5)})
    knobs.push_back(std::move(knob));
  constraints.push_back(divides("unrolled loops have no rest", "unroll", "tile_x"));
  constraints.push_back(only_when("padding is of shared memory", knobs[8], {"cache"}, [](const Config& c) { return c.at("cache") == 2; }));
  return {std::move(knobs), std::move(constraints)};
}

TEST(Space, IsCountedAndIndexedWithoutBeingListed) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 rng(seed);
  const Space space = huge_space();
  EXPECT_GT(space.product_size(), 1000000000U);
  // Groups of knobs that no rule ties together, each counted alone by brute force.
  std::size_t blocks = 0, tiles = 0;
  for (int x = 16; x <= 256; x += 16)
    for (int y = 1; y <= 16; y *= 2) blocks += x * y <= 1024;
  for (int x = 1; x <= 16; ++x)
    for (int y = 1; y <= 16; ++y)
      for (int unroll = 1; unroll <= 16; ++unroll) tiles += x * y <= 48 && x % unroll == 0;
  EXPECT_EQ(space.size(), blocks * tiles * 4 * 8 * (2 + 8) * 5);
  EXPECT_LT(space.nodes(), 1000U);
  for (const std::size_t index : space.sample(200, rng)) {
    const Config config = space.at(index);
    EXPECT_EQ(space.why_not(config), std::nullopt);
    EXPECT_EQ(space.find(config), index);
    for (const std::size_t neighbour : space.neighbours(index)) ASSERT_EQ(space.why_not(space.at(neighbour)), std::nullopt);
  }
}

TEST(Space, AdjacentConfigsAreOneStepAwayInOneOrTwoKnobs) {
  std::vector<Knob> knobs = example_knobs();
  knobs[3].categorical = true;
  const Space space(knobs, example_constraints());
  for (std::size_t i = 0; i < space.size(); ++i) {
    std::vector<std::size_t> expected;
    std::vector<std::uint16_t> a(knobs.size()), b(knobs.size());
    space.positions(i, a);
    for (std::size_t j = 0; j < space.size(); ++j) {
      space.positions(j, b);
      int steps = 0;
      bool near = true;
      for (std::size_t k = 0; k < knobs.size(); ++k) {
        const int step = std::abs(a[k] - b[k]);
        steps += step;
        near = near && step <= (k == 3 ? 0 : 1);
      }
      if (near && (steps == 1 || steps == 2)) expected.push_back(j);
    }
    EXPECT_EQ(space.adjacent(i), expected) << space.at(i).text();
  }
}

TEST(Space, ListedHoldsTheListAndNothingElse) {
  const Space rules(example_knobs(), example_constraints());
  std::vector<Config> configs;
  for (std::size_t i = 0; i < rules.size(); ++i) configs.push_back(rules.at(rules.size() - 1 - i));
  configs.push_back(configs.front());
  const Space listed = Space::listed(example_knobs(), configs);
  EXPECT_EQ(listed.size(), rules.size());
  EXPECT_EQ(listed.hash(), rules.hash()) << "the same configs, however they came about";
  for (std::size_t i = 0; i < rules.size(); ++i) EXPECT_EQ(listed.at(i), rules.at(i));
  EXPECT_EQ(listed.why_not(Config::parse("warps=8 tile=128 stages=4 mode=0")), "not among the configs listed");
  EXPECT_TRUE(Space::listed(example_knobs(), {}).empty());
  EXPECT_THROW((void)Space::listed(example_knobs(), {Config{{"warps", 4}}}), std::invalid_argument);
}

TEST(Space, HashIsStableAndSeesKnobsValuesAndSurvivors) {
  const Space space(example_knobs(), example_constraints());
  EXPECT_EQ(space.hash(), Space(example_knobs(), example_constraints()).hash());
  std::set<std::uint64_t> hashes{space.hash(), Space(example_knobs(), {}).hash(), Space({}, {}).hash()};
  auto renamed = example_knobs();
  renamed[3].name = "style";
  hashes.insert(Space(renamed, example_constraints()).hash());
  auto revalued = example_knobs();
  revalued[3].values = {0, 2};
  hashes.insert(Space(revalued, example_constraints()).hash());
  EXPECT_EQ(hashes.size(), 5);
  EXPECT_EQ((Space({{"warps", {4, 8}, ""}}, {}).hash()), 0xf1c62e29550250e2ULL);
}

TEST(Space, RefusesAMalformedDeclaration) {
  const auto anything = [](const Config&) { return true; };
  EXPECT_THROW(Space({{"a", {1}, ""}, {"a", {2}, ""}}, {}), std::invalid_argument);
  EXPECT_THROW(Space({{"a", {}, ""}}, {}), std::invalid_argument);
  EXPECT_THROW(Space({{"two words", {1}, ""}}, {}), std::invalid_argument);
  EXPECT_THROW(Space({{"a", {1, 1}, ""}}, {}), std::invalid_argument);
  EXPECT_THROW(Space({{"a", {1, 2}, "", {"one label"}}}, {}), std::invalid_argument);
  EXPECT_THROW(Space({{"a", {1}, ""}}, {{"rule", {"b"}, anything}}), std::invalid_argument);
  // Reads b without declaring it, although b happens to be set by then.
  EXPECT_THROW(Space({{"b", {1}, ""}, {"a", {1}, ""}}, {{"rule", {"a"}, [](const Config& c) { return c.at("b") > 0; }}}),
               std::invalid_argument);
}

}  // namespace
}  // namespace phitune
