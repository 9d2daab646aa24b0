// Every export is read back by something that did not write it: a JSON parser, a CSV reader, a C++ compiler.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "reports/writers.hpp"
#include "tests/reports/readers.hpp"
#include "tests/reports/sample.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class ExportsTest : public testing::TestWithParam<bool> {
 protected:
  std::uint64_t seed_ = std::random_device{}();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  bool replayed_ = GetParam();
  std::string origin_ = replayed_ ? "replayed" : "measured";
  Records records_ = sample::records(seed_, replayed_);
  Model model_ = build_model(records_, "2025-01-31T13:00:00Z");
};

INSTANTIATE_TEST_SUITE_P(Origin, ExportsTest, testing::Bool(),
                         [](const auto& instance) { return instance.param ? "replayed" : "measured"; });

TEST_P(ExportsTest, JsonHoldsTheTunedTable) {
  const json j = json::parse(write_json(model_));
  EXPECT_EQ(j.at("format"), "phitune");
  EXPECT_EQ(j.at("version"), 1);
  EXPECT_EQ(j.at("any_replayed"), replayed_);
  ASSERT_EQ(j.at("devices").size(), 1U);
  const json& device = j.at("devices")[0];
  EXPECT_EQ(device.at("device").at("replayed"), replayed_);
  EXPECT_EQ(device.at("origin"), origin_);
  ASSERT_EQ(device.at("problems").size(), model_.devices[0].problems.size());
  for (std::size_t i = 0; i < model_.devices[0].problems.size(); ++i) {
    const ProblemView& view = model_.devices[0].problems[i];
    const json& p = device.at("problems")[i];
    EXPECT_EQ(p.at("origin"), origin_);
    EXPECT_EQ(Problem::parse(p.at("problem").at("key").get<std::string>()), view.problem);
    EXPECT_EQ(p.at("problem").at("t"), view.problem.t);
    if (!view.winner) {
      EXPECT_TRUE(p.at("winner").is_null() && p.at("time_ms").is_null());
      continue;
    }
    EXPECT_EQ(p.at("time_ms").get<double>(), view.winner_ms);
    const json& winner = p.at("winner");
    EXPECT_EQ(PlanShape::parse(winner.at("shape").at("text").get<std::string>()), view.winner->trial.plan.shape);
    EXPECT_EQ(winner.at("timing").at("samples_ms").size(), 12U);
    ASSERT_EQ(winner.at("checks").size(), 2U);
    EXPECT_EQ(winner.at("checks")[1].at("inputs"), "zero queries");
    EXPECT_EQ(winner.at("checks")[1].at("errors").at("worst_element"), view.winner->trial.result.checks[1].errors.worst_element);
    EXPECT_EQ(winner.at("stale"), !view.winner->stale_reason.empty());
    ASSERT_EQ(winner.at("stages").size(), view.winner->trial.plan.stages.size());
    for (std::size_t s = 0; s < winner.at("stages").size(); ++s)
      for (const auto& [knob, value] : view.winner->trial.plan.stages[s].config.values())
        EXPECT_EQ(winner.at("stages")[s].at("config").at(knob), value);
  }
}

TEST_P(ExportsTest, JsonSurvivesNumbersAndTextThatHaveNoJsonForm) {
  records_.winners[0].trial.result.errors->relative_l2 = std::numeric_limits<double>::quiet_NaN();
  records_.winners[0].stale_reason = "broken \xff utf-8 \x01";
  const json j = json::parse(write_json(build_model(records_, "now")));
  EXPECT_TRUE(j.at("devices")[0].at("problems")[0].at("winner").at("errors").at("relative_l2").is_null());
}

TEST_P(ExportsTest, CsvReadsBackCellForCell) {
  const auto rows = readers::csv(write_csv(model_));
  const auto& names = rows.at(0);
  const auto cell = [&](const std::vector<std::string>& row, const std::string& name) {
    return row.at(static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin()));
  };
  std::size_t at = 1;
  for (const ProblemView& view : model_.devices[0].problems) {
    if (!view.winner) continue;
    const auto& row = rows.at(at++);
    ASSERT_EQ(row.size(), names.size());
    EXPECT_EQ(cell(row, "name"), view.name);
    EXPECT_EQ(cell(row, "origin"), origin_);
    EXPECT_EQ(cell(row, "t"), std::to_string(view.problem.t));
    EXPECT_EQ(std::stod(cell(row, "time_ms")), view.winner_ms) << "a time must read back exactly";
    EXPECT_EQ(std::stod(cell(row, "floor_ms")), view.floor.ms);
    EXPECT_EQ(cell(row, "fusion"), to_string(view.winner->trial.plan.shape.fusion));
    EXPECT_EQ(cell(row, "stale_reason"), view.winner->stale_reason);
  }
  EXPECT_EQ(rows.size(), at);
}

TEST_P(ExportsTest, TrialsCsvHoldsEveryTrialWithItsReason) {
  const auto timed = std::ranges::find_if(model_.devices[0].trials, [](const Trial& trial) { return trial.result.timing.has_value(); });
  ASSERT_NE(timed, model_.devices[0].trials.end());
  timed->result.timing->beaten = Beaten{1, 1.25, 1.5};
  const auto rows = readers::csv(write_trials_csv(model_));
  const auto& beaten = rows[static_cast<std::size_t>(timed - model_.devices[0].trials.begin()) + 1];
  EXPECT_EQ(std::vector<std::string>(beaten.end() - 2, beaten.end()), (std::vector<std::string>{"1.25", "1.5"}));
  const auto& trials = model_.devices[0].trials;
  ASSERT_EQ(rows.size(), trials.size() + 1);
  for (std::size_t i = 0; i < trials.size(); ++i) {
    ASSERT_EQ(rows[i + 1].size(), rows[0].size());
    EXPECT_EQ(rows[i + 1][4], origin_);
    EXPECT_EQ(StageProblem::parse(rows[i + 1][7]), trials[i].problem);
    EXPECT_EQ(Config::parse(rows[i + 1][8]), trials[i].config);
    EXPECT_EQ(parse_outcome(rows[i + 1][9]), trials[i].result.outcome);
    EXPECT_EQ(rows[i + 1][10], trials[i].result.reason);
  }
}

// The published schema, field by field; "correct" is what its readers use for a trial that is none of the invalid kinds.
TEST_P(ExportsTest, T4FollowsItsSchema) {
  const json j = json::parse(write_t4(model_));
  EXPECT_EQ(j.at("schema_version"), "1.0.0");
  EXPECT_EQ(j.at("metadata").at("any_replayed"), replayed_);
  const auto& trials = model_.devices[0].trials;
  ASSERT_EQ(j.at("results").size(), trials.size());
  const std::set<std::string> kinds = {"timeout", "compile", "runtime", "correctness", "constraints", "correct"};
  std::map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    const json& r = j.at("results")[i];
    EXPECT_TRUE(r.at("timestamp").is_string() && r.at("configuration").is_object() && r.at("objectives").is_array());
    const json& times = r.at("times");
    for (const char* name : {"compilation", "compilation_time", "benchmark", "framework", "search_algorithm", "validation"})
      EXPECT_TRUE(times.at(name).is_number()) << name;
    EXPECT_EQ(times.at("runtimes").size(), trials[i].result.timing ? 12U : 0U);
    EXPECT_TRUE(kinds.contains(r.at("invalidity").get<std::string>()));
    EXPECT_EQ(r.at("invalidity") == "correct", trials[i].result.outcome == Outcome::ok);
    EXPECT_EQ(r.at("correctness").get<double>(), trials[i].result.outcome == Outcome::ok ? 1.0 : 0.0);
    for (const json& m : r.at("measurements"))
      EXPECT_TRUE(m.at("name").is_string() && m.at("value").is_number() && m.at("unit").is_string());
    if (r.at("invalidity") == "correct") {
      EXPECT_EQ(r.at("measurements")[0].at("value").get<double>(), trials[i].result.timing->median_ms);
    }
    EXPECT_EQ(r.at("origin"), origin_);
    ++seen[r.at("invalidity").get<std::string>()];
  }
  EXPECT_GT(seen["correct"], 0U);
  EXPECT_GT(seen["constraints"] + seen["compile"] + seen["correctness"], 0U);
}

/// Whether the C++ compiler of this build takes `program` beside the exported header.
testing::AssertionResult compiles(const std::string& header, const std::string& program) {
  std::string pattern = (fs::temp_directory_path() / "phitune-header-test-XXXXXX").string();
  const fs::path directory = mkdtemp(pattern.data());
  std::ofstream(directory / "winners.hpp") << header;
  std::ofstream(directory / "main.cpp") << "#include \"winners.hpp\"\nusing namespace phitune_tuned;\n" + program;
  const std::string command = std::string(PHITUNE_CXX) + " -std=c++17 -Wall -Wextra -Werror -fsyntax-only " +
                              (directory / "main.cpp").string() + " 2> " + (directory / "log").string();
  const bool ok = std::system(command.c_str()) == 0;
  std::ifstream in(directory / "log");
  const std::string log{std::istreambuf_iterator<char>(in), {}};
  fs::remove_all(directory);
  return ok ? testing::AssertionSuccess() : testing::AssertionFailure() << log;
}

TEST_P(ExportsTest, HeaderCompilesAndItsTableIsUsableAtCompileTime) {
  const std::string header = write_header(model_);
  const ProblemView& view = model_.devices[0].problems[0];
  const PlanShape& shape = view.winner->trial.plan.shape;
  const std::string allow = replayed_ ? "true" : "false";
  const std::string find = "find(\"NVIDIA H200\", \"" + view.problem.key() + "\", " + allow + ")";
  EXPECT_TRUE(compiles(header, "static_assert(" + find + " != nullptr);\n" + "static_assert(" + find + "->fusion == \"" +
                                   std::string(to_string(shape.fusion)) + "\");\n" + "static_assert(" + find +
                                   "->chunk == " + std::to_string(shape.chunk) + ");\n" + "static_assert(" + find +
                                   "->replayed == " + allow + ");\n" + "static_assert(stages[" + find +
                                   "->first_stage].stage == \"gates\");\n" + "static_assert(winners.size() == 5);\n" +
                                   "static_assert(find(\"NVIDIA H200\", \"no such problem\", true) == nullptr);\n" +
                                   "static_assert(find(\"another GPU\", \"" + view.problem.key() + "\", true) == nullptr);\n"));
  // Recorded times are not found unless asked for, and stale winners never.
  if (replayed_) {
    EXPECT_TRUE(compiles(header, "static_assert(find(\"NVIDIA H200\", \"" + view.problem.key() + "\") == nullptr);"));
  }
  const std::string stale = model_.devices[0].problems[3].problem.key();
  EXPECT_TRUE(compiles(header, "static_assert(find(\"NVIDIA H200\", \"" + stale + "\", true) == nullptr);"));
  EXPECT_FALSE(compiles(header, "static_assert(winners.size() == 0);")) << "the check must be able to fail";
}

TEST_P(ExportsTest, HeaderOfNothingAndOfOddTextCompiles) {
  EXPECT_TRUE(compiles(write_header(Model{}), "static_assert(winners.size() == 0 && find(\"a\", \"b\") == nullptr);"));
  records_.source = "back\\slash \\\nint x = ?\?/ ;";
  for (SweepRecord& sweep : records_.sweeps) sweep.device.name = "\"GPU\" \xc3\xa9 ?\?= \\ \n1";
  for (WinnerRecord& winner : records_.winners) winner.device.name = records_.sweeps[0].device.name;
  records_.winners[0].trial.result.errors->relative_l2 = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(compiles(write_header(build_model(records_, "now \\")),
                       "static_assert(winners[0].device.size() == " + std::to_string(records_.sweeps[0].device.name.size()) + ");"));
}

TEST(EmptyModel, EveryExportIsStillValid) {
  const Model none;
  EXPECT_EQ(json::parse(write_json(none)).at("devices").size(), 0U);
  EXPECT_EQ(json::parse(write_t4(none)).at("results").size(), 0U);
  EXPECT_EQ(readers::csv(write_csv(none)).size(), 1U);
  EXPECT_EQ(readers::csv(write_trials_csv(none)).size(), 1U);
}

}  // namespace
}  // namespace phitune
