// The commands end to end, each as a process, on a recording that the tests make themselves. NVRTC compiles for real; no GPU is needed.
#include "tests/harness/cli/cli_fixture.hpp"

namespace phitune {
namespace {

TEST_F(Cli, ASweepOverARecordingLeavesItsTrialsAndItsWinner) {
  const Finished finished = run(sweep_words("t.db"));
  ASSERT_EQ(finished.code, 0) << finished.err;
  EXPECT_NE(finished.out.find("replayed"), std::string::npos) << finished.out;
  EXPECT_EQ(finished.err.find('\r'), std::string::npos) << "a progress bar where there is no terminal";
  Store made = open("made.db"), replayed = open("t.db");
  EXPECT_EQ(trial_names(replayed), trial_names(made));
  const std::vector<Winner> expected = made.winners(), winners = replayed.winners();
  ASSERT_EQ(winners.size(), 1u);
  EXPECT_EQ(winners[0].plan_trial.trial.plan, expected[0].plan_trial.trial.plan);
  EXPECT_EQ(winners[0].plan_trial.trial.result.timing, expected[0].plan_trial.trial.result.timing);
  EXPECT_TRUE(winners[0].device.replayed);
  EXPECT_TRUE(replayed.check().empty());
  for (const std::string& hash : winners[0].plan_trial.trial.cubin_hashes) EXPECT_TRUE(hash.empty() || replayed.binary(hash));
}

TEST_F(Cli, LeadingCandidatesAloneGiveTheSameTrialsAndWinnerFromFewerKernels) {
  const json all = parsed(sweep_words("all.db", {"--json", "--cache", ""}));
  const json leading = parsed(sweep_words("leading.db", {"--json", "--cache", "", "--compile", "leading"}));
  EXPECT_LT(leading["compiled"].get<int>(), all["compiled"].get<int>());
  EXPECT_GT(leading["compiled"].get<int>(), 0);
  EXPECT_EQ(leading["outcomes"], all["outcomes"]);
  EXPECT_EQ(leading["problems"], all["problems"]);
  Store a = open("all.db"), b = open("leading.db");
  EXPECT_EQ(trial_names(a), trial_names(b));
}

// What quickstart does last where there is no GPU: the winner's kernels run, on a problem small enough, and are right.
TEST_F(Cli, AReplayedWinnerIsVerifiedOnTheCpu) {
  ASSERT_EQ(run(sweep_words("t.db")).code, 0);
  const Finished finished =
      run({"verify", "--device", "host", "--db", "t.db", "--winners", "1", "--no-timing", "--cache", PHITUNE_TEST_CACHE});
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_NE(finished.out.find("run as forward b1 "), std::string::npos) << finished.out;
  EXPECT_NE(finished.out.find("1 checked: 1 right"), std::string::npos) << finished.out;
}

// 200 configs of which every third is the best: any search has one of them among the 10 trials that 5 % are.
TEST_F(Cli, BenchSearchCountsTheSpacesWhoseWinnerIsFoundInATwentiethOfTheTrials) {
  json cache = {
      {"device_name", "GPU"}, {"kernel_name", "axpy"}, {"problem_size", {64}}, {"tune_params_keys", {"x"}}, {"objective", "time"}};
  for (int x = 0; x < 200; ++x) {
    cache["tune_params"]["x"].push_back(x);
    cache["cache"][fmt::format("{}", x)] = {{"x", x}, {"time", x % 3 == 0 ? 1.0 : 2.0 + x}, {"compile_time", 1}, {"benchmark_time", 1}};
  }
  write_text(folder / "space.json", cache.dump());
  const Words words = {"bench", "search", "space.json", "--strategy", "random", "--seeds", "9"};
  Words as_json = words;
  as_json.emplace_back("--json");
  const json compared = parsed(as_json);
  EXPECT_EQ(compared["overall"][0]["winner_in_5_percent_of_trials"], 1);
  const json to_winner = compared["spaces"][0]["strategies"][0]["to_winner"];
  EXPECT_EQ(to_winner["budget_trials"], 10);
  EXPECT_EQ(to_winner["reached"], true);
  EXPECT_LE(to_winner["median_trials"], 10);
  const Finished finished = run(words);
  EXPECT_NE(finished.out.find("1 of 1 spaces"), std::string::npos) << finished.out;
}

TEST_F(Cli, UntilWorthItIsForThoseWhoCanTell) {
  const Finished cannot = run(sweep_words("t.db", {"--until-worth-it", "--strategy", "random"}));
  EXPECT_EQ(cannot.code, static_cast<int>(ExitCode::usage));
  EXPECT_NE(cannot.err.find("'random' cannot"), std::string::npos) << cannot.err;
  const json can = parsed(sweep_words("t.db", {"--until-worth-it", "--strategy", "auto", "--trials", "3", "--json"}));
  EXPECT_TRUE(can.contains("spared_trials"));
  EXPECT_TRUE(can.contains("spared_device_seconds"));
}

TEST_F(Cli, EveryJsonOutputIsJson) {
  const json swept = parsed(sweep_words("t.db", {"--json"}));
  EXPECT_TRUE(swept["replayed"]);
  EXPECT_EQ(swept["problems"].size(), 1u);
  EXPECT_TRUE(swept["problems"][0].contains("winner")) << swept.dump(2);
  const Words at = {"--db", "t.db"};
  const auto with = [&at](Words words) {
    words.insert(words.end(), at.begin(), at.end());
    return words;
  };
  EXPECT_FALSE(parsed(with({"report", "--json"})).empty());
  EXPECT_TRUE(parsed(with({"export", "--format", "json"}))["any_replayed"]);
  EXPECT_FALSE(parsed(with({"export", "--format", "t4"}))["results"].empty());
  const json selection = parsed(with({"dispatch", "--json", "--problem", tiny_problem, "--run", "--device", "replay:tiny.jsonl.gz"}));
  EXPECT_EQ(selection[0]["why"], "exact");
  EXPECT_EQ(selection[0]["run"]["outcome"], "ok");
  EXPECT_TRUE(selection[0]["run"]["replayed"]);
  EXPECT_EQ(parsed(with({"db", "info", "--json"}))["trials"], swept["trials"]);
  EXPECT_TRUE(parsed(with({"db", "check", "--json"}))["ok"]);
  EXPECT_EQ(parsed(with({"db", "record", "--json", "again.jsonl.gz"}))["trials"], swept["trials"]);
  const json benched = parsed(with({"bench", "--json", "--device", "replay:tiny.jsonl.gz"}));
  EXPECT_TRUE(benched["context"]["replayed"]);
  EXPECT_FALSE(benched["benchmarks"].empty());
  EXPECT_FALSE(parsed({"space", "--json", "--plans", "--problem", tiny_problem})[0]["stages"].empty());
  const json devices = json::parse(run({"devices", "--json"}).out);
  EXPECT_FALSE(devices["nvrtc_architectures"].empty());
}

TEST_F(Cli, CompileFillsTheCacheOnce) {
  const Words words = {"compile",  "--json", "--arch",  "sm_80",  "--problem", "b1 t64 h1 d16 p1 bf16 ungated none",
                       "--trials", "1",      "--cache", "kernels"};
  const json first = parsed(words), second = parsed(words);
  EXPECT_GT(first["compiled"].get<int>(), 0);
  EXPECT_EQ(first["failed"], 0);
  EXPECT_EQ(second["compiled"], 0);
  EXPECT_EQ(second["cache_hits"], first["kernels"]);
}

TEST_F(Cli, OutputsAreFilesOfTheirOwn) {
  ASSERT_EQ(run(sweep_words("t.db")).code, 0);
  write_text(folder / "report.html", "what was there before");
  const Finished with_peers =
      run({"report", "--db", "t.db", "--html", "peers.html", "--peers", PHITUNE_SOURCE_DIR "/tests/reports/peers.json"});
  EXPECT_EQ(with_peers.code, 0) << with_peers.err;
  EXPECT_NE(read_text(folder / "peers.html").find("throughput by context of phitune and its peers"), std::string::npos);
  write_text(folder / "peers.json", "{}");
  const Finished no_peers = run({"report", "--db", "t.db", "--peers", "peers.json"});
  EXPECT_EQ(no_peers.code, 3);
  EXPECT_NE(no_peers.err.find("peers.json is not what scripts/compare_peers.py --json writes"), std::string::npos) << no_peers.err;
  EXPECT_EQ(run({"report", "--db", "t.db", "--peers", "nowhere.json"}).code, 5);
  const Finished reported = run({"report", "--db", "t.db", "--html", "report.html", "--markdown", "report.md"});
  EXPECT_EQ(reported.code, 0) << reported.err;
  EXPECT_EQ(reported.out, "");
  EXPECT_NE(read_text(folder / "report.html").find("</html>"), std::string::npos);
  EXPECT_NE(read_text(folder / "report.md").find("replayed"), std::string::npos);
  ASSERT_EQ(run({"export", "--db", "t.db", "--format", "header", "--output", "tuned.hpp"}).code, 0);
  EXPECT_NE(read_text(folder / "tuned.hpp").find("#pragma once"), std::string::npos);
  ASSERT_EQ(run({"db", "record", "--db", "t.db", "again.jsonl.gz"}).code, 0);
  EXPECT_EQ(read_recording(folder / "again.jsonl.gz").trials.size(), recorded.trials);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    EXPECT_EQ(entry.path().string().find(".part"), std::string::npos) << entry.path();
}

// Renaming onto a device would put a file in its place.
TEST_F(Cli, DevicesAndFoldersAreNotReplaced) {
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0644), 0);
  for (const std::string& target : {std::string("pipe"), std::string(".")}) {
    EXPECT_EQ(run({"export", "--db", "made.db", "--output", target}).code, 5) << target;
    EXPECT_EQ(run({"db", "record", "--db", "made.db", target}).code, 5) << target;
  }
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
}

TEST_F(Cli, ADiskThatIsFullBehindStandardOutputIsNotSuccess) {
  if (!std::filesystem::is_character_file("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  std::filesystem::create_symlink("/dev/full", folder / "full");
  for (const Words& words : {Words{"export", "--db", "made.db"}, Words{"space", "--problem", tiny_problem}, Words{"devices", "--json"}}) {
    const Finished finished = testing_support::run(words, folder.path(), "full");
    EXPECT_EQ(finished.code, 5) << words[0];
    EXPECT_NE(finished.err.find("No space left"), std::string::npos) << finished.err;
  }
}

TEST_F(Cli, HelpTeachesByExample) {
  for (const std::string command : {"sweep", "report", "export", "dispatch", "space", "compile", "verify", "bench", "devices", "db"}) {
    const Finished help = run({command, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_NE(help.out.find("Example"), std::string::npos) << command;
    EXPECT_NE(help.out.find("phitune " + command + " "), std::string::npos) << command;
    EXPECT_EQ(help.err, "");
  }
}

}  // namespace
}  // namespace phitune
