// One small piece of kernel per instruction, the same text for a GPU (NVRTC) and for the CPU, with inputs by seed: what the recordings of
// data/instructions hold the outputs of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "kernel_templates/stage_template.hpp"

namespace phitune::testing_support {

/// What the words of an input hold. Numbers are finite; NaNs have payloads that nobody promises.
enum class Words {
  bits,        // anything
  bf16,        // pairs, of all magnitudes
  fp16,        // pairs, subnormals among them
  fp32,        // of all magnitudes
  exponents,   // fp32, -130 to 30
  small_bf16,  // pairs of whole numbers, -8 to 8: sums are exact in whatever order hardware adds them
  small_fp16,
  small_fp32,
  small_tf32,  // whole numbers with noise in the 13 bits that tf32 leaves out
};

struct InstructionCase {
  std::string name;
  std::string body;           // `t` is the thread, `in` and `out` are words; kernel_source() has the frame
  std::vector<Words> inputs;  // by turns, a word of each kind for each thread
  std::uint32_t threads = 32;
  std::uint32_t words_out = 1;  // for each thread
  std::uint32_t shared_bytes = 0;
  std::uint32_t ulps = 0;  // how far fp32 outputs may be apart; 0: bit for bit
};

/// All cases of a path: "sm80" for every GPU, "sm90" for Hopper alone.
[[nodiscard]] std::vector<InstructionCase> instruction_cases(const std::string& path);

/// One kernel of all cases of a path; `args.b` chooses, `args.q` and `args.y` are its words.
[[nodiscard]] std::string kernel_source(const std::string& path);

[[nodiscard]] std::vector<std::uint32_t> inputs_of(const InstructionCase& one, std::uint64_t seed);
[[nodiscard]] Launch launch_of(const InstructionCase& one);

using Outputs = std::map<std::string, std::vector<std::uint32_t>>;  // by the case's name

/// Of all cases of a path, run on this CPU.
[[nodiscard]] Outputs run_on_host(const std::string& path, std::uint64_t seed, const std::filesystem::path& cache);

/// What a GPU gave.
struct InstructionRecording {
  std::string device, architecture, driver, nvrtc;
  std::uint64_t seed = 0;
  std::map<std::string, Outputs> outputs;  // by path
};
[[nodiscard]] InstructionRecording read_instructions(const std::filesystem::path& path);
void write_instructions(const std::filesystem::path& path, const InstructionRecording& recording);

/// Where outputs differ by more than a case allows, one line a case; empty when nowhere.
[[nodiscard]] std::string differences(const std::string& path, const Outputs& expected, const Outputs& actual);

}  // namespace phitune::testing_support
