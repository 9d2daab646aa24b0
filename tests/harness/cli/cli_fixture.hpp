// What tests of the commands share: a recording that they make themselves, and how they run the binary on it.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/error.hpp"
#include "tests/harness/cli/process.hpp"
#include "tests/harness/cli/tiny_recording.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {

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

inline std::vector<std::string> trial_names(Store& store) {
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

}  // namespace phitune
