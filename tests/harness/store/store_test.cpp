// What goes into a store comes out of it, once, and the tuned table holds verified plans only.
#include "harness/store/schema.hpp"
#include "harness/store/store.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "harness/error.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

using testing_support::equal;
using testing_support::RandomTrials;
using testing_support::TemporaryFolder;
using testing_support::test_options;

class StoreTest : public testing::Test {
 protected:
  StoreTest() : seed_(std::random_device{}()), random_(seed_) { RecordProperty("seed", std::to_string(seed_)); }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "seed %u\n", seed_);
  }

  unsigned seed_;
  RandomTrials random_;
  TemporaryFolder folder_;
};

TEST_F(StoreTest, TrialsComeBackAsTheyWent) {
  std::vector<Trial> trials;
  std::int64_t sweep = 0;
  {
    Store store(folder_ / "a.db", test_options());
    sweep = store.begin_sweep(random_.sweep(random_.device())).id;
    const Problem problem = random_.problem();
    for (int i = 0; i < 200; ++i) {
      trials.push_back(random_.trial(problem));
      EXPECT_TRUE(store.add(sweep, trials.back()));
    }
  }
  Store store(folder_ / "a.db", test_options(OpenMode::read_only));
  const auto rows = store.trials({.sweep = sweep});
  ASSERT_EQ(rows.size(), trials.size());
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_TRUE(equal(rows[i].trial, trials[i])) << i;
}

TEST_F(StoreTest, ErrorsThatAreNotNumbersComeBack) {
  Store store(folder_ / "a.db", test_options());
  const auto sweep = store.begin_sweep(random_.sweep(random_.device())).id;
  Trial trial = random_.trial(random_.problem());
  trial.result = random_.result(Outcome::wrong_result);
  trial.result.errors->relative_l2 = std::nan("");
  trial.result.errors->worst_row = INFINITY;
  store.add(sweep, trial);
  const Errors errors = store.trials().at(0).trial.result.errors.value();
  EXPECT_TRUE(std::isnan(errors.relative_l2));
  EXPECT_TRUE(std::isinf(errors.worst_row));
}

TEST_F(StoreTest, ATrialIsInASweepOnceAndInTwoSweepsTwice) {
  Store store(folder_ / "a.db", test_options());
  const DeviceInfo device = random_.device();
  const auto first = store.begin_sweep(random_.sweep(device)).id;
  const auto second = store.begin_sweep(random_.sweep(device)).id;
  Trial trial = random_.trial(random_.problem());
  EXPECT_TRUE(store.add(first, trial));
  EXPECT_FALSE(store.add(first, trial));
  EXPECT_TRUE(store.add(second, trial));
  trial.source_hash = "another source";
  EXPECT_TRUE(store.add(first, trial));
  EXPECT_EQ(store.trials().size(), 3U);
  EXPECT_EQ(store.devices().size(), 1U);
}

TEST_F(StoreTest, FiltersSelectByEveryField) {
  Store store(folder_ / "a.db", test_options());
  const auto first = store.begin_sweep(random_.sweep(random_.device()));
  const auto second = store.begin_sweep(random_.sweep(random_.device()));
  std::vector<std::pair<std::int64_t, Trial>> all;
  for (int i = 0; i < 100; ++i) {
    all.emplace_back(random_.chance(0.5) ? first.id : second.id, random_.trial(random_.problem()));
    store.add(all.back().first, all.back().second);
  }
  const auto count = [&](auto predicate) { return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), predicate)); };
  EXPECT_EQ(store.trials({.sweep = first.id}).size(), count([&](const auto& row) { return row.first == first.id; }));
  EXPECT_EQ(store.trials({.device = second.device_id}).size(), count([&](const auto& row) { return row.first == second.id; }));
  EXPECT_EQ(store.trials({.outcome = Outcome::ok}).size(),
            count([&](const auto& row) { return row.second.result.outcome == Outcome::ok; }));
  const std::string key = all.front().second.problem.key();
  EXPECT_EQ(store.trials({.stage_problem = key}).size(), count([&](const auto& row) { return row.second.problem.key() == key; }));
  EXPECT_TRUE(store.plan_trials({.stage_problem = key}).empty());
  std::int64_t total = 0;
  for (const auto& [outcome, n] : store.outcomes({.sweep = first.id})) {
    EXPECT_EQ(static_cast<std::size_t>(n),
              count([&, which = outcome](const auto& row) { return row.first == first.id && row.second.result.outcome == which; }));
    total += n;
  }
  EXPECT_EQ(static_cast<std::size_t>(total), store.trials({.sweep = first.id}).size());
}

TEST_F(StoreTest, PlanTrialsComeBackAsTheyWent) {
  Store store(folder_ / "a.db", test_options());
  const auto sweep = store.begin_sweep(random_.sweep(random_.device())).id;
  const Problem problem = random_.problem();
  std::vector<PlanTrial> trials;
  for (int i = 0; i < 20; ++i) {
    trials.push_back(random_.plan_trial(problem, random_.chance(0.8) ? Outcome::ok : Outcome::wrong_result));
    const auto added = store.add(sweep, trials.back());
    EXPECT_TRUE(added.added);
    EXPECT_EQ(store.add(sweep, trials.back()).id, added.id);
    EXPECT_FALSE(store.add(sweep, trials.back()).added);
  }
  const auto rows = store.plan_trials({.problem = problem.key()});
  ASSERT_EQ(rows.size(), trials.size());
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_TRUE(equal(rows[i].trial, trials[i])) << i;
}

TEST_F(StoreTest, PlansThatDifferOnlyInAStagesPathAreTwo) {
  Store store(folder_ / "a.db", test_options());
  const auto sweep = store.begin_sweep(random_.sweep(random_.device())).id;
  PlanTrial trial = random_.plan_trial(random_.problem());
  store.add(sweep, trial);
  trial.plan.stages.back().problem.path = Path::library;
  EXPECT_TRUE(store.add(sweep, trial).added);
  EXPECT_EQ(store.plan_trials().size(), 2U);
}

TEST_F(StoreTest, WinnersAreReplacedAndMustBeVerified) {
  Store store(folder_ / "a.db", test_options());
  const auto sweep = store.begin_sweep(random_.sweep(random_.device()));
  const Problem problem = random_.problem();
  const auto slow = store.add(sweep.id, random_.plan_trial(problem)).id;
  const auto fast = store.add(sweep.id, random_.plan_trial(problem)).id;
  const auto wrong = store.add(sweep.id, random_.plan_trial(problem, Outcome::wrong_result)).id;
  EXPECT_FALSE(store.winner(sweep.device_id, problem));
  store.set_winner(slow);
  store.set_winner(fast);
  EXPECT_THROW(store.set_winner(wrong), Error);
  EXPECT_THROW(store.set_winner(12345), Error);
  ASSERT_EQ(store.winners().size(), 1U);
  EXPECT_EQ(store.winner(sweep.device_id, problem)->plan_trial.id, fast);
  EXPECT_FALSE(store.winners()[0].stale);
}

TEST_F(StoreTest, AWinnerIsStaleOnceItsTemplateChanged) {
  {
    Store store(folder_ / "a.db", test_options());
    const auto sweep = store.begin_sweep(random_.sweep(random_.device())).id;
    store.set_winner(store.add(sweep, random_.plan_trial(random_.problem())).id);
  }
  StoreOptions changed = test_options(OpenMode::read_only);
  changed.template_hash = [](const PlanStage& stage) {
    return stage.problem.stage == Stage::scan ? "edited" : "template of " + std::string(to_string(stage.problem.stage));
  };
  const Winner stale = Store(folder_ / "a.db", changed).winners().at(0);
  EXPECT_TRUE(stale.stale);
  EXPECT_NE(stale.stale_reason.find("scan"), std::string::npos) << stale.stale_reason;
  changed.template_hash = [](const PlanStage&) -> std::string { throw std::out_of_range("no such template"); };
  EXPECT_TRUE(Store(folder_ / "a.db", changed).winners().at(0).stale);
}

TEST_F(StoreTest, CubinsComeBackByTheirHash) {
  Store store(folder_ / "a.db", test_options());
  const Binary binary = random_.binary();
  EXPECT_TRUE(store.add(binary));
  EXPECT_FALSE(store.add(binary));
  const auto back = store.binary(binary.cubin_hash);
  ASSERT_NE(back, nullptr);
  EXPECT_EQ(back->cubin, binary.cubin);
  EXPECT_EQ(back->resources, binary.resources);
  EXPECT_EQ(store.binary("unknown"), nullptr);
}

TEST_F(StoreTest, AnUnfinishedSweepIsResumedWithItsTrials) {
  Store store(folder_ / "a.db", test_options());
  const SweepInfo wanted = random_.sweep(random_.device());
  EXPECT_FALSE(store.resumable(wanted));
  const auto killed = store.begin_sweep(wanted);
  EXPECT_EQ(killed.seed, wanted.seed);
  store.add(killed.id, random_.trial(random_.problem()));
  ASSERT_TRUE(store.resumable(wanted));
  EXPECT_EQ(store.resumable(wanted)->uid, killed.uid);
  SweepInfo other_seed = wanted;
  other_seed.seed ^= 1;
  EXPECT_FALSE(store.resumable(other_seed));
  store.end_sweep(killed.id, SweepStatus::interrupted, "Ctrl-C");
  EXPECT_EQ(store.resumable(wanted)->reason, "Ctrl-C");
  EXPECT_EQ(store.resume_sweep(killed.id).status, SweepStatus::running);
  store.end_sweep(killed.id, SweepStatus::finished);
  EXPECT_FALSE(store.resumable(wanted));
  EXPECT_FALSE(store.sweep(killed.id).ended_at.empty());
  EXPECT_THROW(store.end_sweep(99, SweepStatus::finished), Error);
}

TEST_F(StoreTest, ABatchIsAllOrNothing) {
  Store store(folder_ / "a.db", test_options());
  const auto sweep = store.begin_sweep(random_.sweep(random_.device())).id;
  {
    Store::Batch batch(store);
    for (int i = 0; i < 10; ++i) store.add(sweep, random_.trial(random_.problem()));
  }
  EXPECT_TRUE(store.trials().empty());
  EXPECT_TRUE(store.stage_problems().empty());
  Store::Batch batch(store);
  for (int i = 0; i < 10; ++i) store.add(sweep, random_.trial(random_.problem()));
  batch.commit();
  EXPECT_EQ(store.trials().size(), 10U);
}

TEST_F(StoreTest, ATrialOfNoSweepIsRefused) {
  Store store(folder_ / "a.db", test_options());
  EXPECT_THROW(store.add(7, random_.trial(random_.problem())), Error);
  EXPECT_TRUE(store.trials().empty());
  EXPECT_TRUE(store.check().empty());
}

TEST_F(StoreTest, AReplayedDeviceIsAnotherDevice) {
  Store store(folder_ / "a.db", test_options());
  DeviceInfo device = random_.device();
  const auto real = store.begin_sweep(random_.sweep(device)).device_id;
  device.replayed = true;
  const auto replayed = store.begin_sweep(random_.sweep(device)).device_id;
  EXPECT_NE(real, replayed);
  EXPECT_EQ(store.devices().size(), 2U);
  EXPECT_EQ(store.find_device(device), replayed);
  EXPECT_EQ(store.devices().at(0).info.driver, device.driver);
}

TEST_F(StoreTest, InfoCounts) {
  Store store(folder_ / "a.db", test_options());
  const auto sweep = store.begin_sweep(random_.sweep(random_.device())).id;
  const Problem problem = random_.problem();
  for (int i = 0; i < 5; ++i) {
    Trial trial = random_.trial(problem);
    trial.result.timing = random_.timing();
    if (i < 2) trial.result.timing->beaten = Beaten{1, 1.3 - 0.1 * i, 2};
    store.add(sweep, trial);
  }
  store.set_winner(store.add(sweep, random_.plan_trial(problem)).id);
  store.add(random_.binary());
  const StoreInfo info = store.info();
  EXPECT_EQ(info.trials, 5);
  EXPECT_EQ(info.beaten, 2);
  EXPECT_DOUBLE_EQ(info.beaten_by_at_least, 1.2);
  EXPECT_EQ(info.plan_trials, 1);
  EXPECT_EQ(info.winners, 1);
  EXPECT_EQ(info.binaries, 1);
  EXPECT_EQ(info.sweeps, 1);
  EXPECT_GT(info.file_bytes, 0);
  EXPECT_EQ(info.schema_version, 9);
}

}  // namespace
}  // namespace phitune
