#include "search/config.hpp"

#include <stdexcept>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/search/random_problem.hpp"

namespace phitune {
namespace {

TEST(Config, TextIsSortedByKnobWhateverTheOrderOfSetting) {
  Config config{{"warps", 8}, {"m_tiles", 2}};
  config.set("stages", 3);
  config.set("warps", 4);
  EXPECT_EQ(config.text(), "m_tiles=2 stages=3 warps=4");
  EXPECT_EQ(config, (Config{{"stages", 3}, {"warps", 4}, {"m_tiles", 2}}));
}

TEST(Config, EveryConfigReadsItsOwnTextBack) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 rng(seed);
  for (int i = 0; i < 500; ++i) {
    Config config;
    for (std::uint64_t k = draw_below(8, rng); k > 0; --k) {
      config.set(fmt::format("knob_{}", draw_below(30, rng)), static_cast<std::int64_t>(rng()));
    }
    ASSERT_EQ(Config::parse(config.text()), config) << config.text();
  }
  EXPECT_EQ(Config::parse(""), Config{});
}

// The hash is stored in databases and exchanged between machines: it must never change. FNV-1a of the empty text is its offset basis.
TEST(Config, HashIsTheDocumentedOne) {
  EXPECT_EQ(Config{}.hash(), 0xcbf29ce484222325ULL);
  EXPECT_EQ((Config{{"a", 1}}).hash(), 0xe650e41904922b36ULL);
}

TEST(Config, AMissingKnobIsNamed) {
  const Config config{{"warps", 8}};
  EXPECT_EQ(config.at("warps"), 8);
  EXPECT_FALSE(config.has("stages"));
  try {
    (void)config.at("stages");
    FAIL();
  } catch (const std::out_of_range& error) {
    EXPECT_NE(std::string(error.what()).find("'stages'"), std::string::npos);
  }
}

TEST(Config, AWrongWordIsNamed) {
  for (const auto* text : {"warps", "=3", "warps=", "warps=x", "warps=4 warps=8", "warps=4.5", "a=99999999999999999999"}) {
    EXPECT_THROW((void)Config::parse(text), std::invalid_argument) << text;
  }
}

}  // namespace
}  // namespace phitune
