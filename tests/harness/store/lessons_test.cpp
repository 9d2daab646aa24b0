// Experience as a file: read back as it was written, and refused when it is not whole.
#include "harness/store/lessons.hpp"

#include <gtest/gtest.h>

#include "harness/error.hpp"
#include "harness/store/gzip.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

StageProblem stage_of(const std::string& problem, const std::string& shape, Stage stage) {
  return make_stage_problem(Problem::parse(problem), PlanShape::parse(shape), stage);
}

Lessons some_lessons(testing_support::RandomTrials& random) {
  Lessons lessons;
  lessons.regime = parse_regime("rotation");
  lessons.devices = {random.device(), random.device()};
  StageLessons& one = lessons.stages.emplace_back();
  one.device = 1;
  one.stage = stage_of("b1 t65536 h8 d64 p2 bf16 gated", "expand_mma c1024 d_tile8 state_bf16 partial_bf16", Stage::query_state);
  for (int i = 0; i < 20; ++i) one.lessons.push_back({random.config(), Outcome::ok, random.real(1e-3, 1e3)});
  one.lessons.push_back({random.config(), Outcome::compile_failed, 0});
  Config of_other_knobs = random.config();
  of_other_knobs.set("a_knob_of_tomorrow", -3);
  one.lessons.push_back({of_other_knobs, Outcome::timed_out, 0});
  StageLessons& other = lessons.stages.emplace_back();
  other.device = 0;
  other.stage = stage_of("b2 t100 h4 d32 p3 fp16 ungated none", "quadratic", Stage::attention);
  other.lessons.push_back({random.config(), Outcome::ok, 1.25});
  return lessons;
}

std::vector<std::pair<std::string, Lesson>> all_of(const Lessons& lessons) {
  std::vector<std::pair<std::string, Lesson>> all;
  for (const StageLessons& stage : lessons.stages)
    for (const Lesson& lesson : stage.lessons) all.emplace_back(lessons.devices[stage.device].name + stage.stage.key(), lesson);
  return all;
}

TEST(Lessons, AreReadAsTheyWereWritten) {
  testing_support::RandomTrials random(std::random_device{}());
  const Lessons written = some_lessons(random);
  const std::string bytes = packed(written);
  const Lessons read = unpack_lessons("file", bytes);
  EXPECT_EQ(read.regime, written.regime);
  EXPECT_EQ(packed(read), bytes);
  ASSERT_EQ(read.devices.size(), 2U);
  EXPECT_EQ(read.devices[1].name, written.devices[1].name);
  EXPECT_EQ(read.devices[1].shared_per_block, written.devices[1].shared_per_block);
  EXPECT_EQ(read.devices[1].copy_tbps, written.devices[1].copy_tbps);
  EXPECT_EQ(read.devices[1].uuid, "") << "which board it was is nobody's business";
  const auto before = all_of(written), after = all_of(read);
  ASSERT_EQ(after.size(), before.size());
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i].first, before[i].first);
    EXPECT_EQ(after[i].second.config, before[i].second.config);
    EXPECT_EQ(after[i].second.outcome, before[i].second.outcome);
    EXPECT_NEAR(after[i].second.median_ms, before[i].second.median_ms, 5.001e-4 * before[i].second.median_ms);
  }
}

TEST(Lessons, ACutOrAlteredFileIsRefusedWithItsLine) {
  testing_support::RandomTrials random(1);
  const std::string whole = packed(some_lessons(random)), text = gunzip(whole);
  EXPECT_EQ(unpack_lessons("plain text", text).size(), 23U);
  for (int round = 0; round < 50; ++round) {
    const auto size = static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(whole.size()) - 1));
    EXPECT_THROW((void)unpack_lessons("cut", whole.substr(0, size)), Error) << size;
  }
  const auto why_not = [&](const std::string& from, const std::string& to) -> std::string {
    std::string altered = text;
    const std::size_t at = altered.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    altered.replace(at, from.size(), to);
    try {
      (void)unpack_lessons("file.gz", altered);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_input);
      return error.what();
    }
    return "";
  };
  const auto says = [&](const std::string& from, const std::string& to, const std::string& what) {
    EXPECT_NE(why_not(from, to).find(what), std::string::npos) << why_not(from, to);
  };
  says("phitune experience", "phitune recording", "file.gz, line 1: not a whole phitune experience: the first line is not the header");
  says("\"version\":1", "\"version\":2", "version 2 of the format");
  says("\"trials\":23", "\"trials\":24", "it holds 23 trials, and its header says 24");
  says("\"multiprocessors\":132", "\"multiprocessors\":0", "is no GPU");
  says("\"device\":1", "\"device\":2", "line 2: not a whole phitune experience: there is no device 2");
  says("\"query_state sm80", "\"query_gemm library", "line 2");
  says("[\"stages\",", "[\"tile\",", "a knob is named twice");
  says("\"compile_failed\"", "\"ok\"", "has no time");
  says("\"compile_failed\"", "-1.5", "a time is not above 0");
  says("\"compile_failed\"", "\"fine\"", "fine");
  says("\"compile_failed\"", "1,2.5", "a trial is not the values of the knobs");
}

}  // namespace
}  // namespace phitune
