// A recording holds a sweep whole, in bytes that do not depend on where the sweep was stored.
#include "harness/store/recording.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>

#include "harness/error.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;
using testing_support::equal;
using testing_support::RandomTrials;
using testing_support::TemporaryFolder;
using testing_support::test_options;

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class RecordingTest : public testing::Test {
 protected:
  RecordingTest() : seed_(std::random_device{}()), random_(seed_), store_(folder_ / "a.db", test_options()) {
    sweep_ = store_.begin_sweep(random_.sweep(random_.device())).id;
    const Problem problem = random_.problem();
    for (int i = 0; i < 100; ++i) store_.add(sweep_, random_.trial(problem));
    for (int i = 0; i < 5; ++i) store_.add(sweep_, random_.plan_trial(problem));
    store_.end_sweep(sweep_, SweepStatus::finished);
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "seed %u\n", seed_);
  }

  unsigned seed_;
  RandomTrials random_;
  TemporaryFolder folder_;
  Store store_;
  std::int64_t sweep_ = 0;
};

TEST_F(RecordingTest, ReadsWhatWasWritten) {
  Recording recording = recording_of(store_, sweep_);
  recording.trials[0].result = random_.result(Outcome::wrong_result);
  recording.trials[0].result.errors->worst_element = INFINITY;
  write_recording(folder_ / "r.jsonl.gz", recording);
  const Recording back = read_recording(folder_ / "r.jsonl.gz");
  EXPECT_EQ(back.sweep.uid, recording.sweep.uid);
  EXPECT_EQ(back.sweep.seed, recording.sweep.seed);
  EXPECT_EQ(back.sweep.device.uuid, recording.sweep.device.uuid);
  EXPECT_EQ(back.sweep.device.copy_tbps, recording.sweep.device.copy_tbps);
  EXPECT_EQ(back.sweep.status, SweepStatus::finished);
  ASSERT_EQ(back.trials.size(), 100U);
  for (std::size_t i = 0; i < back.trials.size(); ++i) EXPECT_TRUE(equal(back.trials[i], recording.trials[i])) << i;
  ASSERT_EQ(back.plan_trials.size(), 5U);
  for (std::size_t i = 0; i < back.plan_trials.size(); ++i) EXPECT_TRUE(equal(back.plan_trials[i], recording.plan_trials[i])) << i;
}

TEST_F(RecordingTest, SameSweepSameBytesWhereverItWasMerged) {
  Store other(folder_ / "b.db", test_options());
  other.add(other.begin_sweep(random_.sweep(random_.device())).id, random_.trial(random_.problem()));
  other.merge(folder_ / "a.db");
  const std::string uid = store_.sweep(sweep_).uid;
  for (const SweepInfo& sweep : other.sweeps()) {
    if (sweep.uid == uid) write_recording(folder_ / "b.gz", recording_of(other, sweep.id));
  }
  write_recording(folder_ / "a.gz", recording_of(store_, sweep_));
  EXPECT_EQ(bytes_of(folder_ / "a.gz"), bytes_of(folder_ / "b.gz"));
  write_recording(folder_ / "again.gz", read_recording(folder_ / "a.gz"));
  EXPECT_EQ(bytes_of(folder_ / "a.gz"), bytes_of(folder_ / "again.gz"));
}

TEST_F(RecordingTest, ACutOrForeignFileIsRefused) {
  write_recording(folder_ / "r.gz", recording_of(store_, sweep_));
  const auto size = fs::file_size(folder_ / "r.gz");
  for (int round = 0; round < 20; ++round) {
    fs::copy_file(folder_ / "r.gz", folder_ / "cut.gz", fs::copy_options::overwrite_existing);
    fs::resize_file(folder_ / "cut.gz", static_cast<std::uintmax_t>(random_.integer(0, static_cast<std::int64_t>(size) - 1)));
    EXPECT_THROW((void)read_recording(folder_ / "cut.gz"), Error) << round;
  }
  std::ofstream(folder_ / "text") << "hello\n";
  EXPECT_THROW((void)read_recording(folder_ / "text"), Error);
  EXPECT_THROW((void)read_recording(folder_ / "missing"), Error);
  EXPECT_THROW((void)read_recording(folder_.path()), Error);
}

TEST_F(RecordingTest, NothingIsLeftWhenItCannotBeWritten) {
  EXPECT_THROW(write_recording(folder_ / "no/such/folder.gz", recording_of(store_, sweep_)), Error);
  EXPECT_THROW((void)recording_of(store_, 99), Error);
  fs::create_directory(folder_ / "taken");
  EXPECT_THROW(write_recording(folder_ / "taken", recording_of(store_, sweep_)), Error);
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    EXPECT_EQ(entry.path().string().find("partial"), std::string::npos) << entry.path();
  }
}

}  // namespace
}  // namespace phitune
