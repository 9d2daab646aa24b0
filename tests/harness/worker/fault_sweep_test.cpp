// Whole sweeps on a device that fails on demand: what the database holds afterwards.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "harness/sweep.hpp"
#include "harness/verify/inputs.hpp"
#include "tests/harness/worker/simulated.hpp"

namespace phitune {
namespace {

using testing_support::simulation;
using testing_support::TemporaryFolder;
using testing_support::workers;

class FaultSweepTest : public testing::Test {
 protected:
  SweepSummary sweep_on(const std::string& text, const std::string& database, double deadline_ms = 0, Regime regime = {}) {
    SupervisedDevice device(simulation(folder_, text), Use::measure, workers(deadline_ms));
    Compiler compiler({device.info().architecture, PHITUNE_TEST_CACHE, 0});
    Store store(folder_ / database);
    SweepOptions options;
    options.search.strategy = "random";  // asks the same whatever becomes of its trials
    options.search.trials = 6;
    options.search.carried = 1;
    options.search.lesser_trials = 2;
    options.search.plan_bound = 1.2;
    options.search.seed = 5;
    options.stage_policy.timeout_ms = options.final_policy.timeout_ms = 20;
    options.stage_policy.seed = options.final_policy.seed = options.search.seed;
    options.stage_policy.regime = options.final_policy.regime = regime;
    Progress silent(Progress::Style::silent);
    const std::atomic<bool> stop{false};
    SweepSummary summary = sweep(suite_of({"b1 t512 h1 d16 p1 bf16 ungated none"}), device, compiler, store, options, silent, stop);
    started_ = device.workers();
    EXPECT_TRUE(store.check().empty());
    return summary;
  }
  // By stage problem and config.
  std::map<std::string, Trial> trials(const std::string& database) {
    Store store(folder_ / database);
    std::map<std::string, Trial> rows;
    store.for_each_trial({}, [&](const StoredTrial& row) {
      rows.insert_or_assign(candidate_name({row.trial.problem, row.trial.config}), row.trial);
    });
    return rows;
  }
  static std::string fault(const std::string& kind, const std::string& name) {
    return "[[fault]]\nkind = \"" + kind + "\"\nmatch = \"" + name + "\"\n";
  }

  TemporaryFolder folder_;
  int started_ = 0;
};

TEST_F(FaultSweepTest, EveryFaultIsRecordedUnderItsOutcomeAndTheGoodWinnerIsUnchanged) {
  const SweepSummary undisturbed = sweep_on("", "good.db");
  ASSERT_TRUE(undisturbed.problems[0].winner);
  const std::map<std::string, Trial> all = trials("good.db");
  // Faults for trials that the winner is not made of, and that are tried whatever becomes of others: those of a strategy's first questions.
  std::map<std::string, int> of_stage;
  for (const auto& [name, trial] : all) ++of_stage[trial.problem.key()];
  std::vector<std::string> names;
  const std::vector<PlanStage>& winning = undisturbed.problems[0].winner->plan.stages;
  for (const auto& [name, trial] : all)
    if (of_stage[trial.problem.key()] >= 3 && trial.result.outcome == Outcome::ok &&
        std::ranges::none_of(winning, [&](const PlanStage& stage) { return name.starts_with(candidate_name(stage)); }))
      names.push_back(name);
  const std::vector<std::pair<std::string, Outcome>> kinds = {{"crash", Outcome::launch_failed},   {"endless", Outcome::timed_out},
                                                              {"illegal", Outcome::launch_failed}, {"hang", Outcome::timed_out},
                                                              {"wrong", Outcome::wrong_result},    {"refused", Outcome::launch_failed}};
  ASSERT_GE(names.size(), kinds.size());
  std::string faults;
  for (std::size_t i = 0; i < kinds.size(); ++i) faults += fault(kinds[i].first, names[i]);

  const SweepSummary disturbed = sweep_on(faults, "bad.db", 500);
  std::map<std::string, Trial> seen = trials("bad.db");
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    ASSERT_TRUE(seen.contains(names[i])) << names[i];
    EXPECT_EQ(seen.at(names[i]).result.outcome, kinds[i].second) << kinds[i].first << ": " << seen.at(names[i]).result.reason;
    EXPECT_FALSE(seen.at(names[i]).result.reason.empty());
  }
  ASSERT_TRUE(disturbed.problems[0].winner);
  EXPECT_EQ(disturbed.problems[0].winner->plan, undisturbed.problems[0].winner->plan);
  names.resize(kinds.size());
  for (const auto& [name, trial] : seen) {
    const bool faulty = std::ranges::find(names, name) != names.end();
    EXPECT_TRUE(faulty || trial.result.outcome == Outcome::ok) << name << " is innocent: " << trial.result.reason;
  }
  Store store(folder_ / "bad.db");
  EXPECT_EQ(store.info().quarantined, 4) << "a crash, an endless kernel, an illegal address and a hang";
}

TEST_F(FaultSweepTest, WhatIsInQuarantineIsNotRunAgainUntilItIsReleased) {
  static_cast<void>(sweep_on("", "names.db"));
  const std::string name = trials("names.db").begin()->first;
  static_cast<void>(sweep_on(fault("crash", name), "twice.db"));
  const int first = started_;
  EXPECT_EQ(first, 3) << "the one that crashed, the one that confirmed it, the one that went on";
  // The same device, mended, is not asked again.
  static_cast<void>(sweep_on("", "twice.db"));
  EXPECT_EQ(started_, 1);
  EXPECT_EQ(trials("twice.db").at(name).result.outcome, Outcome::launch_failed);
  EXPECT_NE(trials("twice.db").at(name).result.reason.find("in quarantine since"), std::string::npos);
  EXPECT_EQ(Store(folder_ / "twice.db").release_quarantine(), 1);
  static_cast<void>(sweep_on("", "twice.db"));
  EXPECT_EQ(trials("twice.db").at(name).result.outcome, Outcome::ok);
}

TEST_F(FaultSweepTest, AFinalistIsCheckedOnSeveralSeedsAndAdversarialInputsAndEveryErrorIsStored) {
  const SweepSummary summary = sweep_on("", "right.db");
  Store store(folder_ / "right.db");
  std::vector<std::string> expected = {"normal 5", "normal 6", "normal 7"};
  for (const InputKind kind : adversarial_kinds()) expected.push_back(std::string(to_string(kind)) + " 5");
  for (const StoredPlanTrial& row : store.plan_trials()) {
    const Result& result = row.trial.result;
    std::vector<std::string> seen;
    double worst = 0;
    for (const InputCheck& check : result.checks) {
      seen.push_back(check.inputs + " " + std::to_string(check.seed));
      EXPECT_EQ(check.outcome, Outcome::ok);
      EXPECT_GT(check.errors.worst_row, check.errors.relative_l2);
      EXPECT_GT(check.errors.worst_element, 0);
      EXPECT_TRUE(check.errors.bitwise_repeatable);
      if (check.inputs == "normal") worst = std::max(worst, check.errors.relative_l2);
    }
    EXPECT_EQ(seen, expected);
    EXPECT_EQ(result.errors->relative_l2, worst) << "a plan's error is the worst over the seeds";
    EXPECT_EQ(result.errors->rows_checked, 30);
  }
  ASSERT_TRUE(summary.problems[0].winner);
}

TEST_F(FaultSweepTest, APlanThatIsWrongOnAnotherSeedOrOnAdversarialInputsAloneCannotWin) {
  const SweepSummary undisturbed = sweep_on("", "right.db");
  ASSERT_TRUE(undisturbed.problems[0].winner);
  // Faults of whole plans say so; this one is of the winner's.
  std::string winner = "plan";
  for (const PlanStage& stage : undisturbed.problems[0].winner->plan.stages) winner += " " + candidate_name(stage);
  for (const std::string inputs : {"normal, seed 6", "zero queries, seed 5"}) {
    const std::string database = inputs.substr(0, 4) + ".db";
    const SweepSummary disturbed = sweep_on(fault("wrong", winner) + "inputs = \"" + inputs + "\"\n", database);
    ASSERT_TRUE(disturbed.problems[0].winner);
    EXPECT_NE(disturbed.problems[0].winner->plan, undisturbed.problems[0].winner->plan);
    Store store(folder_ / database);
    std::size_t wrong = 0;
    for (const StoredPlanTrial& row : store.plan_trials({.outcome = Outcome::wrong_result})) {
      ++wrong;
      EXPECT_EQ(row.trial.plan, undisturbed.problems[0].winner->plan);
      ASSERT_FALSE(row.trial.result.checks.empty());
      const InputCheck& last = row.trial.result.checks.back();
      EXPECT_EQ(last.outcome, Outcome::wrong_result);
      EXPECT_EQ(last.inputs + ", seed " + std::to_string(last.seed), inputs) << "nothing is run after the first failure";
      EXPECT_NE(row.trial.result.reason.find("of seed"), std::string::npos) << row.trial.result.reason;
    }
    EXPECT_EQ(wrong, 1u);
  }
}

TEST_F(FaultSweepTest, ARegimeIsPartOfATrialsIdentityAndWinnersDefendWithinTheirOwn) {
  const auto in = [&](const std::string& regime) { return sweep_on("", "regimes.db", 0, parse_regime(regime)); };
  EXPECT_EQ(in("flush").same_code, 0u);
  const SweepSummary hot = in("hot");
  EXPECT_EQ(hot.same_code, 0u) << "a cold time does not answer for a hot one";
  const SweepSummary again = in("hot");
  Store store(folder_ / "regimes.db");
  const std::vector<StoredTrial> rows = store.trials({.sweep = hot.sweep.id});
  EXPECT_EQ(again.same_code, std::ranges::count_if(rows, [](const StoredTrial& row) { return !row.trial.identity.empty(); })) << "and a hot one does";
  std::map<std::string, std::vector<double>> medians;
  for (const StoredTrial& row : store.trials())
    if (row.trial.result.timing) medians[std::string(to_string(row.trial.result.timing->regime))].push_back(row.trial.result.timing->median_ms);
  EXPECT_EQ(medians.size(), 2u);
  ASSERT_TRUE(hot.problems[0].winner);
  EXPECT_EQ(hot.problems[0].winner->result.timing->regime.cache, Regime::Cache::hot);
  const std::vector<Winner> winners = store.winners();
  ASSERT_EQ(winners.size(), 1u);
  EXPECT_EQ(winners[0].plan_trial.trial.result.timing->regime.cache, Regime::Cache::hot) << "the sweep of another regime has its own winner";
}

TEST_F(FaultSweepTest, NoiseDriftAndThrottlingAreStoredAndDoNotPickTheWinner) {
  const SweepSummary calm = sweep_on("", "calm.db");
  const SweepSummary rough = sweep_on("noise = 0.01\ndrift = 0.02\nthrottle_every = 7\nthrottle_factor = 1.4\n", "rough.db");
  ASSERT_TRUE(calm.problems[0].winner);
  ASSERT_TRUE(rough.problems[0].winner);
  EXPECT_EQ(rough.problems[0].winner->plan, calm.problems[0].winner->plan);
  std::int64_t discarded = 0;
  for (const auto& [name, trial] : trials("rough.db")) {
    if (!trial.result.timing) continue;
    const Timing& timing = *trial.result.timing;
    discarded += timing.discarded;
    EXPECT_EQ(timing.throttle_reasons, timing.discarded > 0 ? "hardware thermal" : "");
    EXPECT_EQ(timing.sm_clocks_mhz.size(), timing.samples_ms.size());
    for (const double ms : timing.samples_ms) EXPECT_LT(ms, 1.2 * timing.median_ms) << "a throttled sample was kept";
  }
  EXPECT_GT(discarded, 10);
  for (const PlanTrial& finalist : rough.problems[0].finalists)
    if (finalist.standing) {
      EXPECT_GT(finalist.result.timing->discarded, 0);
      EXPECT_LE(finalist.standing->low, finalist.standing->high);
    }
}

// A device with a power cap, under which a sample that follows another at once takes longer.
TEST_F(FaultSweepTest, ARestBetweenSamplesKeepsAPowerCapOutOfTimes) {
  const auto medians = [&](const std::string& database) {
    std::vector<double> found;
    for (const auto& [name, trial] : trials(database))
      if (trial.result.timing) {
        found.push_back(trial.result.timing->median_ms);
        EXPECT_EQ(trial.result.timing->throttle_reasons, "") << name;
      }
    return found;
  };
  static_cast<void>(sweep_on("", "cool.db"));
  const SweepSummary capped = sweep_on("power_cap = 0.15\n", "capped.db");
  EXPECT_EQ(medians("capped.db"), medians("cool.db"));
  ASSERT_TRUE(capped.problems[0].winner);
  EXPECT_EQ(capped.problems[0].winner->result.timing->throttle_reasons, "");
}

TEST_F(FaultSweepTest, ALostDeviceEndsTheWorkerAndNotTheSweep) {
  static_cast<void>(sweep_on("", "names.db"));
  const std::string name = trials("names.db").begin()->first;
  const SweepSummary summary = sweep_on("[[fault]]\nkind = \"lost\"\nvalue = 0.1\nmatch = \"" + name + "\"\n", "lost.db");
  EXPECT_TRUE(summary.problems[0].winner);
  EXPECT_EQ(trials("lost.db").at(name).result.outcome, Outcome::launch_failed);
}

}  // namespace
}  // namespace phitune
