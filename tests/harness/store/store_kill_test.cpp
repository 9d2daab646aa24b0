// kill -9 at any moment: the file opens, every trial whose add returned is there and whole, and resuming duplicates none.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "harness/store/store.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

using testing_support::equal;
using testing_support::RandomTrials;
using testing_support::TemporaryFolder;
using testing_support::test_options;

constexpr int planned = 4000;

std::vector<Trial> plan_trials_of(unsigned seed) {
  RandomTrials random(seed);
  const Problem problem = random.problem();
  std::vector<Trial> trials;
  for (int i = 0; i < planned; ++i) trials.push_back(random.trial(problem));
  return trials;
}

// What a resumed sweep does: skip what is there, add the rest, and say after each that add has returned.
[[noreturn]] void sweep_in_child(const std::filesystem::path& path, const SweepInfo& info, const std::vector<Trial>& trials, int told) {
  int code = 1;
  try {
    Store store(path, test_options());
    const auto unfinished = store.resumable(info);
    const auto sweep = unfinished ? store.resume_sweep(unfinished->id).id : store.begin_sweep(info).id;
    const auto done = store.trials({.sweep = sweep}).size();
    for (std::size_t i = done; i < trials.size(); ++i) {
      store.add(sweep, trials[i]);
      const auto count = static_cast<std::uint32_t>(i + 1);
      if (write(told, &count, sizeof count) != sizeof count) break;
    }
    code = 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
  }
  _exit(code);
}

TEST(StoreKill, EveryTrialThatWasAddedSurvivesWhole) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  const std::vector<Trial> trials = plan_trials_of(seed);
  RandomTrials random(seed + 1);
  const SweepInfo info = random.sweep(random.device());
  TemporaryFolder folder;

  std::size_t survived = 0;
  int killed = 0;
  for (int round = 0; round < 12 && survived < trials.size(); ++round) {
    int told[2];
    ASSERT_EQ(pipe(told), 0);
    const pid_t child = fork();
    if (child == 0) sweep_in_child(folder / "a.db", info, trials, told[1]);
    close(told[1]);
    std::uint32_t acknowledged = static_cast<std::uint32_t>(survived);
    const auto next = [&] { return read(told[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged; };
    // The first rounds hit the creation of the file, the others a random moment after a random number of trials, however slow the machine.
    for (std::int64_t trials_seen = round < 4 ? 0 : random.integer(1, 300); trials_seen > 0 && next();) --trials_seen;
    usleep(static_cast<useconds_t>(random.integer(0, round < 4 ? 20000 : 400)));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    killed += WIFSIGNALED(status) ? 1 : 0;
    while (next()) {
    }
    close(told[0]);
    if (!std::filesystem::exists(folder / "a.db")) continue;

    Store store(folder / "a.db", test_options());
    EXPECT_TRUE(store.check().empty());
    const auto rows = store.trials();
    EXPECT_GE(rows.size(), acknowledged) << "a trial that was added is gone";
    EXPECT_LE(rows.size(), acknowledged + 1U);
    for (std::size_t i = survived; i < rows.size(); ++i) ASSERT_TRUE(equal(rows[i].trial, trials[i])) << i;
    EXPECT_LE(store.sweeps().size(), 1U);
    survived = rows.size();
  }
  EXPECT_GE(killed, 8) << "the test killed nothing";
  EXPECT_GT(survived, 0U);

  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = open("/dev/null", O_WRONLY);
    sweep_in_child(folder / "a.db", info, trials, nowhere);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  const auto rows = Store(folder / "a.db", test_options()).trials();
  ASSERT_EQ(rows.size(), trials.size());
  for (std::size_t i = 0; i < rows.size(); ++i) ASSERT_TRUE(equal(rows[i].trial, trials[i])) << i;
}

}  // namespace
}  // namespace phitune
