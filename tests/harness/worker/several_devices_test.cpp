// One sweep on several devices of one model: every trial once, on any of them, and one that is lost ends nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "harness/device/device_group.hpp"
#include "harness/error.hpp"
#include "harness/sweep.hpp"
#include "tests/harness/worker/simulated.hpp"

namespace phitune {
namespace {

using testing_support::nth_stage;
using testing_support::TemporaryFolder;
using testing_support::workers;
using Simulations = std::vector<std::string>;

class SeveralDevicesTest : public testing::Test {
 protected:
  /// Device n is the n-th board of the model, with this in its file besides.
  DeviceGroup open(const Simulations& texts, bool in_workers = false) {
    std::vector<std::string> names;
    for (std::size_t n = 0; n < texts.size(); ++n) {
      const std::filesystem::path file = folder_ / ("gpu" + std::to_string(n) + ".toml");
      std::ofstream(file) << "board = \" " << n << "\"\n" << texts[n];
      names.push_back("sim:" + file.string());
    }
    return DeviceGroup(names, [in_workers](const std::string& name) -> std::unique_ptr<Device> {
      if (in_workers) return std::make_unique<SupervisedDevice>(name, Use::measure, workers());
      return open_device(name);
    });
  }

  SweepSummary sweep_on(Device& device, const std::string& database) {
    Compiler compiler({device.info().architecture, PHITUNE_TEST_CACHE, 0});
    Store store(folder_ / database);
    SweepOptions options;
    options.search.strategy = "random";
    options.search.trials = 6;
    options.search.carried = 2;
    options.search.plan_bound = 1.2;
    options.search.seed = 5;
    Progress silent(Progress::Style::silent);
    const std::atomic<bool> stop{false};
    SweepSummary summary = sweep(suite_of({"b1 t512 h1 d16 p1 bf16 ungated none"}), device, compiler, store, options, silent, stop);
    EXPECT_TRUE(store.check().empty());
    return summary;
  }

  // What each trial came to, by its name. Fails when one was made twice, or the same machine code measured twice.
  std::map<std::string, double> trials(const std::string& database) {
    Store store(folder_ / database);
    std::map<std::string, double> medians;
    std::set<std::string> identities;
    store.for_each_trial({}, [&](const StoredTrial& row) {
      const Trial& trial = row.trial;
      const double ms = trial.result.timing ? trial.result.timing->median_ms : 0;
      EXPECT_TRUE(medians.emplace(candidate_name({trial.problem, trial.config}), ms).second);
      if (!trial.identity.empty() && trial.measured_in.empty()) {
        EXPECT_TRUE(identities.insert(trial.identity).second) << "measured twice";
      }
    });
    return medians;
  }

  std::map<std::string, int> boards(const std::string& database) {
    Store store(folder_ / database);
    std::map<std::string, int> counts;
    store.for_each_trial({}, [&](const StoredTrial& row) {
      if (row.trial.measured_in.empty() && row.trial.result.timing) ++counts[row.trial.result.board];
    });
    return counts;
  }

  TemporaryFolder folder_;
};

TEST_F(SeveralDevicesTest, ShareTheTrialsOfASweepAndArriveWhereOneDoes) {
  DeviceGroup one = open({"delay_ms = 2.0"}), three = open({"delay_ms = 2.0", "delay_ms = 2.0", "delay_ms = 2.0"}, true);
  const SweepSummary alone = sweep_on(one, "one.db"), together = sweep_on(three, "three.db");
  EXPECT_EQ(trials("three.db"), trials("one.db"));
  ASSERT_TRUE(together.problems[0].winner);
  EXPECT_EQ(together.problems[0].winner->plan, alone.problems[0].winner->plan);
  EXPECT_EQ(together.trials, alone.trials);
  const std::map<std::string, int> ran = boards("three.db");
  EXPECT_EQ(ran.size(), 3u) << "each of them worked";
  EXPECT_TRUE(ran.contains("")) << "the first board is the sweep's own";
  EXPECT_TRUE(ran.contains("SIM-simulated GPU 2"));
  for (const PlanTrial& finalist : together.problems[0].finalists) EXPECT_EQ(finalist.result.board, "") << "finals are on one device";
  EXPECT_TRUE(three.losses().empty());
}

TEST_F(SeveralDevicesTest, ConfigsThatAreComparedRunOnOneOfThem) {
  DeviceGroup three = open({"delay_ms = 2.0", "delay_ms = 2.0", "delay_ms = 2.0"});
  static_cast<void>(sweep_on(three, "three.db"));
  std::map<std::string, std::set<std::string>> boards;
  std::size_t most = 0;
  Store(folder_ / "three.db").for_each_trial({}, [&](const StoredTrial& row) {
    if (!row.trial.measured_in.empty() || !row.trial.result.timing) return;
    std::set<std::string>& of_stage = boards[row.trial.problem.key()];
    of_stage.insert(row.trial.result.board);
    most = std::max(most, of_stage.size());
  });
  EXPECT_GT(boards.size(), 3u);
  EXPECT_EQ(most, 1u) << "nobody says that two boards of a model are equally fast";
}

TEST_F(SeveralDevicesTest, OneThatIsLostIsLeftOutAndItsTrialRunsOnAnother) {
  DeviceGroup calm = open({""}), group = open({"delay_ms = 2.0", "[[fault]]\nkind = \"lost\"\nvalue = 3600.0\n"});
  static_cast<void>(sweep_on(calm, "calm.db"));
  const SweepSummary summary = sweep_on(group, "lost.db");
  EXPECT_EQ(trials("lost.db"), trials("calm.db")) << "nothing is missing and nothing has failed";
  EXPECT_EQ(boards("lost.db").size(), 1u);
  EXPECT_TRUE(summary.problems[0].winner);
  ASSERT_EQ(group.losses().size(), 1u);
  EXPECT_NE(group.losses()[0].find("gpu1.toml was lost and left out"), std::string::npos) << group.losses()[0];
}

TEST_F(SeveralDevicesTest, WhenTheFirstIsLostFinalsRunOnTheSecond) {
  DeviceGroup group = open({"[[fault]]\nkind = \"lost\"\nvalue = 3600.0\n", ""});
  const SweepSummary summary = sweep_on(group, "first.db");
  ASSERT_TRUE(summary.problems[0].winner);
  EXPECT_EQ(summary.problems[0].winner->result.board, "SIM-simulated GPU 1");
}

TEST_F(SeveralDevicesTest, WhenAllAreLostTheSweepEndsAndCanBeResumed) {
  const std::string lost = "[[fault]]\nkind = \"lost\"\nvalue = 3600.0\nmatch = \"attention\"\n";
  DeviceGroup group = open({lost, lost});
  EXPECT_THROW(static_cast<void>(sweep_on(group, "all.db")), DeviceLost);
  Store store(folder_ / "all.db");
  ASSERT_EQ(store.sweeps().size(), 1u);
  EXPECT_EQ(store.sweeps()[0].status, SweepStatus::failed);
}

TEST_F(SeveralDevicesTest, ACandidateThatTakesTwoDownDoesNotGetAThird) {
  const std::string lost = "[[fault]]\nkind = \"lost\"\nvalue = 3600.0\nmatch = \"t128 \"\n";
  DeviceGroup group = open({lost, lost, lost});
  std::vector<StageRun> todo;
  for (std::uint64_t n = 0; n < 6; ++n) todo.push_back({nth_stage(static_cast<int>(n)), {}, n});
  std::map<std::uint64_t, Outcome> seen;
  std::size_t at = 0;
  group.run_stages([&](const Device::MayRun&) { return at < todo.size() ? std::optional(todo[at++]) : std::nullopt; },
                   [&](const StageRun& run, Result result) { EXPECT_TRUE(seen.emplace(run.number, result.outcome).second); });
  ASSERT_EQ(seen.size(), 6u);
  for (const auto& [number, outcome] : seen) EXPECT_EQ(outcome, number == 1 ? Outcome::launch_failed : Outcome::ok) << number;
  EXPECT_EQ(group.losses().size(), 2u);
  const std::vector<Incident> incidents = group.take_incidents();
  ASSERT_EQ(incidents.size(), 1u);
  EXPECT_EQ(incidents[0].verdict, Incident::Verdict::guilty);
  EXPECT_EQ(incidents[0].subject, candidate_name(nth_stage(1).stage));
}

TEST_F(SeveralDevicesTest, ACandidateThatCrashesIsInQuarantineWhicheverRanIt) {
  const std::string crash = testing_support::fault(1, "crash");
  DeviceGroup group = open({crash, crash}, true);
  std::vector<StageRun> todo;
  for (std::uint64_t n = 0; n < 4; ++n) todo.push_back({nth_stage(static_cast<int>(n)), {}, n});
  std::map<std::uint64_t, Outcome> seen;
  std::size_t at = 0;
  group.run_stages([&](const Device::MayRun&) { return at < todo.size() ? std::optional(todo[at++]) : std::nullopt; },
                   [&](const StageRun& run, Result result) { seen[run.number] = result.outcome; });
  EXPECT_EQ(seen[1], Outcome::launch_failed);
  EXPECT_EQ(seen[3], Outcome::ok);
  ASSERT_EQ(group.take_incidents().size(), 1u);
  EXPECT_TRUE(group.losses().empty()) << "its worker ended, not the device";
}

TEST_F(SeveralDevicesTest, AnErrorOfWhoAsksEndsTheCallOnceNothingIsRunning) {
  DeviceGroup group = open({"delay_ms = 5.0", "delay_ms = 5.0"});
  std::uint64_t asked = 0, done = 0;
  const auto next = [&](const Device::MayRun&) -> std::optional<StageRun> { return StageRun{nth_stage(static_cast<int>(asked)), {}, asked++}; };
  EXPECT_THROW(group.run_stages(next,
                                [&](const StageRun&, const Result&) {
                                  if (++done == 3) throw Error(ExitCode::io, "the disk is full");
                                }),
               Error);
  EXPECT_EQ(done, asked) << "what was running was waited for";
}

TEST_F(SeveralDevicesTest, DifferentModelsAreRefusedWithWhatToDo) {
  try {
    const DeviceGroup group = open({"", "name = \"another GPU\""});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    for (const char* words : {"simulated GPU", "another GPU", "Sweep each by itself", "gpu1.toml"})
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
  const std::filesystem::path file = folder_ / "same.toml";
  std::ofstream(file) << "";
  EXPECT_THROW(DeviceGroup({"sim:" + file.string(), "sim:" + file.string()}, [](const std::string& name) { return open_device(name); }), Error);
  EXPECT_THROW(DeviceGroup({"sim:" + file.string(), "sim:/nowhere.toml"}, [](const std::string& name) { return open_device(name); }), Error);
}

TEST(DevicesNamed, AListPartsAtCommasBeforeADevice) {
  EXPECT_EQ(devices_named("cuda:0,cuda:1"), (Simulations{"cuda:0", "cuda:1"}));
  EXPECT_EQ(devices_named("sim:a,b.toml,sim:c.toml"), (Simulations{"sim:a,b.toml", "sim:c.toml"}));
  EXPECT_EQ(devices_named("replay:a,b.jsonl"), (Simulations{"replay:a,b.jsonl"}));
}

}  // namespace
}  // namespace phitune
