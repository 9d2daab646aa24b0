#include "reports/text.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "reports/svg.hpp"

namespace phitune {
namespace {

namespace rt = report_text;

TEST(ReportText, ThreeSignificantDigits) {
  EXPECT_EQ(rt::number(0.012345), "0.0123");
  EXPECT_EQ(rt::number(1.2345), "1.23");
  EXPECT_EQ(rt::number(123.45), "123");
  EXPECT_EQ(rt::number(12345), "12345");
  EXPECT_EQ(rt::number(1.2346, 4), "1.235");
  EXPECT_EQ(rt::ms(16.3873), "16.39 ms");
  EXPECT_EQ(rt::number(0), "-");
  EXPECT_EQ(rt::number(-1), "-");
  EXPECT_EQ(rt::ms(std::numeric_limits<double>::quiet_NaN()), "-");
  EXPECT_EQ(rt::times(std::numeric_limits<double>::infinity()), "-");
  EXPECT_EQ(rt::bytes(227 << 10), "227 KiB");
  EXPECT_EQ(rt::bytes(141LL << 30), "141 GiB");
}

TEST(ReportText, WhatAPlanWasCheckedOn) {
  Result result;
  EXPECT_EQ(rt::checked_on(result), "-");
  const auto check = [](const char* inputs, std::uint64_t seed, double error, Outcome outcome = Outcome::ok) {
    InputCheck one{.inputs = inputs, .seed = seed, .outcome = outcome, .errors = {}};
    one.errors.relative_l2 = error;
    return one;
  };
  result.checks = {check("normal", 1, 2e-3)};
  EXPECT_EQ(rt::checked_on(result), "1 seed, error 2.0e-03; 0 adversarial");
  result.checks = {check("normal", 1, 2e-3), check("normal", 2, 1e-3), check("zero queries", 1, 9), check("tiny magnitudes", 1, 0)};
  EXPECT_EQ(rt::checked_on(result), "2 seeds, error 1.0e-03 to 2.0e-03; 2 adversarial");
  result.checks.push_back(check("large magnitudes", 1, 1, Outcome::wrong_result));
  EXPECT_EQ(rt::checked_on(result), "2 seeds, error 1.0e-03 to 2.0e-03; 2 adversarial; wrong_result on large magnitudes inputs of seed 1");
  result.checks = {check("normal", 1, 1, Outcome::unstable)};
  EXPECT_EQ(rt::checked_on(result), "unstable on normal inputs of seed 1");
}

TEST(ReportText, FirstLineIsCutAtACharacter) {
  EXPECT_EQ(rt::first_line("  one\ntwo"), "one");
  EXPECT_EQ(rt::first_line("\n\nthree"), "three");
  EXPECT_EQ(rt::first_line(""), "");
  EXPECT_EQ(rt::first_line("ab\xc3\xa9", 3), "ab...");
  EXPECT_EQ(rt::first_line("abc", 3), "abc");
}

TEST(Ticks, EncloseTheRangeWithRoundSteps) {
  EXPECT_EQ(ticks_from_zero(9.3), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(ticks_from_zero(0.0), (std::vector<double>{0, 1}));
  for (const double high : {1e-4, 0.037, 1.0, 3.0, 17.0, 4096.0, 1.1e9}) {
    const auto ticks = ticks_from_zero(high);
    EXPECT_GE(ticks.back(), high * (1 - 1e-9));
    EXPECT_LE(ticks.size(), 12U);
    EXPECT_GE(ticks.size(), 3U);
  }
  EXPECT_EQ(ticks_of_powers(256, 2048, 2), (std::vector<double>{256, 512, 1024, 2048}));
  EXPECT_EQ(ticks_of_powers(3e-3, 2e-2, 10).size(), 3U);
  EXPECT_LE(ticks_of_powers(1, 1e15, 2).size(), 8U);
}

TEST(Scale, MapsEndsToEndsAndNoRangeToTheMiddle) {
  const Scale linear(Scale::Kind::linear, 0, 10, 100, 200);
  EXPECT_DOUBLE_EQ(linear(0), 100);
  EXPECT_DOUBLE_EQ(linear(5), 150);
  const Scale log(Scale::Kind::log, 1, 100, 200, 100);
  EXPECT_DOUBLE_EQ(log(1), 200);
  EXPECT_DOUBLE_EQ(log(10), 150);
  EXPECT_DOUBLE_EQ(Scale(Scale::Kind::log, 4, 4, 0, 10)(4), 5);
}

TEST(EscapeHtml, LeavesNoMarkup) { EXPECT_EQ(escape_html("<a href=\"x\">'&\x01"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;"); }

}  // namespace
}  // namespace phitune
