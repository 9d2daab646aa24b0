// The CPU's instructions against what a GPU gave for the same inputs, word for word.
#include <gtest/gtest.h>

#include <algorithm>

#include "harness/compile/compiler.hpp"
#include "tests/harness/device/instruction_cases.hpp"

namespace phitune::testing_support {
namespace {

const std::filesystem::path folder = std::filesystem::path(PHITUNE_SOURCE_DIR) / "data" / "instructions";

TEST(Instructions, AreThoseThatWereRecordedOnAGpu) {
  std::vector<std::filesystem::path> files;
  if (std::filesystem::exists(folder))
    for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  if (files.empty())
    GTEST_SKIP()
        << "no recording in data/instructions; on a GPU: PHITUNE_RECORD_INSTRUCTIONS=data/instructions/NAME.json instructions_gpu_test";
  for (const auto& file : files) {
    const InstructionRecording recording = read_instructions(file);
    for (const auto& [path, outputs] : recording.outputs) {
      EXPECT_EQ(differences(path, outputs, run_on_host(path, recording.seed, PHITUNE_TEST_CACHE)), "")
          << path << ", recorded on " << recording.device << " in " << file;
    }
  }
}

// The cases themselves: they all run, and different inputs give different outputs.
TEST(Instructions, EveryCaseRunsOnTheCpuAndDependsOnItsInputs) {
  for (const std::string path : {"sm80", "sm90"}) {
    const Outputs first = run_on_host(path, 1, PHITUNE_TEST_CACHE), second = run_on_host(path, 2, PHITUNE_TEST_CACHE);
    EXPECT_EQ(differences(path, first, run_on_host(path, 1, PHITUNE_TEST_CACHE)), "");
    for (const InstructionCase& one : instruction_cases(path)) {
      EXPECT_EQ(first.at(one.name).size(), one.threads * one.words_out);
      EXPECT_EQ(first.at(one.name) == second.at(one.name), one.name == "place") << one.name;
    }
  }
}

// What a GPU will be given, on a machine without one.
TEST(Instructions, NvrtcCompilesThem) {
  for (const auto& [path, architecture] : {std::pair("sm80", "sm_80"), std::pair("sm90", "sm_90a")}) {
    Compiler compiler({.architecture = architecture, .cache_directory = PHITUNE_TEST_CACHE, .threads = 1});
    const Compiled compiled = compiler.compile(kernel_source(path)).get();
    EXPECT_EQ(compiled.outcome, Outcome::ok) << compiled.reason;
  }
}

TEST(Instructions, ARecordingReadsBackAndADifferenceIsNamed) {
  InstructionRecording recording{"a GPU", "sm_90a", "1", "13.0", 7, {}};
  recording.outputs["sm80"] = run_on_host("sm80", 7, PHITUNE_TEST_CACHE);
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("phitune_instructions_" + std::to_string(::getpid()) + ".json");
  write_instructions(file, recording);
  InstructionRecording read = read_instructions(file);
  std::filesystem::remove(file);
  EXPECT_EQ(read.outputs, recording.outputs);
  EXPECT_EQ(read.seed, 7u);
  read.outputs["sm80"]["to_tf32"][3] ^= 1u << 13;
  const std::string said = differences("sm80", read.outputs["sm80"], recording.outputs["sm80"]);
  EXPECT_NE(said.find("to_tf32: 1 of 1024 words differ, first word 3"), std::string::npos) << said;
}

}  // namespace
}  // namespace phitune::testing_support
