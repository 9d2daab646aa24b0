// What goes wrong is named, with where and the mend, and ends with the documented code.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>

#include "tests/harness/cli/process.hpp"
#include "tests/harness/cli/tiny_recording.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

using testing_support::Finished;
using testing_support::make_tiny_recording;
using testing_support::run;
using testing_support::TemporaryFolder;
using testing_support::tiny_problem;
using testing_support::write_text;
using Words = std::vector<std::string>;

struct Case {
  Words words;
  int code;
  Words said;  // on standard error
};

const std::string device = "replay:tiny.jsonl.gz";

Words sweep_of(const Words& more) {
  Words words = {"sweep", "--device", device, "--db", "t.db", "--cache", PHITUNE_TEST_CACHE};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

void expect(const std::vector<Case>& cases, const std::filesystem::path& folder) {
  for (const Case& each : cases) {
    const Finished finished = run(each.words, folder);
    std::string line;
    for (const std::string& word : each.words) line += word + " ";
    EXPECT_EQ(finished.code, each.code) << line << "\n" << finished.err;
    for (const std::string& text : each.said) EXPECT_NE(finished.err.find(text), std::string::npos) << line << "\n" << finished.err;
    EXPECT_EQ(finished.err.find("terminate"), std::string::npos) << line;
  }
}

TEST(ExitCodes, WrongUsageIsTwoAndNamesTheWord) {
  const TemporaryFolder folder;
  expect({{{}, 2, {"Usage: phitune", "A first run:"}},
          {{"swep"}, 2, {"'swep'", "did you mean sweep?"}},
          {{"sweep", "--trails", "3"}, 2, {"'--trails'", "did you mean --trials?", "phitune sweep --help"}},
          {{"db", "chek"}, 2, {"'chek'", "did you mean check?", "phitune db --help"}},
          {{"sweep"}, 2, {"no problem given", "--suite"}},
          {{"verify"}, 2, {"nothing to verify", "--db"}},
          {{"sweep", "--strategy", "luck"}, 2, {"luck", "exhaustive", "random"}},
          {{"sweep", "--trials", "0"}, 2, {"--trials", "at least 1"}},
          {{"sweep", "--carried", "-1"}, 2, {"--carried", "at least 0"}},
          {{"export", "--format", "xml"}, 2, {"xml", "json"}},
          {{"sweep", "--device", "tpu:0", "--problem", tiny_problem}, 2, {"tpu:0", "cuda:N", "replay:FILE"}},
          {{"sweep", "--device", "cuda:x", "--problem", tiny_problem}, 2, {"cuda:x", "cuda:0"}}},
         folder.path());
}

TEST(ExitCodes, BadInputIsThreeAndSaysWhereItIs) {
  const TemporaryFolder folder;
  make_tiny_recording(folder.path());
  write_text(folder / "typo.toml", "[[problem]]\nname = \"a\"\nh = 8\nd = 64\nnormalization = \"sum\"\n");
  write_text(folder / "type.toml", "[[problem]]\nname = \"a\"\nh = 8\nd = \"wide\"\n");
  write_text(folder / "syntax.toml", "[[problem]]\nname = \n");
  write_text(folder / "shape.toml", "h = 8\nd = 64\n[[problem]]\nname = \"odd\"\np = 3\n");
  expect(
      {{sweep_of({"--suite", "typo.toml"}), 3, {"typo.toml:5:1", "'normalization'", "did you mean 'normalisation'?"}},
       {sweep_of({"--suite", "type.toml"}), 3, {"type.toml:4:5", "'d'", "whole number"}},
       {sweep_of({"--suite", "syntax.toml"}), 3, {"syntax.toml:2:"}},
       {sweep_of({"--suite", "shape.toml"}), 3, {"shape.toml:3:1", "'odd'", "use normalisation none"}},
       {sweep_of({"--problem", "b1 t64 h1 d48 p2"}), 3, {"d is 48", "16, 32, 64 and 128"}},
       {sweep_of({"--problem", "b1 t64 h1 d64 p5"}), 3, {"p is 5"}},
       {sweep_of({"--problem", "b1 t64 h1 d64 bf17"}), 3, {"'bf17'", "bf16"}},
       {sweep_of({"--problem", "b1 t64 h1 d64 p2"}), 3, {"none of these problems is in replay:tiny.jsonl.gz", "It holds", "hq1 hk1 d16"}},
       {{"space", "--arch", "sm_1", "--problem", tiny_problem}, 3, {"sm_1", "sm_90a"}}},
      folder.path());
}

TEST(ExitCodes, WhatIsNoDatabaseIsNamed) {
  const TemporaryFolder folder;
  make_tiny_recording(folder.path());
  write_text(folder / "text.db", "these are not the tables that you are looking for\n");
  write_text(folder / "empty.db", "");
  sqlite3* foreign = nullptr;
  ASSERT_EQ(sqlite3_open((folder / "foreign.db").c_str(), &foreign), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(foreign, "CREATE TABLE a (b)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(foreign);
  const Words commands[] = {{"report"}, {"export"}, {"dispatch", "--problem", tiny_problem}, {"db", "info"}, {"bench", "--device", device}};
  for (const Words& command : commands) {
    const auto with = [&command](const std::string& database) {
      Words words = command;
      words.insert(words.end(), {"--db", database});
      return words;
    };
    expect({{with("text.db"), 3, {"text.db", "not a SQLite database"}},
            {with("foreign.db"), 3, {"foreign.db", "another program"}},
            {with("empty.db"), 3, {"empty.db", "empty"}},
            {with("none.db"), 3, {"none.db", "no such file", "phitune sweep"}}},
           folder.path());
  }
  expect({{sweep_of({"--problem", tiny_problem, "--db", "text.db"}), 3, {"text.db", "not a SQLite database"}},
          {sweep_of({"--problem", tiny_problem, "--db", "."}), 3, {"this is a folder"}}},
         folder.path());
  EXPECT_EQ(testing_support::read_text(folder / "text.db"), "these are not the tables that you are looking for\n");
}

TEST(ExitCodes, ADamagedRecordingIsNamed) {
  const TemporaryFolder folder;
  make_tiny_recording(folder.path());
  const std::string whole = testing_support::read_text(folder / "tiny.jsonl.gz");
  write_text(folder / "short.gz", whole.substr(0, whole.size() / 2));
  std::string flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x10);
  write_text(folder / "flipped.gz", flipped);
  write_text(folder / "text.gz", "no recording");
  const auto with = [](const std::string& recording) { return sweep_of({"--problem", tiny_problem, "--device", "replay:" + recording}); };
  expect({{with("short.gz"), 3, {"short.gz", "cut short"}},
          {with("flipped.gz"), 3, {"flipped.gz"}},
          {with("text.gz"), 3, {"text.gz", "not a whole phitune recording"}},
          {with("none.gz"), 5, {"none.gz", "cannot read"}}},
         folder.path());
}

TEST(ExitCodes, FilesThatCannotBeReadOrWrittenAreFive) {
  const TemporaryFolder folder;
  make_tiny_recording(folder.path());
  // Nobody can make a file in /proc, not even root.
  expect({{{"sweep", "--suite", "none.toml", "--device", device}, 5, {"none.toml"}},
          {sweep_of({"--problem", tiny_problem, "--db", "/proc/phitune.db"}), 5, {"/proc/phitune.db"}},
          {sweep_of({"--problem", tiny_problem, "--cache", "/proc/phitune"}), 5, {"/proc/phitune", "cache"}},
          {{"export", "--db", "made.db", "--output", "none/x.json"}, 5, {"none/x.json", "folder that exists"}},
          {{"report", "--db", "made.db", "--html", "/proc/x.html"}, 5, {"/proc/x.html"}}},
         folder.path());
}

// Without care a process ends there by a signal, and silently.
TEST(ExitCodes, AFileSizeLimitIsFiveAndNamed) {
  const TemporaryFolder folder;
  make_tiny_recording(folder.path());
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit limit{100 << 10, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const std::vector<Case> cases = {{sweep_of({"--problem", tiny_problem}), 5, {"t.db", "ulimit -f"}}};
  expect(cases, folder.path());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
}

// Nothing can be put into a folder whose subfolders' names are taken by files, not even by root.
TEST(ExitCodes, KernelsThatCannotBeKeptAreAWarningToASweepAndAFailureToCompile) {
  const TemporaryFolder folder;
  make_tiny_recording(folder.path());
  std::filesystem::create_directory(folder / "cache");
  for (int i = 0; i < 256; ++i) write_text(folder / "cache" / fmt::format("{:02x}", i), "");
  expect(
      {{sweep_of({"--problem", tiny_problem, "--cache", "cache", "--compile", "leading"}), 0, {"warning", "could not be kept", "--cache"}},
       {{"compile", "--arch", "sm_80", "--problem", tiny_problem, "--trials", "1", "--cache", "cache"},
        5,
        {"could not be kept", "--cache"}}},
      folder.path());
}

TEST(ExitCodes, NoGpuIsFourAndSaysWhatToDoInstead) {
  const TemporaryFolder folder;
  if (run({"devices", "--quiet"}, folder.path()).code == 0) GTEST_SKIP() << "there is a GPU here";
  make_tiny_recording(folder.path());
  const Words instead = {"no CUDA device", "replay:FILE"};
  expect({{{"sweep", "--problem", tiny_problem}, 4, instead},
          {{"verify", "--db", "made.db"}, 4, instead},
          {{"dispatch", "--db", "made.db", "--problem", tiny_problem, "--run"}, 4, instead},
          {{"bench", "--db", "made.db"}, 4, instead},
          {{"devices"}, 4, {}}},
         folder.path());
  EXPECT_FALSE(std::filesystem::exists(folder / "phitune.db")) << "a sweep that cannot begin must leave nothing";
}

TEST(ExitCodes, ARecordingVerifiesNothing) {
  const TemporaryFolder folder;
  make_tiny_recording(folder.path());
  expect({{{"verify", "--db", "made.db", "--device", device}, 2, {"runs nothing", "cuda:0"}}}, folder.path());
}

}  // namespace
}  // namespace phitune
