// Ready-made knobs and rules mean what they say; each against the rule written out.
#include "search/constraints.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

namespace phitune {
namespace {

TEST(Constraints, KnobsHaveTheValuesThatTheirNamesSay) {
  EXPECT_EQ(whole_numbers("n", 3, 10, 3).values, (std::vector<std::int64_t>{3, 6, 9}));
  EXPECT_EQ(powers_of_two("n", 4, 40).values, (std::vector<std::int64_t>{4, 8, 16, 32}));
  const Knob mode = one_of("mode", {"row", "column"});
  EXPECT_EQ(mode.values, (std::vector<std::int64_t>{0, 1}));
  EXPECT_TRUE(mode.categorical);
  EXPECT_FALSE(whole_numbers("n", 1, 2).categorical);
  EXPECT_THROW((void)whole_numbers("n", 3, 2), std::invalid_argument);
  EXPECT_THROW((void)powers_of_two("n", 0, 2), std::invalid_argument);
}

std::size_t count(const std::vector<Knob>& knobs, const std::function<bool(const Config&)>& rule) {
  const Space all(knobs, {});
  std::size_t holds = 0;
  for (std::size_t i = 0; i < all.size(); ++i) holds += rule(all.at(i));
  return holds;
}

TEST(Constraints, AProductIsRefusedEarlyAndRefusesTheSame) {
  const std::vector<Knob> knobs = {powers_of_two("a", 1, 64), whole_numbers("b", 2, 9), whole_numbers("c", 3, 7)};
  const Space space(knobs, product_at_most("too large", knobs, 500, 2));
  const auto rule = [](const Config& c) { return 2 * c.at("a") * c.at("b") * c.at("c") <= 500; };
  EXPECT_EQ(space.size(), count(knobs, rule));
  for (std::size_t i = 0; i < space.size(); ++i) EXPECT_TRUE(rule(space.at(i)));
  std::uint64_t removed = 0;
  for (const auto& removal : space.removals()) removed += removal.configs;
  EXPECT_EQ(removed + space.size(), space.product_size());
  EXPECT_GT(space.removals().front().configs, 0U) << "a = 64 alone is too much for the smallest b and c";
  EXPECT_THROW((void)product_at_most("zero", {whole_numbers("a", 0, 2)}, 1), std::invalid_argument);
}

TEST(Constraints, DividesAndConditions) {
  const std::vector<Knob> knobs = {whole_numbers("tile", 1, 12), whole_numbers("step", 1, 12), one_of("shared", {"no", "yes"}),
                                   whole_numbers("stages", 1, 4)};
  const Space space(knobs,
                    {divides("steps fill the tile", "step", "tile"),
                     only_when("stages are of shared memory", knobs[3], {"shared"}, [](const Config& c) { return c.at("shared") == 1; })});
  EXPECT_EQ(space.size(),
            count(knobs, [](const Config& c) { return c.at("tile") % c.at("step") == 0 && (c.at("shared") == 1 || c.at("stages") == 1); }));
}

}  // namespace
}  // namespace phitune
