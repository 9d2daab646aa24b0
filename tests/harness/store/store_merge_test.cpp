// Two files become one without losing or duplicating a trial, in either order, however often.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "harness/error.hpp"
#include "harness/store/store.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;
using testing_support::RandomTrials;
using testing_support::TemporaryFolder;
using testing_support::test_options;

class StoreMerge : public testing::Test {
 protected:
  StoreMerge() : seed_(std::random_device{}()), random_(seed_) {}
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "seed %u\n", seed_);
  }

  Store open(const std::string& name, OpenMode mode = OpenMode::create) { return Store(folder_ / name, test_options(mode)); }

  // A sweep of some trials, plan trials with their cubins, and a winner.
  void fill(Store& store, const DeviceInfo& device, const Problem& problem, int trials) {
    const auto sweep = store.begin_sweep(random_.sweep(device)).id;
    for (int i = 0; i < trials; ++i) store.add(sweep, random_.trial(problem));
    PlanTrial best = random_.plan_trial(problem);
    for (std::string& hash : best.cubin_hashes) {
      const Binary binary = random_.binary();
      store.add(binary);
      hash = binary.cubin_hash;
    }
    store.add(sweep, random_.plan_trial(problem));
    store.set_winner(store.add(sweep, best).id);
    store.end_sweep(sweep, SweepStatus::finished);
  }

  // Everything that names or describes a trial, independent of row numbers.
  static std::multiset<std::string> contents(Store& store) {
    std::multiset<std::string> lines;
    for (const StoredTrial& row : store.trials()) {
      const auto& result = row.trial.result;
      lines.insert(store.sweep(row.sweep).uid + row.trial.problem.key() + row.trial.config.text() + row.trial.source_hash + result.reason +
                   std::to_string(result.timing ? result.timing->median_ms : -1) + std::to_string(result.seed));
    }
    for (const StoredPlanTrial& row : store.plan_trials()) {
      lines.insert(store.sweep(row.sweep).uid + row.trial.plan.problem.key() + row.trial.plan.text() + row.template_hashes.at(0));
    }
    for (const Winner& winner : store.winners())
      lines.insert("winner " + winner.device.uuid + winner.plan_trial.trial.plan.text() + winner.set_at);
    return lines;
  }

  unsigned seed_;
  RandomTrials random_;
  TemporaryFolder folder_;
};

TEST_F(StoreMerge, JoinsTwoMachinesAndIsIdempotent) {
  Store a = open("a.db");
  Store b = open("b.db");
  const Problem problem = random_.problem();
  fill(a, random_.device(), problem, 40);
  fill(b, random_.device(), problem, 60);
  auto expected = contents(a);
  expected.merge(contents(b));

  const MergeReport report = a.merge(folder_ / "b.db");
  EXPECT_EQ(report.trials, 60);
  EXPECT_EQ(report.plan_trials, 2);
  EXPECT_EQ(report.winners, 1);
  EXPECT_EQ(report.sweeps, 1);
  EXPECT_GT(report.binaries, 0);
  EXPECT_EQ(contents(a), expected);
  EXPECT_TRUE(a.check().empty());

  const MergeReport again = a.merge(folder_ / "b.db");
  EXPECT_EQ(again.trials + again.plan_trials + again.sweeps + again.binaries + again.winners + again.conflicts, 0);
  EXPECT_EQ(again.trials_present, 60);
  EXPECT_EQ(contents(a), expected);
}

TEST_F(StoreMerge, OrderDoesNotMatter) {
  const DeviceInfo device = random_.device();
  const Problem problem = random_.problem();
  {
    Store a = open("a.db");
    fill(a, device, problem, 10);
    fill(a, device, random_.problem(), 10);
    Store b = open("b.db");
    fill(b, device, problem, 10);
    fill(b, device, random_.problem(), 10);
  }
  Store ab = open("ab.db");
  ab.merge(folder_ / "a.db");
  ab.merge(folder_ / "b.db");
  Store ba = open("ba.db");
  ba.merge(folder_ / "b.db");
  ba.merge(folder_ / "a.db");
  EXPECT_EQ(contents(ab), contents(ba));
  EXPECT_EQ(ab.winners().size(), 3U);
  EXPECT_EQ(ab.devices().size(), 1U);
}

TEST_F(StoreMerge, ASweepThatWentOnAfterItsFileWasCopiedIsCompleted) {
  std::int64_t sweep = 0;
  const Problem problem = random_.problem();
  {
    Store a = open("a.db");
    sweep = a.begin_sweep(random_.sweep(random_.device())).id;
    for (int i = 0; i < 20; ++i) a.add(sweep, random_.trial(problem));
  }
  fs::copy_file(folder_ / "a.db", folder_ / "early.db");
  Store a = open("a.db");
  for (int i = 0; i < 5; ++i) a.add(sweep, random_.trial(problem));
  a.end_sweep(sweep, SweepStatus::finished);

  Store early = open("early.db");
  const MergeReport report = early.merge(folder_ / "a.db");
  EXPECT_EQ(report.trials, 5);
  EXPECT_EQ(report.trials_present, 20);
  EXPECT_EQ(early.sweeps().at(0).status, SweepStatus::finished);
  EXPECT_EQ(contents(early), contents(a));
  // And the other way round nothing is taken back.
  a.merge(folder_ / "early.db");
  EXPECT_EQ(a.sweeps().at(0).status, SweepStatus::finished);
  EXPECT_EQ(a.trials().size(), 25U);
}

TEST_F(StoreMerge, ALaterWinnerStaysInBothDirections) {
  const DeviceInfo device = random_.device();
  const Problem problem = random_.problem();
  {
    Store a = open("a.db");
    fill(a, device, problem, 1);
    Store b = open("b.db");
    fill(b, device, problem, 1);
  }
  SQLite::Database((folder_ / "a.db").string(), SQLite::OPEN_READWRITE).exec("UPDATE winner SET set_at = '2024-01-01T00:00:00Z'");
  fs::copy_file(folder_ / "a.db", folder_ / "a2.db");
  Store a = open("a.db");
  Store b = open("b.db");
  const std::string later = b.winners().at(0).plan_trial.trial.plan.text();
  EXPECT_EQ(a.merge(folder_ / "b.db").winners, 1);
  EXPECT_EQ(a.winners().at(0).plan_trial.trial.plan.text(), later);
  EXPECT_EQ(b.merge(folder_ / "a2.db").winners, 0);
  EXPECT_EQ(b.winners().at(0).plan_trial.trial.plan.text(), later);
}

TEST_F(StoreMerge, TrialsUnderOneNameWithOtherContentAreConflicts) {
  {
    Store a = open("a.db");
    fill(a, random_.device(), random_.problem(), 10);
  }
  fs::copy_file(folder_ / "a.db", folder_ / "edited.db");
  SQLite::Database((folder_ / "edited.db").string(), SQLite::OPEN_READWRITE).exec("UPDATE trial SET seed = seed + 1 WHERE id <= 3");
  Store a = open("a.db");
  const auto before = contents(a);
  const MergeReport report = a.merge(folder_ / "edited.db");
  EXPECT_EQ(report.conflicts, 3);
  EXPECT_EQ(report.trials, 0);
  EXPECT_EQ(contents(a), before);
}

TEST_F(StoreMerge, AMergeThatFailsChangesNothing) {
  Store a = open("a.db");
  fill(a, random_.device(), random_.problem(), 10);
  const auto before = contents(a);
  {
    Store b = open("b.db");
    fill(b, random_.device(), random_.problem(), 10);
  }
  // The damage is in what is merged last.
  SQLite::Database((folder_ / "b.db").string(), SQLite::OPEN_READWRITE).exec("UPDATE binary SET checksum = 'no'");
  EXPECT_THROW(a.merge(folder_ / "b.db"), Error);
  EXPECT_EQ(contents(a), before);
  EXPECT_THROW(a.merge(folder_ / "a.db"), Error);
  EXPECT_THROW(a.merge(folder_ / "missing.db"), Error);
  fill(a, random_.device(), random_.problem(), 1);
}

}  // namespace
}  // namespace phitune
