// The commands end to end, each as a process, on a recording that the tests make themselves. NVRTC compiles for real; no GPU is needed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "harness/error.hpp"
#include "harness/tune/experience.hpp"
#include "kernel_templates/stage_template.hpp"
#include "tests/harness/cli/process.hpp"
#include "tests/harness/cli/tiny_recording.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

using nlohmann::json;
using testing_support::Finished;
using testing_support::make_tiny_recording;
using testing_support::Process;
using testing_support::read_text;
using testing_support::TemporaryFolder;
using testing_support::tiny_problem;
using testing_support::write_text;
using Words = std::vector<std::string>;

class Cli : public testing::Test {
 protected:
  Cli() : recorded(make_tiny_recording(folder.path())) {}

  [[nodiscard]] Words sweep_words(const std::string& database, const Words& more = {}) const {
    Words words = {"sweep", "--device", "replay:tiny.jsonl.gz", "--problem", tiny_problem, "--db", database, "--cache", PHITUNE_TEST_CACHE};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Finished run(const Words& words) const { return testing_support::run(words, folder.path()); }
  // Runs it, expects success and JSON alone on standard output.
  json parsed(const Words& words) const {
    const Finished finished = run(words);
    EXPECT_EQ(finished.code, 0) << words[0] << ": " << finished.err;
    const json document = json::parse(finished.out, nullptr, false);
    EXPECT_FALSE(document.is_discarded()) << words[0] << " printed no JSON:\n" << finished.out;
    return document;
  }
  // The same where another search than the recorded one may leave a problem without a winner.
  json parsed_whatever(const Words& words) const {
    const Finished finished = run(words);
    EXPECT_LE(finished.code, 1) << words[0] << ": " << finished.err;
    return json::parse(finished.out, nullptr, false);
  }
  Store open(const std::string& database) const {
    StoreOptions options;
    options.mode = OpenMode::read_only;
    return Store(folder / database, options);
  }

  TemporaryFolder folder;
  SweepSummary recorded;
};

std::vector<std::string> trial_names(Store& store) {
  std::vector<std::string> names;
  for (const StoredTrial& row : store.trials()) {
    const Trial& trial = row.trial;
    const double ms = trial.result.timing ? trial.result.timing->median_ms : 0;
    names.push_back(
        fmt::format("{} [{}] {} {} {}", trial.problem.key(), trial.config.text(), trial.cubin_hash, to_string(trial.result.outcome), ms));
  }
  std::ranges::sort(names);
  return names;
}

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

// Another problem's trials of a kernel, in which one config stands out: a search that knows them begins with it.
TEST_F(Cli, ExperienceTellsTheSearchWhereToBegin) {
  Recording known = read_recording(folder / "tiny.jsonl.gz");
  const auto is_attention = [](const Trial& trial) {
    return trial.problem.stage == Stage::attention && trial.problem.path == Path::sm80 && trial.problem.shape.fusion == Fusion::quadratic;
  };
  const auto example = std::ranges::find_if(known.trials, is_attention);
  ASSERT_NE(example, known.trials.end());
  Trial trial = *example;
  trial.result.outcome = Outcome::ok;
  trial.problem.problem.t = 1024;
  const Space space = stage_template(Stage::attention, Path::sm80).space(trial.problem, known.sweep.device);
  ASSERT_GE(space.size(), Experience::kLeastTrials);
  const Config best = space.at(space.size() / 3);
  known.trials.clear();
  for (std::size_t i = 0; i < space.size(); ++i) {
    trial.config = space.at(i);
    trial.result.timing = Timing{.samples_ms = {}, .median_ms = trial.config == best ? 1.0 : 3.0, .throttle_reasons = {}, .sm_clocks_mhz = {}};
    known.trials.push_back(trial);
  }
  write_recording(folder / "known.jsonl.gz", known);

  const auto first_tried = [&](const std::string& database, const Words& more) {
    Words words = {"--strategy", "informed", "--trials", "1"};
    words.insert(words.end(), more.begin(), more.end());
    run(sweep_words(database, words));
    Store store = open(database);
    for (const StoredTrial& row : store.trials())
      if (is_attention(row.trial)) return row.trial.config;
    return Config{};
  };
  EXPECT_NE(first_tried("without.db", {}), best);
  EXPECT_EQ(first_tried("with.db", {"--experience", "known.jsonl.gz"}), best);

  const Finished missing = run(sweep_words("t.db", {"--experience", "nowhere.jsonl.gz"}));
  EXPECT_EQ(missing.code, static_cast<int>(ExitCode::io)) << missing.err;
  const Finished random = run(sweep_words("t.db", {"--experience", "known.jsonl.gz", "--strategy", "random"}));
  EXPECT_EQ(random.code, static_cast<int>(ExitCode::usage)) << random.err;
  EXPECT_NE(random.err.find("auto and informed"), std::string::npos) << random.err;
}

TEST_F(Cli, WhatPhituneBringsAlongIsKnownOfARecordingOnlyWhenAskedFor) {
  const auto known = [&](const std::string& database, const Words& more) {
    Words words = {"--json", "--strategy", "auto", "--trials", "1"};
    words.insert(words.end(), more.begin(), more.end());
    const json swept = parsed_whatever(sweep_words(database, words));
    Store store = open(database);
    return std::pair(swept["known_beforehand"], store.sweeps().back().policy);
  };
  const auto [by_default, policy] = known("a.db", {});
  EXPECT_EQ(by_default, json::parse(R"([{"what": "database", "trials": 0}])"));
  EXPECT_EQ(policy.find("experience"), std::string::npos);
  EXPECT_EQ(known("b.db", {"--experience", "none"}).second, policy);
  const auto [with, policy_with] = known("c.db", {"--experience", "builtin,tiny.jsonl.gz"});
  ASSERT_EQ(with.size(), 3U) << with;
  EXPECT_TRUE(with[0]["what"].get<std::string>().starts_with("builtin "));
  EXPECT_GT(with[0]["trials"], 1000);
  EXPECT_TRUE(with[1]["what"].get<std::string>().starts_with("tiny.jsonl.gz "));
  for (const json& one : {with[0], with[1]}) EXPECT_NE(policy_with.find(one["what"].get<std::string>()), std::string::npos) << policy_with;
  EXPECT_GT(known("c.db", {"--experience", "none"}).first[0]["trials"], 0) << "what the database has of the sweep before";
  EXPECT_EQ(run(sweep_words("d.db", {"--experience", "none,builtin"})).code, 2);
  EXPECT_LE(run(sweep_words("d.db", {"--experience", "none", "--strategy", "random"})).code, 1) << "nothing is what random begins with";
  EXPECT_NE(run(sweep_words("e.db", {"--strategy", "auto", "--experience", "builtin"})).out.find("known beforehand: "), std::string::npos);
}

TEST_F(Cli, ExperienceIsDistilledFromDatabasesAndRecordings) {
  const json distilled = parsed({"db", "distill", "--json", "e.jsonl.gz", "made.db", "tiny.jsonl.gz"});
  EXPECT_EQ(distilled["trials"], parsed({"db", "distill", "--json", "once.jsonl.gz", "made.db"})["trials"]) << "the recording is of the database";
  EXPECT_GT(distilled["trials"], 0);
  EXPECT_EQ(read_text(folder / "e.jsonl.gz"), read_text(folder / "once.jsonl.gz"));
  const json swept = parsed_whatever(sweep_words("t.db", {"--json", "--strategy", "auto", "--experience", "e.jsonl.gz"}));
  EXPECT_EQ(swept["known_beforehand"][0]["trials"], distilled["trials"]);
  write_text(folder / "damaged.gz", read_text(folder / "e.jsonl.gz").substr(0, 200));
  for (const Words& words : {sweep_words("t.db", {"--strategy", "auto", "--experience", "damaged.gz"}), Words{"db", "distill", "again.gz", "damaged.gz"}}) {
    const Finished finished = run(words);
    EXPECT_EQ(finished.code, 3);
    EXPECT_NE(finished.err.find("damaged.gz"), std::string::npos) << finished.err;
  }
  EXPECT_EQ(run({"db", "distill", "again.gz", "nowhere.db"}).code, 5);
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

class Stopped : public Cli, public testing::WithParamInterface<int> {};

// Nothing that was stored is lost or tried twice, and the winner is the one of a sweep that nobody stopped.
TEST_P(Stopped, ASweepGoesOnWhereItWas) {
  {
    // Without a cache and on one thread it lasts long enough to be stopped.
    Process process(sweep_words("t.db", {"--cache", "", "--threads", "1"}), folder.path());
    std::int64_t stored = 0;
    for (int i = 0; i < 3000 && stored < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      try {
        stored = open("t.db").info().trials;
      } catch (const Error&) {  // not there yet
      }
    }
    ASSERT_GE(stored, 2) << "the sweep did not begin";
    process.signal(GetParam());
    const Finished stopped = process.wait();
    if (GetParam() == SIGKILL) {
      EXPECT_EQ(stopped.code, 128 + SIGKILL);
    } else {
      EXPECT_EQ(stopped.code, 130) << stopped.err;
      EXPECT_NE(stopped.err.find("--resume"), std::string::npos) << stopped.err;
    }
  }
  const std::int64_t kept = open("t.db").info().trials;
  ASSERT_LT(kept, static_cast<std::int64_t>(recorded.trials)) << "it was over before it was stopped";
  EXPECT_TRUE(open("t.db").check().empty());
  EXPECT_EQ(open("t.db").sweeps().front().status, GetParam() == SIGKILL ? SweepStatus::running : SweepStatus::interrupted);

  const json resumed = parsed(sweep_words("t.db", {"--resume", "--json"}));
  EXPECT_EQ(resumed["resumed"], kept);
  EXPECT_EQ(resumed["trials"].get<std::int64_t>(), static_cast<std::int64_t>(recorded.trials) - kept);
  Store made = open("made.db"), store = open("t.db");
  EXPECT_EQ(store.sweeps().size(), 1u);
  EXPECT_EQ(store.sweeps().front().status, SweepStatus::finished);
  EXPECT_EQ(trial_names(store), trial_names(made));
  ASSERT_EQ(store.winners().size(), 1u);
  EXPECT_EQ(store.winners()[0].plan_trial.trial.plan, made.winners()[0].plan_trial.trial.plan);
}

INSTANTIATE_TEST_SUITE_P(BySignal, Stopped, testing::Values(SIGINT, SIGTERM, SIGKILL), [](const auto& param_info) {
  return param_info.param == SIGINT ? "CtrlC" : param_info.param == SIGTERM ? "Term" : "Kill";
});

TEST_F(Cli, ASweepIsNotResumedWithOtherLimits) {
  {
    Store store(folder / "t.db");
    SweepInfo unfinished = recorded.sweep;
    unfinished.device.replayed = true;
    unfinished.policy = "{\"trials\": 99}";
    store.begin_sweep(unfinished);
  }
  const Finished finished = run(sweep_words("t.db", {"--resume"}));
  EXPECT_EQ(finished.code, 2) << finished.err;
  EXPECT_NE(finished.err.find("\"trials\": 99"), std::string::npos) << finished.err;
}

TEST_F(Cli, WithNothingToResumeASweepBeginsAndSaysSo) {
  const Finished finished = run(sweep_words("t.db", {"--resume"}));
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_NE(finished.err.find("nothing to resume"), std::string::npos) << finished.err;
}

TEST_F(Cli, TwoSweepsMayShareADatabase) {
  Store(folder / "t.db");
  Process one(sweep_words("t.db"), folder.path(), "one"), two(sweep_words("t.db"), folder.path(), "two");
  EXPECT_EQ(one.wait().code, 0);
  EXPECT_EQ(two.wait().code, 0);
  Store store = open("t.db");
  EXPECT_EQ(store.sweeps().size(), 2u);
  EXPECT_EQ(store.info().trials, 2 * static_cast<std::int64_t>(recorded.trials));
  EXPECT_EQ(store.winners().size(), 1u);
  EXPECT_TRUE(store.check().empty());
}

// A sweep that looked less hard must not take a better winner's place.
TEST_F(Cli, AFasterWinnerOfAnEarlierSweepStays) {
  ASSERT_EQ(run(sweep_words("t.db")).code, 0);
  const double before = open("t.db").winners()[0].plan_trial.trial.result.timing->median_ms;
  Recording slower = read_recording(folder / "tiny.jsonl.gz");
  for (PlanTrial& trial : slower.plan_trials) trial.result.timing->median_ms *= 2;
  write_recording(folder / "tiny.jsonl.gz", slower);
  const Finished finished = run(sweep_words("t.db"));
  EXPECT_EQ(finished.code, 0);
  EXPECT_NE(finished.out.find("an earlier sweep's winner is faster and stays"), std::string::npos) << finished.out;
  EXPECT_EQ(open("t.db").winners()[0].plan_trial.trial.result.timing->median_ms, before);
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

const char* const emulated_problem = "b1 t100 h1 d16 p2 bf16 gated";

TEST_F(Cli, HostSweepsASmallProblemAndKeepsItsTimesToItself) {
  const Words sweep = {"sweep",       "--device", "host", "--problem", emulated_problem, "--trials",         "1",     "--carried", "0",
                       "--finalists", "1",        "--db", "e.db",      "--cache",        PHITUNE_TEST_CACHE, "--json"};
  const json summary = parsed(sweep);
  EXPECT_EQ(summary["device"], "host");
  EXPECT_EQ(summary["emulated"], true);
  EXPECT_TRUE(summary["problems"][0].contains("winner"));
  for (const auto& [outcome, count] : summary["outcomes"].items()) EXPECT_EQ(outcome, "ok") << count;
  const json report = parsed({"report", "--db", "e.db", "--json"});
  EXPECT_EQ(report["devices"][0]["problems"][0]["origin"], "emulated");
  for (const char* format : {"json", "csv", "trials-csv", "t4", "header"}) {
    const Finished refused = run({"export", "--db", "e.db", "--format", format});
    EXPECT_EQ(refused.code, static_cast<int>(ExitCode::bad_input)) << format;
    EXPECT_NE(refused.err.find("nothing but CPU emulation"), std::string::npos) << refused.err;
    EXPECT_TRUE(refused.out.empty());
  }
  EXPECT_EQ(run({"bench", "--db", "e.db", "--device", "host"}).code, static_cast<int>(ExitCode::usage));
  EXPECT_EQ(run({"dispatch", "--db", "e.db", "--device", "host", "--run", "--problem", emulated_problem}).code,
            static_cast<int>(ExitCode::usage));
  // Beside a recording's numbers it is left out, and said to be.
  EXPECT_EQ(run(sweep_words("e.db", {"--quiet"})).code, 0);
  const Finished mixed = run({"export", "--db", "e.db", "--format", "csv"});
  EXPECT_EQ(mixed.code, 0) << mixed.err;
  EXPECT_EQ(mixed.out.find("emulated"), std::string::npos);
  EXPECT_NE(mixed.err.find("left out: 1 sweep of CPU emulation"), std::string::npos) << mixed.err;
}

TEST_F(Cli, HostVerifiesOneConfigAndWhatIsTooLargeIsPrunedWithTheMend) {
  const Words stage = {"verify",           "--device",       "host",
                       "--problem",        emulated_problem, "--cache",
                       PHITUNE_TEST_CACHE, "--shape",        "expand_mma c64 d_tile8 state_bf16 partial_bf16",
                       "--stage",          "scan",           "--json"};
  Words right = stage;
  right.insert(right.end(), {"--config", "threads=128 unroll=2 vector=8"});
  const json found = parsed(right);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["outcome"], "ok") << found[0]["reason"];
  EXPECT_NE(found[0]["what"].get<std::string>().find("[threads=128 unroll=2 vector=8]"), std::string::npos);
  Words wrong = stage;
  wrong.insert(wrong.end(), {"--config", "threads=7 unroll=2 vector=8"});
  EXPECT_EQ(run(wrong).code, static_cast<int>(ExitCode::bad_input));
  Words small_limit = stage;
  small_limit.insert(small_limit.end(), {"--emulation-limit", "0"});
  const json pruned = parsed(small_limit);
  EXPECT_EQ(pruned[0]["outcome"], "pruned");
  EXPECT_NE(pruned[0]["reason"].get<std::string>().find("--emulation-limit"), std::string::npos);
}

TEST_F(Cli, HostVerifiesARecordingsWinnersOnASmallProblem) {
  EXPECT_EQ(run(sweep_words("a.db", {"--quiet"})).code, 0);
  const json found = parsed({"verify", "--device", "host", "--db", "a.db", "--winners", "1", "--cache", PHITUNE_TEST_CACHE, "--json"});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["outcome"], "ok") << found[0]["reason"];
  EXPECT_NE(found[0]["what"].get<std::string>().find("run as"), std::string::npos);
}

}  // namespace
}  // namespace phitune
