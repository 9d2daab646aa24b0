// The library as C sees it: errors are statuses with a text, outputs stay alone, and nothing but phitune_* is exported. No GPU needed.
#include "harness/c_api/phitune.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

#include "harness/device/device.hpp"
#include "harness/store/store.hpp"
#include "kernel_templates/stage_template.hpp"
#include "tests/harness/dispatch/test_device.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

using testing_support::RandomTrials;
using testing_support::TemporaryFolder;

const char* const tuned_text = "b1 t8192 h8 d64 p2 bf16 gated";

void expect_error(phitune_status status, phitune_status wanted, const std::string& part) {
  EXPECT_EQ(status, wanted) << phitune_last_error();
  EXPECT_NE(std::string(phitune_last_error()).find(part), std::string::npos)
      << "'" << phitune_last_error() << "' does not say '" << part << "'";
}

/// What a command prints.
std::string output_of(const std::string& command) {
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  std::string text;
  for (int c; pipe != nullptr && (c = std::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
  EXPECT_EQ(pipe == nullptr ? -1 : ::pclose(pipe), 0) << command << '\n' << text;
  return text;
}

class CApi : public testing::Test {
 protected:
  /// A database with one winner, on a GPU that is not there.
  std::string database() {
    const std::string path = folder_ / "a.db";
    RandomTrials random(1);
    Store store(path);
    const auto sweep = store.begin_sweep(random.sweep(test_device())).id;
    PlanTrial trial = random.plan_trial(Problem::parse(tuned_text));
    trial.plan.shape = PlanShape::parse("expand_mma c1024 d_tile8 state_bf16 partial_bf16");
    trial.plan.stages.clear();
    trial.cubin_hashes.clear();
    for (const StageProblem& stage : stages_of(trial.plan.problem, trial.plan.shape)) {
      const Space space = stage_template(stage.stage, stage.path).space(stage, test_device());
      trial.plan.stages.push_back({stage, space.at(0)});
      const Binary binary = random.binary();
      store.add(binary);
      trial.cubin_hashes.push_back(binary.cubin_hash);
    }
    store.set_winner(store.add(sweep, trial).id);
    return path;
  }

  TemporaryFolder folder_;
};

TEST_F(CApi, TheHeaderIsPlainC) {
  const std::string source = folder_ / "main.c";
  std::ofstream(source)
      << "#include \"harness/c_api/phitune.h\"\nint main(void) { phitune_buffers b = {sizeof b}; (void)b; return PHITUNE_OK; }\n";
  output_of("'" PHITUNE_CXX
            "' -x c -std=c99 -Wall -Wextra -Wpedantic -Wno-missing-field-initializers -Werror -fsyntax-only -I '" PHITUNE_SOURCE_DIR "' '" +
            source + "' 2>&1");
}

TEST_F(CApi, NothingElseIsExported) {
  std::istringstream lines(output_of("nm -D --defined-only '" PHITUNE_C_LIBRARY "'"));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_EQ(line.substr(line.rfind(' ') + 1).rfind("phitune_", 0), 0u) << line;
  EXPECT_EQ(count, 12) << "functions of phitune.h";
}

TEST_F(CApi, ADatabaseThatCannotBeOpenedIsNamedAndNothingIsGiven) {
  auto* const untouched = reinterpret_cast<phitune_dispatcher*>(0x10);
  phitune_dispatcher* dispatcher = untouched;
  expect_error(phitune_open("no-such-file.db", &dispatcher), PHITUNE_BAD_INPUT, "no-such-file.db");
  std::ofstream(folder_ / "notes") << "not a database";
  expect_error(phitune_open((folder_ / "notes").c_str(), &dispatcher), PHITUNE_BAD_INPUT, "notes");
  EXPECT_EQ(dispatcher, untouched);
}

TEST_F(CApi, WrongArgumentsAreNamed) {
  expect_error(phitune_open("a.db", nullptr), PHITUNE_USAGE, "dispatcher is null");
  phitune_plan* plan = nullptr;
  expect_error(phitune_prepare(nullptr, tuned_text, &plan), PHITUNE_USAGE, "dispatcher is null");
  phitune_buffers buffers = {};
  expect_error(phitune_launch(nullptr, &buffers, nullptr, 0, nullptr), PHITUNE_USAGE, "buffers.size is 0");
  buffers.size = sizeof buffers;
  expect_error(phitune_launch(nullptr, &buffers, nullptr, 0, nullptr), PHITUNE_USAGE, "plan is null");
  expect_error(phitune_launch(nullptr, nullptr, nullptr, 0, nullptr), PHITUNE_USAGE, "buffers is null");
  phitune_dispatcher* dispatcher = nullptr;
  ASSERT_EQ(phitune_open(database().c_str(), &dispatcher), PHITUNE_OK) << phitune_last_error();
  const char* text = nullptr;
  expect_error(phitune_explain(dispatcher, nullptr, &text), PHITUNE_USAGE, "problem is null");
  expect_error(phitune_explain(dispatcher, "b1 t64 h8 d64 p2 bf61", &text), PHITUNE_BAD_INPUT, "bf61");
  EXPECT_EQ(text, nullptr);
  phitune_close(dispatcher);
  phitune_close(nullptr);
  phitune_release(nullptr);
  EXPECT_EQ(phitune_workspace_bytes(nullptr), 0);
}

TEST_F(CApi, SaysWhyWithoutAGpuAndWhatIsMissingToRun) {
  if (!list_devices().devices.empty()) GTEST_SKIP() << "there is a GPU, and the database has another";
  phitune_dispatcher* dispatcher = nullptr;
  ASSERT_EQ(phitune_open(database().c_str(), &dispatcher), PHITUNE_OK) << phitune_last_error();
  const char* text = nullptr;
  ASSERT_EQ(phitune_explain(dispatcher, tuned_text, &text), PHITUNE_OK) << phitune_last_error();
  EXPECT_NE(std::string(text).find("tuned for this problem"), std::string::npos) << text;
  auto* const untouched = reinterpret_cast<phitune_plan*>(0x10);
  phitune_plan* plan = untouched;
  expect_error(phitune_prepare(dispatcher, tuned_text, &plan), PHITUNE_NO_DEVICE, "no CUDA device");
  EXPECT_EQ(plan, untouched);
  phitune_close(dispatcher);
  expect_error(phitune_open(nullptr, &dispatcher), PHITUNE_NO_DEVICE, "no GPU here");
}

TEST_F(CApi, ErrorsAreEachThreadsOwn) {
  expect_error(phitune_open("a.db", nullptr), PHITUNE_USAGE, "dispatcher is null");
  std::thread([] {
    EXPECT_STREQ(phitune_last_error(), "");
    expect_error(phitune_launch(nullptr, nullptr, nullptr, 0, nullptr), PHITUNE_USAGE, "buffers is null");
  }).join();
  EXPECT_STREQ(phitune_last_error(), "dispatcher is null");
}

}  // namespace
}  // namespace phitune
