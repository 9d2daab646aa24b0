// The Markdown and HTML reports: well formed, self-contained, honest about where numbers come from.
#include <gtest/gtest.h>

#include <sstream>

#include "reports/text.hpp"
#include "reports/writers.hpp"
#include "tests/reports/readers.hpp"
#include "tests/reports/sample.hpp"

namespace phitune {
namespace {

class PagesTest : public testing::Test {
 protected:
  std::uint64_t seed_ = std::random_device{}();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  [[nodiscard]] Model model(bool replayed) const { return build_model(sample::records(seed_, replayed), "2025-01-31T13:00:00Z"); }
};

std::size_t count(const std::string& text, const std::string& words) {
  std::size_t n = 0;
  for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++n;
  return n;
}

TEST(HtmlReader, SeesWhatIsWrong) {
  EXPECT_EQ(readers::html_fault("<!DOCTYPE html><p class=\"a>b\">x &amp; y<br></p>"), "");
  for (const char* bad : {"<p>", "</p>", "<p><b></p></b>", "<p>a > b</p>", "<p>a & b</p>", "<p", "<p <b>></p>"})
    EXPECT_NE(readers::html_fault(bad), "") << bad;
}

TEST_F(PagesTest, HtmlIsWellFormed) {
  for (const bool replayed : {false, true}) EXPECT_EQ(readers::html_fault(write_html(model(replayed))), "");
  EXPECT_EQ(readers::html_fault(write_html(Model{})), "");
}

TEST_F(PagesTest, HtmlFetchesNothing) {
  const std::string page = write_html(model(true));
  for (const char* word : {"http:", "https:", "//", "src=", "href=", "@import", "url(", "<script", "<link", "<iframe"})
    EXPECT_EQ(page.find(word), std::string::npos) << word << " near: " << page.substr(page.find(word), 60);
}

TEST_F(PagesTest, HtmlHasEveryPicture) {
  const std::string page = write_html(model(false));
  for (const char* words : {"time over floor of every winner", "share of each stage", "best time of each fusion strategy for headline",
                            "time by chunk size for headline", "error against time for headline", "throughput by t for"})
    EXPECT_NE(page.find(words), std::string::npos) << words;
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_EQ(page.find("inf\""), std::string::npos);
}

TEST_F(PagesTest, BothPagesSayWhatAPlanWasCheckedOn) {
  const Model m = model(false);
  const std::string words = report_text::checked_on(m.devices[0].problems[0].plans[0].trial.result);
  EXPECT_NE(words.find("1 seed, error"), std::string::npos);
  EXPECT_NE(write_html(m).find(words), std::string::npos);
  EXPECT_NE(write_markdown(m).find(words), std::string::npos);
}

TEST_F(PagesTest, TextFromOutsideIsEscaped) {
  auto records = sample::records(seed_, false);
  for (auto& [key, name] : records.names) name = "<script>alert('x')</script> & \"|`*";
  records.sweeps[0].trials[2].result.reason = "</table> <b>";
  const Model m = build_model(records, "now");
  EXPECT_EQ(readers::html_fault(write_html(m)), "");
  EXPECT_EQ(write_html(m).find("<script"), std::string::npos);
  EXPECT_EQ(write_markdown(m).find(" <script"), std::string::npos);
}

TEST_F(PagesTest, ReplayedNumbersSaySoWhereTheyStand) {
  for (const bool replayed : {false, true}) {
    const std::string here = replayed ? "replayed" : "measured";
    const std::string other = replayed ? "(measured" : "(replayed";
    for (const std::string& text : {write_html(model(replayed)), write_markdown(model(replayed))}) {
      EXPECT_EQ(text.find("Nothing was measured on the machine") != std::string::npos, replayed);
      EXPECT_EQ(count(text, other), 0U) << other;
      EXPECT_GE(count(text, here), 12U);
    }
  }
}

TEST_F(PagesTest, ExplainsItselfAndPointsOutWhatIsFar) {
  const Model m = model(false);
  for (const std::string& text : {write_html(m), write_markdown(m)}) {
    for (const char* words :
         {"cold L2", "least time this device could take", "Furthest from their floors", "No winner: lost", "Stale winners", "What failed, and why"})
      EXPECT_NE(text.find(words), std::string::npos) << words;
  }
}

TEST_F(PagesTest, WarmTimesAndThrottlingAreWarnedOf) {
  auto records = sample::records(seed_, false);
  EXPECT_EQ(write_markdown(build_model(records, "now")).find("another regime"), std::string::npos);
  records.winners[0].trial.result.timing->regime.cache = Regime::Cache::hot;
  records.winners[1].trial.result.timing->throttle_reasons = "power cap";
  const std::string text = write_markdown(build_model(records, "now"));
  EXPECT_NE(text.find("another regime than flush: headline (hot: a warm L2 cache, not a cold one)"), std::string::npos);
  EXPECT_NE(text.find("power cap"), std::string::npos);
}

TEST_F(PagesTest, TimesThatTheDeviceCannotReachAreWarnedOf) {
  auto records = sample::records(seed_, false);
  records.winners.resize(1);
  PlanTrial& trial = records.winners[0].trial;
  // Slow enough for any stage to be believable.
  for (double& ms : trial.stage_ms) ms = 100;
  trial.result.timing->median_ms = 500;
  const std::string words = "Faster than the rates measured on this device allow";
  EXPECT_EQ(write_markdown(build_model(records, "now")).find(words), std::string::npos);
  trial.result.timing->median_ms = 0.9 * floor_ms(trial.plan.problem, 700, 4.2);
  EXPECT_NE(write_markdown(build_model(records, "now")).find(words), std::string::npos);
  trial.result.timing->median_ms = 500;
  trial.stage_ms.back() = 1e-3;
  EXPECT_NE(write_html(build_model(records, "now")).find(words), std::string::npos);
}

/// Cells of a Markdown table row; a backslash hides a bar.
std::size_t cells(const std::string& line) {
  std::size_t bars = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\')
      ++i;
    else if (line[i] == '|')
      ++bars;
  }
  return bars - 1;
}

TEST_F(PagesTest, MarkdownTablesHaveEqualRows) {
  std::istringstream lines(write_markdown(model(false)));
  std::string line;
  std::size_t width = 0, rows = 0;
  while (std::getline(lines, line)) {
    if (!line.starts_with('|')) {
      width = 0;
      continue;
    }
    if (width == 0) width = cells(line);
    EXPECT_EQ(cells(line), width) << line;
    ++rows;
  }
  EXPECT_GT(rows, 50U);
}

TEST_F(PagesTest, ReportsDependOnTheRecordsAlone) {
  EXPECT_EQ(write_html(model(false)), write_html(model(false)));
  EXPECT_EQ(write_markdown(model(false)), write_markdown(model(false)));
}

}  // namespace
}  // namespace phitune
