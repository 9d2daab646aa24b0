// kill -9 of the sweep and of its worker at random moments: nothing lost but the trial in flight, nothing twice, the same winners.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>

#include "harness/store/store.hpp"
#include "tests/harness/cli/process.hpp"
#include "tests/harness/worker/simulated.hpp"

namespace phitune {
namespace {

using testing_support::Process;
using testing_support::RandomTrials;
using testing_support::simulation;
using testing_support::TemporaryFolder;

// The worker of a sweep: its only child.
pid_t child_of(pid_t parent) {
  std::ifstream children("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) + "/children");
  pid_t child = 0;
  children >> child;
  return child;
}

using Name = std::tuple<std::string, std::string, std::string>;  // stage problem, config, source

std::map<Name, Result> trials_of(const std::filesystem::path& database) {
  Store store(database, {.mode = OpenMode::read_only});
  std::map<Name, Result> trials;
  store.for_each_trial({}, [&](const StoredTrial& row) {
    const Trial& trial = row.trial;
    EXPECT_TRUE(trials.emplace(Name(trial.problem.key(), trial.config.text(), trial.source_hash), trial.result).second) << "twice";
  });
  return trials;
}

std::map<std::string, std::string> winners_of(const std::filesystem::path& database) {
  Store store(database, {.mode = OpenMode::read_only});
  std::map<std::string, std::string> winners;
  for (const Winner& winner : store.winners()) winners[winner.plan_trial.trial.plan.problem.key()] = winner.plan_trial.trial.plan.text();
  return winners;
}

class KillSweepTest : public testing::Test {
 protected:
  std::vector<std::string> command(const std::string& database, int strategy_seed) const {
    return {"sweep",
            "--device",
            device_,
            "--db",
            (folder_ / database).string(),
            "--problem",
            "b1 t512 h1 d16 p1 bf16 ungated none",
            "--problem",
            "b1 t256 h1 d16 p1 bf16 ungated none",
            "--trials",
            "4",
            "--carried",
            "1",
            "--bound",
            "1.2",
            "--cache",
            PHITUNE_TEST_CACHE,
            "--seed",
            std::to_string(strategy_seed),
            "--resume",
            "--quiet"};
  }

  TemporaryFolder folder_;
  std::string device_ = simulation(folder_, "delay_ms = 1.0\nnoise = 0.01\n");
};

TEST_F(KillSweepTest, TwoHundredKillsLoseNothingAndRepeatNothing) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomTrials random(seed);
  constexpr int wanted = 200;
  int kills = 0, sweeps = 0, worker_kills = 0;
  for (; kills < wanted; ++sweeps) {
    // An undisturbed sweep of the same seed is what the killed one must arrive at.
    const std::string calm = "calm" + std::to_string(sweeps) + ".db", killed = "killed" + std::to_string(sweeps) + ".db";
    ASSERT_EQ(Process(command(calm, sweeps), folder_.path()).wait().code, 0);
    const std::map<Name, Result> expected = trials_of(folder_ / calm);
    std::map<Name, Result> before;
    for (int attempt = 0;; ++attempt) {
      ASSERT_LT(attempt, 200) << "it never ends";
      Process sweep(command(killed, sweeps), folder_.path());
      // About as long as a whole sweep takes at most; late ones let it finish.
      ::usleep(static_cast<useconds_t>(random.integer(0, 150000)));
      if (kills < wanted && random.chance(0.3)) {
        if (const pid_t worker = child_of(sweep.id()); worker > 0) {
          ::kill(worker, SIGKILL);
          ++kills;
          ++worker_kills;
        }
        ::usleep(static_cast<useconds_t>(random.integer(0, 30000)));
      }
      if (kills < wanted && random.chance(0.9)) sweep.signal(SIGKILL);
      const auto ended = sweep.wait();
      kills += ended.code == 128 + SIGKILL ? 1 : 0;
      if (ended.code == 0) break;
      ASSERT_EQ(ended.code, 128 + SIGKILL) << ended.err;
      if (!std::filesystem::exists(folder_ / killed)) continue;
      if (std::filesystem::file_size(folder_ / killed) == 0) continue;
      Store store(folder_ / killed);
      ASSERT_TRUE(store.check().empty());
      const std::map<Name, Result> now = trials_of(folder_ / killed);
      for (const auto& [name, result] : before) ASSERT_TRUE(now.contains(name)) << "a trial that was stored is gone";
      before = now;
      // Killed between its last word to the database and its exit.
      const std::vector<SweepInfo> begun = store.sweeps();
      if (!begun.empty() && begun.front().status == SweepStatus::finished) break;
    }
    const std::map<Name, Result> arrived = trials_of(folder_ / killed);
    ASSERT_EQ(arrived.size(), expected.size());
    for (const auto& [name, result] : expected) {
      ASSERT_TRUE(arrived.contains(name));
      EXPECT_EQ(arrived.at(name).outcome, result.outcome) << arrived.at(name).reason;
      EXPECT_EQ(arrived.at(name).timing, result.timing);
    }
    EXPECT_EQ(winners_of(folder_ / killed), winners_of(folder_ / calm));
    Store store(folder_ / killed);
    EXPECT_EQ(store.sweeps().size(), 1u);
    EXPECT_EQ(store.info().quarantined, 0) << "who is killed from outside is not guilty";
  }
  std::printf("%d kills (%d of a worker) over %d sweeps\n", kills, worker_kills, sweeps);
  EXPECT_GE(worker_kills, 10);
}

TEST_F(KillSweepTest, NothingIsLostOrRepeatedOnTwoDevicesEither) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomTrials random(seed);
  device_.clear();
  for (const std::string board : {"0", "1"}) {
    std::ofstream(folder_ / (board + ".toml")) << "board = \"" << board << "\"\ndelay_ms = 2.0\n";
    device_ += (device_.empty() ? "sim:" : ",sim:") + (folder_ / (board + ".toml")).string();
  }
  // A strategy that does not look at times: which candidate had which time to beat depends on who was faster.
  const auto command_of = [&](const std::string& database) {
    std::vector<std::string> words = command(database, 1);
    words.insert(words.end(), {"--strategy", "random"});
    return words;
  };
  ASSERT_EQ(Process(command_of("calm.db"), folder_.path()).wait().code, 0);
  const std::map<Name, Result> expected = trials_of(folder_ / "calm.db");
  int kills = 0;
  for (int sweep = 0; kills < 20; ++sweep) {
    ASSERT_LT(sweep, 50) << "sweeps end before they are killed";
    const std::string database = "killed" + std::to_string(sweep) + ".db";
    for (int attempt = 0;; ++attempt) {
      ASSERT_LT(attempt, 200) << "it never ends";
      Process process(command_of(database), folder_.path());
      ::usleep(static_cast<useconds_t>(random.integer(20000, 200000)));
      if (random.chance(0.8)) process.signal(SIGKILL);
      const auto ended = process.wait();
      kills += ended.code == 128 + SIGKILL;
      if (ended.code == 0) break;
      ASSERT_EQ(ended.code, 128 + SIGKILL) << ended.err;
      if (!std::filesystem::exists(folder_ / database) || std::filesystem::file_size(folder_ / database) == 0) continue;
      // Killed between its last word to the database and its exit.
      const std::vector<SweepInfo> begun = Store(folder_ / database).sweeps();
      if (!begun.empty() && begun.front().status == SweepStatus::finished) break;
    }
    const std::map<Name, Result> arrived = trials_of(folder_ / database);
    ASSERT_EQ(arrived.size(), expected.size());
    for (const auto& [name, result] : expected) {
      ASSERT_TRUE(arrived.contains(name));
      EXPECT_EQ(arrived.at(name).outcome, result.outcome) << arrived.at(name).reason;
    }
    EXPECT_EQ(winners_of(folder_ / database), winners_of(folder_ / "calm.db"));
    Store store(folder_ / database);
    EXPECT_EQ(store.info().quarantined, 0);
  }
}

}  // namespace
}  // namespace phitune
