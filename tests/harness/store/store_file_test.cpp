// Files that are old, foreign, newer, damaged, read-only or full: an error that says so, or a migration; never a crash.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "harness/error.hpp"
#include "harness/store/schema.hpp"
#include "harness/store/store.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;
using testing_support::equal;
using testing_support::RandomTrials;
using testing_support::TemporaryFolder;
using testing_support::test_options;

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void expect_says(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << message << "' does not say '" << part << "'";
}

// root may write everywhere; the tests of permissions are about everybody else.
class AsNobody {
 public:
  AsNobody() : root_(geteuid() == 0) {
    if (root_ && seteuid(65534) != 0) throw std::runtime_error("cannot become nobody");
  }
  ~AsNobody() {
    if (root_ && seteuid(0) != 0) std::abort();
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  bool root_;
};

// Writes a file of schema version 1 as the first release would have left it.
void write_version_1(const fs::path& path) {
  SQLite::Database database(path.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  schema::migrate(database, schema::migrations().first(1));
  database.exec(
      "INSERT INTO device VALUES (1, 'GPU-1', 'NVIDIA Old', 'sm_80', 80, 108, 1, 2, 3, 4, 65536, 0);"
      "INSERT INTO sweep VALUES (1, '0123456789abcdef0123456789abcdef', 1, 'old', 'h', 'random', -1, '', '0.0.9', '12.4', '550', '12.4', "
      "1.5, 300, "
      "'finished', '', '2024-01-01T00:00:00Z', '2024-01-01T01:00:00Z');"
      "INSERT INTO stage_problem VALUES (1, 'scan sm80 | expand_mma c1024 d_tile8 state_bf16 partial_bf16 | forward b1 t4096 hq8 hk8 d64 "
      "e64 p2 "
      "bf16 gated sum bthd', 'scan', 'sm80', 'x', 'y');"
      "INSERT INTO trial (sweep_id, stage_problem_id, config, outcome, reason, seed, verify_ms, measure_ms, compile_ms, cache_hit, "
      "cubin_hash, "
      "source_hash, created_at) VALUES (1, 1, 'warps=4', 'pruned', 'too big', 7, 0, 0, 0, 0, '', '', '2024-01-01T00:30:00Z');");
}

TEST(StoreFile, AnOldFileIsMigratedWhenOpenedForWriting) {
  TemporaryFolder folder;
  write_version_1(folder / "old.db");
  {
    Store store(folder / "old.db", test_options());
    EXPECT_EQ(store.info().schema_version, 1);
    ASSERT_EQ(store.trials().size(), 1U);
    EXPECT_EQ(store.trials()[0].trial.result.reason, "too big");
    EXPECT_EQ(store.sweeps().at(0).seed, ~std::uint64_t{0});
    EXPECT_TRUE(store.check().empty());
  }
  SQLite::Database database((folder / "old.db").string());
  EXPECT_EQ(schema::version(database), schema::current_version());
  EXPECT_EQ(database.execAndGet("SELECT reason FROM trial_view").getString(), "too big");
}

TEST(StoreFile, WhatWasColdBecomesFlushAndWhatWasWarmHot) {
  TemporaryFolder folder;
  write_version_1(folder / "old.db");
  {
    SQLite::Database database((folder / "old.db").string(), SQLite::OPEN_READWRITE);
    for (const char* cold : {"1", "0"})
      database.exec(std::string("INSERT INTO trial (sweep_id, stage_problem_id, config, outcome, reason, median_ms, iqr_ms, samples, cold_l2, "
                                "sm_clock_mhz, temperature_c, throttle_reasons, seed, verify_ms, measure_ms, compile_ms, cache_hit, cubin_hash, "
                                "source_hash, created_at) VALUES (1, 1, 'warps=1") +
                    cold + "', 'ok', '', 1.5, 0.1, x'', " + cold + ", 0, 0, '', 7, 0, 0, 0, 0, '', '', '2024-01-01T00:30:00Z')");
  }
  Store store(folder / "old.db", test_options());
  const std::vector<StoredTrial> trials = store.trials({.outcome = Outcome::ok});
  ASSERT_EQ(trials.size(), 2U);
  EXPECT_EQ(to_string(trials[0].trial.result.timing->regime), "flush");
  EXPECT_EQ(to_string(trials[1].trial.result.timing->regime), "hot");
  EXPECT_EQ(trials[0].trial.result.timing->median_ms, 1.5);
}

TEST(StoreFile, AnOldFileIsReadAsItIs) {
  TemporaryFolder folder;
  write_version_1(folder / "old.db");
  EXPECT_EQ(Store(folder / "old.db", test_options(OpenMode::read_only)).trials().size(), 1U);
  SQLite::Database database((folder / "old.db").string());
  EXPECT_EQ(schema::version(database), 1);
}

TEST(StoreFile, AMigrationThatFailsLeavesTheOldVersion) {
  TemporaryFolder folder;
  write_version_1(folder / "old.db");
  SQLite::Database database((folder / "old.db").string(), SQLite::OPEN_READWRITE);
  const schema::Migration broken[] = {{2, "CREATE TABLE half (a INTEGER) STRICT; CREATE TABLE half (a INTEGER) STRICT;"}};
  EXPECT_THROW(schema::migrate(database, broken), SQLite::Exception);
  EXPECT_EQ(schema::version(database), 1);
  EXPECT_FALSE(database.tableExists("half"));
}

TEST(StoreFile, MigrationsAreNumberedInOrder) {
  int expected = 1;
  for (const schema::Migration& step : schema::migrations()) EXPECT_EQ(step.to, expected++);
  EXPECT_EQ(schema::current_version(), expected - 1);
}

TEST(StoreFile, AForeignDatabaseIsRefusedAndUntouched) {
  TemporaryFolder folder;
  {
    SQLite::Database database((folder / "foreign.db").string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    database.exec("CREATE TABLE trial (a)");
  }
  const auto size = fs::file_size(folder / "foreign.db");
  expect_says(message_of([&] { Store store(folder / "foreign.db", test_options()); }), "another program");
  SQLite::Database database((folder / "foreign.db").string());
  EXPECT_EQ(database.execAndGet("PRAGMA journal_mode").getString(), "delete");
  EXPECT_EQ(fs::file_size(folder / "foreign.db"), size);
}

TEST(StoreFile, ANewerFileIsRefused) {
  TemporaryFolder folder;
  { Store store(folder / "new.db", test_options()); }
  SQLite::Database((folder / "new.db").string(), SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 99");
  for (const OpenMode mode : {OpenMode::create, OpenMode::read_only}) {
    expect_says(message_of([&] { Store store(folder / "new.db", test_options(mode)); }), "newer phitune (schema version 99");
  }
}

TEST(StoreFile, NotADatabaseAFolderAndNothingAtAll) {
  TemporaryFolder folder;
  std::ofstream(folder / "notes.txt") << std::string(5000, 'x');
  std::ofstream(folder / "empty.db") << "";
  for (const OpenMode mode : {OpenMode::create, OpenMode::read_write, OpenMode::read_only}) {
    expect_says(message_of([&] { Store store(folder / "notes.txt", test_options(mode)); }), "not a SQLite database");
    expect_says(message_of([&] { Store store(folder.path(), test_options(mode)); }), "folder");
  }
  expect_says(message_of([&] { Store store(folder / "missing.db", test_options(OpenMode::read_only)); }), "no such file");
  expect_says(message_of([&] { Store store(folder / "missing.db", test_options(OpenMode::read_write)); }), "no such file");
  expect_says(message_of([&] { Store store(folder / "empty.db", test_options(OpenMode::read_only)); }), "empty");
  EXPECT_FALSE(fs::exists(folder / "missing.db"));
  expect_says(message_of([&] { Store store(folder / "no/folder/a.db", test_options()); }), "its folder exists");
  Store store(folder / "empty.db", test_options());
  EXPECT_TRUE(store.check().empty());
}

// Damage of every kind must come out as an Error or as a finding, never as a crash or as silently wrong rows.
TEST(StoreFile, ADamagedFileIsReported) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomTrials random(seed);
  TemporaryFolder folder;
  {
    Store store(folder / "good.db", test_options());
    const auto sweep = store.begin_sweep(random.sweep(random.device())).id;
    Store::Batch batch(store);
    for (int i = 0; i < 300; ++i) store.add(sweep, random.trial(random.problem()));
    batch.commit();
  }
  const auto size = static_cast<std::int64_t>(fs::file_size(folder / "good.db"));
  int noticed = 0;
  for (int round = 0; round < 30; ++round) {
    const fs::path path = folder / "bad.db";
    fs::remove(path);
    fs::copy_file(folder / "good.db", path);
    if (round % 3 == 0) {
      fs::resize_file(path, static_cast<std::uintmax_t>(random.integer(100, size - 4096)));
    } else {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(random.integer(4096, size - 4096));
      file << random.hex(2000);
    }
    try {
      Store store(path, test_options(OpenMode::read_only));
      if (!store.check().empty()) ++noticed;
    } catch (const Error&) {
      ++noticed;
    }
  }
  // A hit on free space or inside a sample is not visible; most are.
  EXPECT_GE(noticed, 20);
}

TEST(StoreFile, ADamagedCubinIsNotHandedOut) {
  RandomTrials random(1);
  TemporaryFolder folder;
  const Binary binary = random.binary();
  {
    Store store(folder / "a.db", test_options());
    store.add(binary);
  }
  SQLite::Database((folder / "a.db").string(), SQLite::OPEN_READWRITE).exec("UPDATE binary SET checksum = 'no'");
  Store store(folder / "a.db", test_options());
  expect_says(message_of([&] { (void)store.binary(binary.cubin_hash); }), "checksum");
  ASSERT_EQ(store.check().size(), 1U);
}

TEST(StoreFile, CheckFindsWhatTheSchemaCannotForbid) {
  RandomTrials random(2);
  TemporaryFolder folder;
  {
    Store store(folder / "a.db", test_options());
    const auto sweep = store.begin_sweep(random.sweep(random.device())).id;
    PlanTrial trial = random.plan_trial(random.problem());
    for (std::string& hash : trial.cubin_hashes) {
      const Binary binary = random.binary();
      store.add(binary);
      hash = binary.cubin_hash;
    }
    store.set_winner(store.add(sweep, trial).id);
    Trial stage = random.trial(random.problem());
    stage.result = random.result(Outcome::ok);
    store.add(sweep, stage);
    EXPECT_TRUE(store.check().empty());
  }
  const auto damage = [&](const std::string& sql, const std::string& expected) {
    fs::copy_file(folder / "a.db", folder / "b.db", fs::copy_options::overwrite_existing);
    SQLite::Database((folder / "b.db").string(), SQLite::OPEN_READWRITE).exec("PRAGMA ignore_check_constraints = ON; " + sql);
    Store store(folder / "b.db", test_options(OpenMode::read_only));
    const auto findings = store.check();
    ASSERT_FALSE(findings.empty()) << sql;
    expect_says(findings.front(), expected);
  };
  damage("DELETE FROM binary", "no machine code");
  damage("DELETE FROM sweep", "refers to a row of sweep");
  damage("UPDATE plan_trial SET outcome = 'wrong_result', reason = 'x'", "is wrong_result");
  damage("UPDATE trial SET samples = x'00'", "samples of 1 bytes");
  damage("UPDATE trial SET samples = NULL", "ok without a time");
  damage("UPDATE trial SET outcome = 'pruned'", "without a reason");
  damage("UPDATE trial SET config = 'what is this'", "a row does not read");
  damage("DELETE FROM plan_stage", "has no stages");
}

TEST(StoreFile, AReadOnlyFolderCanBeReadButNotWritten) {
  TemporaryFolder folder;
  RandomTrials random(3);
  {
    Store store(folder / "a.db", test_options());
    store.add(store.begin_sweep(random.sweep(random.device())).id, random.trial(random.problem()));
  }
  fs::permissions(folder / "a.db", fs::perms(0444));
  fs::permissions(folder.path(), fs::perms(0555));
  {
    AsNobody nobody;
    EXPECT_EQ(Store(folder / "a.db", test_options(OpenMode::read_only)).trials().size(), 1U);
    expect_says(message_of([&] { Store store(folder / "a.db", test_options()); }), "read-only");
    expect_says(message_of([&] { Store store(folder / "b.db", test_options()); }), "see that its folder exists and can be written");
  }
  fs::permissions(folder.path(), fs::perms::owner_all);
}

TEST(StoreFile, AReadOnlyStoreRefusesToWrite) {
  TemporaryFolder folder;
  RandomTrials random(4);
  { Store store(folder / "a.db", test_options()); }
  Store store(folder / "a.db", test_options(OpenMode::read_only));
  expect_says(message_of([&] { store.begin_sweep(random.sweep(random.device())); }), "opened read-only");
}

TEST(StoreFile, AFullDiskIsAnErrorAndKeepsWhatWasStored) {
  TemporaryFolder folder;
  RandomTrials random(5);
  StoreOptions options = test_options();
  options.max_bytes = 400000;
  std::size_t stored = 0;
  {
    Store store(folder / "a.db", options);
    const auto sweep = store.begin_sweep(random.sweep(random.device())).id;
    const std::string message = message_of([&] {
      for (int i = 0; i < 100000; ++i) {
        store.add(sweep, random.trial(random.problem()));
        ++stored;
      }
    });
    expect_says(message, "disk is full");
    EXPECT_GT(stored, 100U);
    EXPECT_EQ(store.trials().size(), stored);
  }
  Store store(folder / "a.db", test_options());
  EXPECT_TRUE(store.check().empty());
  EXPECT_EQ(store.trials().size(), stored);
  store.add(store.sweeps().at(0).id, random.trial(random.problem()));
  EXPECT_EQ(store.trials().size(), stored + 1);
}

TEST(StoreFile, AnotherWriterIsWaitedForThenNamed) {
  TemporaryFolder folder;
  RandomTrials random(6);
  StoreOptions options = test_options();
  options.busy_timeout_ms = 50;
  Store first(folder / "a.db", options);
  Store second(folder / "a.db", options);
  const auto sweep = first.begin_sweep(random.sweep(random.device())).id;
  {
    Store::Batch batch(first);
    expect_says(message_of([&] { second.add(sweep, random.trial(random.problem())); }), "another process holds the write lock");
  }
  EXPECT_TRUE(second.add(sweep, random.trial(random.problem())));
  EXPECT_EQ(first.trials().size(), 1U);
}

}  // namespace
}  // namespace phitune
