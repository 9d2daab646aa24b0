// Which trials are kept, and what phitune brings along.
#include "harness/tune/distill.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "harness/error.hpp"
#include "harness/store/recording.hpp"
#include "harness/sweep.hpp"
#include "harness/tune/experience.hpp"
#include "kernel_templates/stage_template.hpp"
#include "tests/harness/store/random_trials.hpp"
#include "tests/harness/tune/synthetic_device.hpp"

namespace phitune {
namespace {

using testing_support::synthetic_info;
using testing_support::TemporaryFolder;
using testing_support::timed;

const StageProblem stage = make_stage_problem(Problem::parse("b1 t65536 h8 d64 p2 bf16 gated"),
                                              PlanShape::parse("expand_mma c1024 d_tile4 state_bf16 partial_bf16 sm90"), Stage::query_state);

Space space() { return stage_template(stage.stage, stage.path).space(stage, synthetic_info()); }

SweepInfo sweep_of(const std::string& strategy, double rest) {
  SweepInfo sweep;
  sweep.device = synthetic_info();
  sweep.strategy = strategy;
  SweepOptions options;
  options.stage_policy.rest = rest;
  sweep.policy = policy_text(options);
  return sweep;
}

Trial trial_of(std::size_t config, double ms, const std::string& created_at) {
  Trial trial;
  trial.problem = stage;
  trial.config = space().at(config);
  trial.source_hash = "of some text";
  trial.created_at = created_at;
  trial.result = timed(ms);
  return trial;
}

std::map<Config, double> times_of(const LessonCollector& collector) {
  std::map<Config, double> times;
  const Lessons lessons = collector.lessons();
  for (const StageLessons& of : lessons.stages)
    for (const Lesson& lesson : of.lessons) times[lesson.config] = lesson.median_ms;
  return times;
}

TEST(LessonCollector, KeepsTheLatestOfARestedDevice) {
  LessonCollector collector{Regime{}};
  SweepInfo old = sweep_of("random", 0);
  old.policy = "{\"trials\": 5}";
  collector.add(sweep_of("random", 2), trial_of(0, 1, "2026-01-01"));
  collector.add(sweep_of("random", 2), trial_of(0, 2, "2026-01-03"));
  collector.add(sweep_of("random", 2), trial_of(0, 3, "2026-01-02"));
  collector.add(sweep_of("random", 0), trial_of(0, 4, "2026-01-04"));
  collector.add(old, trial_of(0, 5, "2026-01-05"));
  collector.add(old, trial_of(1, 6, "2026-01-01"));
  collector.add(old, trial_of(1, 7, "2026-01-02"));
  EXPECT_EQ(times_of(collector), (std::map<Config, double>{{space().at(0), 2}, {space().at(1), 7}}));
}

TEST(LessonCollector, LeavesOutTheSearchedWhereThereIsABlindSample) {
  LessonCollector collector{Regime{}};
  collector.add(sweep_of("auto", 2), trial_of(0, 1, "2026-01-02"));
  EXPECT_EQ(times_of(collector).size(), 1U);
  collector.add(sweep_of("exhaustive", 0), trial_of(1, 2, "2026-01-01"));
  EXPECT_EQ(times_of(collector), (std::map<Config, double>{{space().at(1), 2}}));
}

TEST(LessonCollector, LeavesOutWhatTeachesNothing) {
  LessonCollector collector{Regime{}};
  Trial hot = trial_of(0, 1, "2026-01-01"), unknown = hot, library = hot;
  hot.result.timing->regime = parse_regime("hot");
  unknown.source_hash.clear();
  unknown.result = {};
  unknown.result.outcome = Outcome::pruned;
  library.problem.path = Path::library;
  SweepInfo emulated = sweep_of("random", 2);
  emulated.device.emulated = true;
  collector.add(emulated, trial_of(0, 1, "2026-01-01"));
  for (const Trial& trial : {hot, unknown, library}) collector.add(sweep_of("random", 2), trial);
  EXPECT_EQ(collector.lessons().size(), 0U);
  EXPECT_TRUE(collector.lessons().devices.empty());
  LessonCollector of_hot{parse_regime("hot")};
  of_hot.add(sweep_of("random", 2), hot);
  EXPECT_EQ(of_hot.lessons().size(), 1U);
}

TEST(LessonCollector, WhatWasTriedLastStandsLast) {
  LessonCollector collector{Regime{}};
  Trial early = trial_of(0, 1, "2026-01-01"), late = trial_of(0, 2, "2026-01-02");
  late.problem.problem.t = 1024;  // before the other in every order but that of time
  collector.add(sweep_of("random", 2), late);
  collector.add(sweep_of("random", 2), early);
  const Lessons lessons = collector.lessons();
  ASSERT_EQ(lessons.stages.size(), 2U);
  EXPECT_EQ(lessons.stages[1].stage.problem.t, 1024);
}

TEST(Distilled, TodaysConfigsAlone) {
  LessonCollector collector{Regime{}};
  Trial old = trial_of(0, 1, "2026-01-01"), failed = trial_of(1, 1, "2026-01-01");
  old.config.set("a_knob_of_yesterday", 1);
  failed.problem.problem.t = 1024;
  failed.result = {};
  failed.result.outcome = Outcome::wrong_result;
  for (const Trial& trial : {old, failed, trial_of(2, 1, "2026-01-01")}) collector.add(sweep_of("random", 2), trial);
  const Lessons all = collector.lessons(), today = of_today(all);
  EXPECT_EQ(all.size(), 3U);
  ASSERT_EQ(today.size(), 1U);
  EXPECT_EQ(today.stages[0].lessons[0].config, space().at(2));
}

// What an older version left has not all of today's knobs.
TEST(Distilled, ConfigsFromBeforeAKnobHaveItsFirstValue) {
  LessonCollector collector{Regime{}};
  Trial older = trial_of(0, 1, "2026-01-01");
  Config without;
  for (const auto& [knob, value] : older.config.values()) {
    if (knob != "min_blocks") without.set(knob, value);
  }
  older.config = without;
  collector.add(sweep_of("random", 2), older);
  const Lessons today = of_today(collector.lessons());
  ASSERT_EQ(today.size(), 1U);
  EXPECT_EQ(today.stages[0].lessons[0].config, space().completed(without));
}

TEST(Distilled, ARecordingAndWhatWasDistilledOfItAreReadAlike) {
  TemporaryFolder folder;
  Recording recording;
  recording.sweep = sweep_of("random", 2);
  for (std::size_t i = 0; i < 5; ++i) recording.trials.push_back(trial_of(i, 1 + 0.125 * static_cast<double>(i), "2026-01-01"));
  write_recording(folder / "r.jsonl.gz", recording);
  const Lessons of_recording = read_lessons(folder / "r.jsonl.gz", Regime{});
  EXPECT_EQ(of_recording.size(), 5U);
  EXPECT_TRUE(of_recording.name.starts_with("r.jsonl.gz ")) << of_recording.name;
  std::ofstream(folder / "e.jsonl.gz", std::ios::binary) << packed(of_recording);
  EXPECT_EQ(packed(read_lessons(folder / "e.jsonl.gz", Regime{})), packed(of_recording));
  EXPECT_EQ(read_lessons(folder / "r.jsonl.gz", parse_regime("hot")).size(), 0U);
  EXPECT_THROW((void)read_lessons(folder / "missing", Regime{}), Error);
}

// When this fails because knobs or constraints of a kernel changed, most of what was recorded is of another one: record problems anew, and
// distil them into data/experience.jsonl.gz.
TEST(BuiltinExperience, IsOfTodaysKernels) {
  const auto known = builtin_lessons();
  EXPECT_TRUE(known->name.starts_with("builtin ")) << known->name;
  EXPECT_EQ(known->regime, Regime{});
  EXPECT_GE(of_today(*known).size(), known->size() * 4 / 5);
  std::map<std::pair<Stage, Path>, std::size_t> right;
  for (const StageLessons& of : known->stages)
    for (const Lesson& lesson : of.lessons) right[{of.stage.stage, of.stage.path}] += lesson.outcome == Outcome::ok;
  for (const Stage tuned : {Stage::attention, Stage::update_state, Stage::query_state, Stage::attend_query, Stage::update_scan})
    EXPECT_GE((right[{tuned, Path::sm90}]), Experience::kLeastTrials) << to_string(tuned);
  for (const Stage tuned : {Stage::gates, Stage::attention, Stage::update_state, Stage::scan, Stage::query_state})
    EXPECT_GE((right[{tuned, Path::sm80}]), Experience::kLeastTrials) << to_string(tuned);
  EXPECT_EQ(builtin_lessons(), known) << "read once";
}

TEST(BuiltinExperience, IsForDevicesThatMeasure) {
  DeviceInfo device = synthetic_info();
  EXPECT_TRUE(builtin_by_default(device));
  device.replayed = true;
  EXPECT_FALSE(builtin_by_default(device));
  device = synthetic_info();
  device.emulated = true;
  EXPECT_FALSE(builtin_by_default(device));
}

TEST(Policy, SaysWhatWasKnown) {
  SweepOptions options;
  const std::string nothing = policy_text(options);
  EXPECT_EQ(nothing.find("experience"), std::string::npos) << "sweeps of before anything could be known can be resumed";
  options.experience.push_back(builtin_lessons());
  const std::string builtin = policy_text(options);
  EXPECT_NE(builtin.find(builtin_lessons()->name), std::string::npos) << builtin;
  SweepOptions back;
  read_policy(builtin, back);
  EXPECT_EQ(policy_text(back), nothing);
}

}  // namespace
}  // namespace phitune
