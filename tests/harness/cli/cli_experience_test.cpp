// What a sweep knows beforehand, end to end: experience of files, of the binary, and how it is distilled.
#include "harness/tune/experience.hpp"
#include "kernel_templates/stage_template.hpp"
#include "tests/harness/cli/cli_fixture.hpp"

namespace phitune {
namespace {

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

}  // namespace
}  // namespace phitune
