// What other stage problems teach, on times made up so that the lesson is known.
#include "harness/tune/experience.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>
#include <utility>

#include "harness/device/replay_device.hpp"
#include "harness/store/recording.hpp"
#include "harness/sweep.hpp"
#include "harness/tune/time_model.hpp"
#include "kernel_templates/stage_template.hpp"
#include "search/random.hpp"
#include "tests/harness/store/random_trials.hpp"
#include "tests/harness/tune/synthetic_device.hpp"

namespace phitune {
namespace {

using testing_support::synthetic_info;
using testing_support::TemporaryFolder;
using testing_support::timed;

StageProblem query_state(const std::string& problem) {
  return make_stage_problem(Problem::parse(problem), PlanShape::parse("expand_mma c1024 d_tile4 state_bf16 partial_bf16 sm90"),
                            Stage::query_state);
}

const StageProblem headline = query_state("b1 t65536 h8 d64 p2 bf16 gated");

Space space_of(const StageProblem& stage) { return stage_template(stage.stage, stage.path).space(stage, synthetic_info()); }

// Many stages and large batches are good, on every problem; `level` is the problem's own.
double made_up_ms(const Config& config, double level) {
  return level * (1 + 0.2 * std::abs(static_cast<double>(config.at("stages")) - 4) + 0.3 * static_cast<double>(4 - config.at("batch")));
}

Trial trial_of(const StageProblem& stage, const Config& config, double level) {
  Trial trial;
  trial.problem = stage;
  trial.config = config;
  trial.source_hash = "of some text";
  trial.result = timed(made_up_ms(config, level));
  return trial;
}

Result failed(Outcome outcome) {
  Result result;
  result.outcome = outcome;
  result.reason = "made up";
  return result;
}

// `count` configs of the stage problem, drawn at random.
void live_through(Experience& experience, const StageProblem& stage, double level, std::size_t count, std::uint64_t seed) {
  const Space space = space_of(stage);
  std::mt19937_64 rng(seed);
  for (const std::size_t index : space.sample(count, rng)) experience.add(synthetic_info(), trial_of(stage, space.at(index), level));
}

std::size_t most_promising(const Prior& prior, const Space& space) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < space.size(); ++i)
    if (prior(i) < prior(best)) best = i;
  return best;
}

TEST(Experience, OtherProblemsOfQuiteOtherTimesTeachWhichConfigsAreGood) {
  Experience experience;
  live_through(experience, query_state("b1 t16384 h16 d64 p2 bf16 gated"), 0.02, 30, 1);
  live_through(experience, query_state("b8 t65536 h12 d64 p2 bf16 gated"), 700, 30, 2);
  const Space space = space_of(headline);
  const Config best = space.at(most_promising(experience.prior(headline, space, synthetic_info()), space));
  EXPECT_EQ(best.at("stages"), 4);
  EXPECT_EQ(best.at("batch"), 4);
}

// A config that no rule over knobs explains: the best where the problem is alike but for its length, bad where it is another one.
TEST(Experience, WhatANeighbourKnowsOfAConfigCountsMoreThanWhatIsTrueOfAll) {
  const Space space = space_of(headline);
  const Config odd = space.at(space.size() / 3);
  Experience experience;
  const auto live = [&](const std::string& problem, double odd_share) {
    const StageProblem stage = query_state(problem);
    const Space its = space_of(stage);
    for (std::size_t i = 0; i < its.size(); ++i) {
      Trial trial = trial_of(stage, its.at(i), 1);
      if (trial.config == odd) trial.result = timed(odd_share);
      experience.add(synthetic_info(), trial);
    }
  };
  live("b1 t32768 h8 d64 p2 bf16 gated", 0.9);
  for (const char* problem : {"b1 t2048 h4 d64 p2 fp16 gated", "b1 t4096 h2 d64 p2 bf16 ungated", "b1 t2048 h2 d64 p2 bf16 gated", "b2 t4096 h1 d64 p2 fp16 ungated"})
    live(problem, 2.5);
  EXPECT_EQ(space.at(most_promising(experience.prior(headline, space, synthetic_info()), space)).text(), odd.text());
}

// A value that a template has gained since: trees see no difference to those that were tried, and so nobody ever would.
TEST(Experience, WhatNobodyHasTriedIsWorthATrial) {
  const Space space = space_of(headline);
  Experience experience;
  bool luck = true;
  for (std::size_t i = 0; i < space.size(); ++i) {
    // One that is faster than its like, so that it would be first.
    const bool lucky = space.at(i).at("batch") == 2 && space.at(i).at("stages") == 4 && std::exchange(luck, false);
    if (space.at(i).at("batch") != 4) experience.add(synthetic_info(), trial_of(headline, space.at(i), lucky ? 0.087 : 0.1));
  }
  const Config first = space.at(most_promising(experience.prior(headline, space, synthetic_info()), space));
  EXPECT_EQ(first.at("batch"), 4) << first.text();
}

// What an older version left has not all of today's knobs.
TEST(Experience, ConfigsFromBeforeAKnobHaveItsFirstValue) {
  const StageProblem gates = make_stage_problem(headline.problem, headline.shape, Stage::gates);
  const Space space = space_of(gates);
  Experience experience;
  for (std::size_t i = 0; i < space.size(); ++i) {
    const Config config = space.at(i);
    if (config.at("heads") != 1) continue;
    // No other knob, and the slowest by its shape are the fastest here.
    Trial trial = trial_of(headline, {{"stages", 4}, {"batch", 4}}, 0.01 * static_cast<double>(config.at("threads")));
    trial.problem = gates;
    trial.config = {{"threads", config.at("threads")}, {"items", config.at("items")}};
    for (int repeated = 0; repeated < 4; ++repeated) experience.add(synthetic_info(), trial);
  }
  std::int64_t fewest = 1024;
  for (std::size_t i = 0; i < space.size(); ++i) fewest = std::min(fewest, space.at(i).at("threads"));
  EXPECT_EQ(space.at(most_promising(experience.prior(gates, space, synthetic_info()), space)).at("threads"), fewest);
}

// A recording of an older version has a space of its own.
TEST(Experience, SpacesFromBeforeAKnobAreAskedAboutItsFirstValue) {
  const Space today = space_of(headline);
  std::vector<Knob> older;
  for (const Knob& knob : today.knobs()) {
    if (knob.name != "batch") older.push_back(knob);
  }
  const Space space(std::move(older), {});
  Experience experience;
  for (std::size_t i = 0; i < today.size(); ++i) experience.add(synthetic_info(), trial_of(headline, today.at(i), 0.1));
  const Prior of_today = experience.prior(headline, today, synthetic_info()), of_space = experience.prior(headline, space, synthetic_info());
  std::size_t compared = 0;
  for (std::size_t i = 0; i < space.size(); ++i) {
    const auto same = today.find(today.completed(space.at(i)));
    if (!same) continue;
    EXPECT_EQ(of_space(i), of_today(*same)) << space.at(i).text();
    ++compared;
  }
  EXPECT_GT(compared, 0U);
}


TEST(Experience, WhatFailedIsExpectedToBeSlow) {
  Experience experience;
  const StageProblem other = query_state("b1 t16384 h16 d64 p2 bf16 gated");
  const Space of_other = space_of(other);
  for (std::size_t i = 0; i < of_other.size(); ++i) {
    Trial trial = trial_of(other, of_other.at(i), 1);
    if (trial.config.at("stages") == 4) trial.result = failed(Outcome::wrong_result);
    experience.add(synthetic_info(), trial);
  }
  const Space space = space_of(headline);
  EXPECT_NE(space.at(most_promising(experience.prior(headline, space, synthetic_info()), space)).at("stages"), 4);
}

TEST(Experience, WithTooLittleOfItTheModelDecides) {
  const Space space = space_of(headline);
  Experience experience;
  live_through(experience, query_state("b1 t16384 h16 d64 p2 bf16 gated"), 1, Experience::kLeastTrials - 1, 1);
  // What a recording does not know, what today's template has no knob for, and what cuBLASLt did is no experience.
  Trial unknown = trial_of(headline, space.at(0), 1);
  unknown.source_hash.clear();
  unknown.result = failed(Outcome::pruned);
  Trial of_old = trial_of(headline, space.at(0), 1), of_other_values = of_old;
  of_old.config.set("a_knob_of_yesterday", 1);
  of_other_values.config.set("stages", 17);
  for (int i = 0; i < 3; ++i) {
    experience.add(synthetic_info(), unknown);
    experience.add(synthetic_info(), of_old);
    experience.add(synthetic_info(), of_other_values);
  }
  const Prior prior = experience.prior(headline, space, synthetic_info()), model = model_prior(headline, space, synthetic_info());
  for (std::size_t i = 0; i < space.size(); ++i) ASSERT_EQ(prior(i), model(i));
  experience.add(synthetic_info(), trial_of(headline, space.at(3), 1));
  const Prior learned = experience.prior(headline, space, synthetic_info());
  EXPECT_NE(learned(0), model(0));
}

TEST(TimeModel, FillsTheDeviceByHand) {
  const Config config{{"warpgroups", 2}, {"m_tiles", 1}, {"steps", 8},      {"batch", 2},
                      {"stages", 2},     {"query_tiles", 1}, {"min_blocks", 1}, {"blocks", 132}};
  const DeviceInfo device = synthetic_info();
  const Launch launch = stage_template(headline.stage, headline.path).launch(headline, config);
  Filling filling = filling_of(headline, config, device);
  // 8 heads x 64 chunks x 1024 / 128 works, which 132 blocks of 384 threads share.
  EXPECT_EQ(filling.pieces, 8 * 64 * 8);
  const double by_shared = std::floor(228. * 1024 / (launch.dynamic_shared_bytes + 1024));
  EXPECT_EQ(filling.resident, std::min(by_shared, std::floor(2048. / 384)));
  EXPECT_EQ(filling.warps, filling.resident * 12);
  EXPECT_DOUBLE_EQ(filling.waves, filling.pieces / (132 * filling.resident));
  EXPECT_DOUBLE_EQ(filling.utilisation, filling.waves / std::ceil(filling.waves));
  filling = filling_of(headline, config, device, 100);
  EXPECT_EQ(filling.resident, 1) << "65536 registers hold no second block of 384 threads with 100 each";
  EXPECT_GT(model_ms(headline, config, device, 100), model_ms(headline, config, device));
}

// A problem whose every stage config is recorded, with times that the strategy can learn: the search of a stage ends long before the space
// does, and what was not tried would have brought nothing.
TEST(WorthIt, ASweepEndsAStagesSearchAndSaysWhatThatSpared) {
  const std::string text = "b1 t8192 h8 d64 p2 bf16 gated";
  const DeviceInfo device = synthetic_info();
  SearchPolicy policy;
  policy.plan_bound = 1;
  Recording recording;
  recording.sweep.device = device;
  const ProblemSearch search = plan_search(Problem::parse(text), device, policy);
  for (const StageGroup& group : search.groups) {
    std::vector<StageProblem> stages = group.others;
    stages.push_back(group.pivot);
    for (const StageProblem& stage : stages) {
      const Space space = stage_template(stage.stage, stage.path).space(stage, device);
      for (std::size_t i = 0; i < space.size(); ++i) {
        Trial trial;
        trial.problem = stage;
        trial.config = space.at(i);
        trial.source_hash = "recorded";
        trial.result = timed(model_ms(stage, space.at(i), device));
        trial.result.verify_ms = 2, trial.result.measure_ms = 3;
        recording.trials.push_back(std::move(trial));
      }
    }
  }
  ReplayDevice replay(std::move(recording), "made up");
  TemporaryFolder folder;
  const auto swept = [&](bool until_worth_it, double seconds = 0) {
    Compiler compiler({device.architecture, PHITUNE_TEST_CACHE, 0});
    Store store(folder / fmt::format("{}{}.db", until_worth_it, seconds));
    SweepOptions options;
    options.search = policy;
    options.search.trials = 40;
    options.search.finalists = 1;
    if (until_worth_it) options.search.worth_it = WorthIt{};
    options.search.seconds = seconds;
    options.compile = CompileScope::leading;
    Progress silent(Progress::Style::silent);
    const std::atomic<bool> stop{false};
    return sweep(suite_of({text}), replay, compiler, store, options, silent, stop);
  };
  const SweepSummary all = swept(false), few = swept(true);
  EXPECT_EQ(all.spared, 0U);
  EXPECT_GT(few.spared, 30U);
  EXPECT_LE(few.spared_ms, 5.001 * static_cast<double>(few.spared)) << "no trial takes more than 5 ms of the device, ...";
  EXPECT_GT(few.spared_ms, 2.5 * static_cast<double>(few.spared)) << "... and only what was pruned takes less";
  EXPECT_LE(few.trials + few.spared, all.trials + few.problems[0].trials);
  EXPECT_LT(few.trials, all.trials);

  // Once its time is up no strategy is asked again, and every stage has its first configs all the same.
  const SweepSummary hurried = swept(false, 1e-6);
  EXPECT_LT(hurried.trials, few.trials);
  EXPECT_GE(hurried.trials, 3 * search.groups.size() / 2);
  EXPECT_EQ(hurried.spared, 0U);
}

}  // namespace
}  // namespace phitune
