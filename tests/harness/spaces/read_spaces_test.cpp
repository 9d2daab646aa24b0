// What other tuners recorded is understood as they meant it, and what cannot be is refused with its place.
#include "harness/spaces/read_spaces.hpp"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "harness/error.hpp"
#include "harness/spaces/formats.hpp"
#include "harness/spaces/search_bench.hpp"
#include "harness/store/recording.hpp"
#include "kernel_templates/stage_template.hpp"
#include "reports/writers.hpp"
#include "search/replay.hpp"
#include "tests/harness/store/random_trials.hpp"
#include "tests/harness/tune/synthetic_device.hpp"

namespace phitune {
namespace {

using testing_support::TemporaryFolder;

const char* const kernel_tuner_head =
    R"({"device_name": "GPU", "kernel_name": "axpy", "problem_size": [64], "tune_params_keys": ["x", "mode", "u"],
"tune_params": {"x": [32, 16, 8], "mode": ["row", "col"], "u": [0.5, 1.0]}, "objective": "time", "cache": {
)";

class ReadSpaces : public testing::Test {
 protected:
  std::vector<RecordedSpace> read(const std::string& text) {
    std::ofstream(folder_ / "file.json") << text;
    return read_spaces(folder_ / "file.json");
  }
  std::string complaint(const std::string& text) {
    try {
      (void)read(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_input);
      return error.what();
    }
    return "none";
  }
  TemporaryFolder folder_;
};

const RecordedTrial& trial_of(const RecordedSpace& space, const Config& config) {
  return space.trials.at(space.space.find(config).value());
}

TEST_F(ReadSpaces, KernelTunersCacheWithFailuresAndCosts) {
  const auto spaces = read(std::string(kernel_tuner_head) + R"(
"8,row,0.5": {"x": 8, "mode": "row", "u": 0.5, "time": 2.5, "times": [2.4, 2.6], "compile_time": 100, "verification_time": 1, "benchmark_time": 20, "strategy_time": 1e6, "framework_time": 3},
"16,col,1.0": {"x": 16, "mode": "col", "u": 1.0, "time": "CompilationFailedConfig", "compile_time": 7},
"32,col,1.0": {"x": 32, "mode": "col", "u": 1.0, "time": "RuntimeFailedConfig"},
"32,row,1.0": {"x": 32, "mode": "row", "u": 1.0, "time": "InvalidConfig"},
"16,row,1.0": {"x": 16, "mode": "row", "u": 1.0, "time": NaN}}})");
  ASSERT_EQ(spaces.size(), 1U);
  const RecordedSpace& space = spaces[0];
  EXPECT_EQ(space.name, "axpy on GPU");
  EXPECT_EQ(space.space.size(), 5U);
  EXPECT_TRUE(space.has_costs);
  const std::vector<Knob>& knobs = space.space.knobs();
  EXPECT_EQ(knobs[0].values, (std::vector<std::int64_t>{8, 16, 32})) << "numbers rise";
  EXPECT_FALSE(knobs[0].categorical);
  EXPECT_EQ(knobs[1].labels, (std::vector<std::string>{"col", "row"}));
  EXPECT_TRUE(knobs[1].categorical);
  EXPECT_EQ(knobs[2].labels, (std::vector<std::string>{"0.5", "1"}));
  EXPECT_FALSE(knobs[2].categorical) << "fractions are numbers";
  const RecordedTrial& right = trial_of(space, {{"x", 8}, {"mode", 1}, {"u", 0}});
  EXPECT_EQ(right.outcome, Outcome::ok);
  EXPECT_EQ(right.time_ms, 2.5);
  EXPECT_EQ(right.cost_ms, 124) << "Kernel Tuner's own strategy does not count";
  EXPECT_EQ(trial_of(space, {{"x", 16}, {"mode", 0}, {"u", 1}}).outcome, Outcome::compile_failed);
  EXPECT_EQ(trial_of(space, {{"x", 16}, {"mode", 0}, {"u", 1}}).cost_ms, 7) << "failures take time too";
  EXPECT_EQ(trial_of(space, {{"x", 32}, {"mode", 0}, {"u", 1}}).outcome, Outcome::launch_failed);
  EXPECT_EQ(trial_of(space, {{"x", 32}, {"mode", 1}, {"u", 1}}).outcome, Outcome::pruned);
  EXPECT_NE(trial_of(space, {{"x", 16}, {"mode", 1}, {"u", 1}}).outcome, Outcome::ok) << "NaN is no time";
}

TEST_F(ReadSpaces, ACacheWhoseRunWasInterruptedOrWhoseValuesAreOnlyInItsKeys) {
  const auto spaces = read(std::string(kernel_tuner_head) + "\"8,row,0.5\": {\"time\": 2.5},\n\"16,col,1.0\": {\"time\": 3},\n");
  ASSERT_EQ(spaces.size(), 1U);
  EXPECT_EQ(spaces[0].space.size(), 2U);
  EXPECT_EQ(trial_of(spaces[0], {{"x", 16}, {"mode", 0}, {"u", 1}}).time_ms, 3);
  EXPECT_FALSE(spaces[0].has_costs);
  EXPECT_EQ(spaces[0].trials[0].cost_ms, 1000) << "without costs a trial counts as a second";
}

TEST_F(ReadSpaces, WhatIsWrongIsNamed) {
  const auto has = [&](const std::string& text, const std::string& words) {
    const std::string why = complaint(text);
    EXPECT_NE(why.find(words), std::string::npos) << why;
  };
  has("hello", "parse error");
  has("{}", "neither");
  has(std::string(kernel_tuner_head) + "\"8,row\": {\"time\": 2.5}}}", "\"8,row\" has 2 values for 3 knobs");
  has(std::string(kernel_tuner_head) + "\"9,row,0.5\": {\"time\": 2.5}}}", "9 is not among the tune_params of x");
  has(std::string(kernel_tuner_head) + "\"8,row,0.5\": {\"x\": 8}}}", "has no time");
  has(std::string(kernel_tuner_head) + "\"8,row,0.5\": {\"ti", "parse error");
  has(R"({"results": [{"configuration": {"a": 1}, "measurements": []}]})",
      "result 1 is said to be correct and has no measurement called time");
  has(R"({"results": []})", "no trials");
  EXPECT_THROW((void)read_spaces(folder_ / "missing.json"), Error);
}

TEST_F(ReadSpaces, T4InItsUnitsWithFailures) {
  const auto spaces = read(R"({"schema_version": "1.0.0", "metadata": {"time_unit": "seconds"}, "results": [
    {"configuration": {"a": 1, "b": true}, "times": {"compilation_time": 2, "compilation": 2, "benchmark": 1, "framework": 0.5, "search_algorithm": 9}, "invalidity": "correct",
     "measurements": [{"name": "energy", "value": 3}, {"name": "time", "value": 4, "unit": "us"}]},
    {"configuration": {"a": 2, "b": false}, "times": {"compilation": 1}, "invalidity": "timeout", "measurements": []}]})");
  ASSERT_EQ(spaces.size(), 1U);
  const RecordedTrial& right = trial_of(spaces[0], {{"a", 1}, {"b", 1}});
  EXPECT_DOUBLE_EQ(right.time_ms, 4e-3);
  EXPECT_DOUBLE_EQ(right.cost_ms, 3500);
  EXPECT_EQ(trial_of(spaces[0], {{"a", 2}, {"b", 0}}).outcome, Outcome::timed_out);
  EXPECT_EQ(trial_of(spaces[0], {{"a", 2}, {"b", 0}}).cost_ms, 1000);
}

// One stage problem with all of its configs but two is known to lack two.
TEST_F(ReadSpaces, ARecordingSaysHowMuchOfTheSpaceItLeavesOut) {
  Recording recording;
  recording.sweep.device = testing_support::synthetic_info();
  const StageProblem stage = make_stage_problem(Problem::parse("b1 t65536 h8 d64 p2 bf16 gated sum"),
                                                PlanShape::parse("expand_mma c1024 d_tile8 state_bf16 partial_bf16"), Stage::query_state);
  const Space whole = stage_template(stage.stage, stage.path).space(stage, recording.sweep.device);
  for (std::size_t i = 2; i < whole.size(); ++i) {
    Trial& trial = recording.trials.emplace_back();
    trial.problem = stage;
    trial.config = whole.at(i);
    trial.result = testing_support::timed(1 + static_cast<double>(i));
  }
  EXPECT_EQ(recorded_spaces(recording).at(0).untried, 2U);
  EXPECT_TRUE(prior_from({}, recorded_spaces(recording).at(0)));
  for (Trial& trial : recording.trials) trial.config.set("a_knob_of_yesterday", 1);
  EXPECT_FALSE(prior_from({}, recorded_spaces(recording).at(0))) << "today's template does not know what that config would be";
}

// A recording, and the T4 results that phitune exports of it, are the same spaces.
TEST_F(ReadSpaces, OurRecordingAndOurT4Agree) {
  const auto path = std::filesystem::path(PHITUNE_SOURCE_DIR) / "data/recordings/earlier/nvidia-h200-2026-11-24.jsonl.gz";
  const auto recorded = read_spaces(path);
  EXPECT_EQ(recorded.size(), 1109U);
  const Recording recording = read_recording(path);
  Model model;
  model.devices.emplace_back();
  model.devices[0].info = recording.sweep.device;
  model.devices[0].trials = recording.trials;
  const auto exported = read(write_t4(model));
  ASSERT_EQ(exported.size(), recorded.size());
  std::map<std::string, const RecordedSpace*> by_name;
  for (const RecordedSpace& space : exported) by_name[space.name] = &space;
  std::size_t trials = 0;
  for (const RecordedSpace& ours : recorded) {
    ASSERT_EQ(fmt::format("{} on NVIDIA H200", ours.stage.value().key()), ours.name);
    ASSERT_EQ(ours.device.name, "NVIDIA H200");
    const std::string key = ours.name.substr(0, ours.name.find(" on "));
    const auto same =
        std::ranges::find_if(by_name, [&](const auto& pair) { return pair.first.find(" | " + key + " | ") != std::string::npos; });
    ASSERT_NE(same, by_name.end()) << ours.name;
    const RecordedSpace& theirs = *same->second;
    ASSERT_EQ(theirs.space.hash(), ours.space.hash()) << ours.name;
    for (std::size_t i = 0; i < ours.trials.size(); ++i, ++trials) {
      ASSERT_EQ(theirs.trials[i].outcome == Outcome::ok, ours.trials[i].outcome == Outcome::ok);
      ASSERT_DOUBLE_EQ(theirs.trials[i].cost_ms, ours.trials[i].cost_ms);
      if (ours.trials[i].outcome == Outcome::ok) {
        ASSERT_EQ(theirs.trials[i].time_ms, ours.trials[i].time_ms);
      }
    }
  }
  EXPECT_EQ(trials, recording.trials.size());
}

// The figures of the public spaces, counted from the files as they were published.
TEST_F(ReadSpaces, ThePublicSpacesThatShipAreWhole) {
  const auto folder = std::filesystem::path(PHITUNE_SOURCE_DIR) / "data/tuning_spaces";
  const auto facts = [&](const char* name) {
    const RecordedSpace space = std::move(read_spaces(folder / name).at(0));
    const SpaceFacts f = facts_of(space).value();
    return std::tuple(space.space.size(), f.valid, f.best_ms, budget_of(space).evaluations);
  };
  EXPECT_EQ(facts("convolution_A100.json.gz"), std::tuple(4362, 4201, 0.55360001, 1090));
  EXPECT_EQ(facts("convolution_A4000.json.gz"), std::tuple(4362, 4201, 1.021172, 335));
  EXPECT_EQ(facts("dedispersion_A100.json.gz"), std::tuple(11130, 11130, 68.116576, 795));
  EXPECT_EQ(facts("dedispersion_A4000.json.gz"), std::tuple(11130, 11130, 147.69778, 265));
}

}  // namespace
}  // namespace phitune
