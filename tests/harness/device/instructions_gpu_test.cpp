// Every instruction on a GPU and on the CPU, word for word. PHITUNE_RECORD_INSTRUCTIONS=FILE also writes what the GPU gave, for
// data/instructions.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "harness/compile/compiler.hpp"
#include "harness/device/cuda.hpp"
#include "harness/device/device.hpp"
#include "tests/harness/device/instruction_cases.hpp"

namespace phitune::testing_support {
namespace {

constexpr std::uint64_t seeds = 4;

Outputs run_on_gpu(const std::string& path, std::uint64_t seed, const Binary& binary) {
  const cuda::Stream stream;
  Outputs outputs;
  Args args;
  for (const InstructionCase& one : instruction_cases(path)) {
    const std::vector<std::uint32_t> in = inputs_of(one, seed);
    std::vector<std::uint32_t> out(std::size_t{one.threads} * one.words_out);
    const cuda::DeviceBuffer from(in.size() * 4), to(out.size() * 4);
    cuda::check(cudaMemcpy(from.data(), in.data(), in.size() * 4, cudaMemcpyHostToDevice));
    args.q = from.data();
    args.y = to.data();
    const cuda::Kernel kernel(binary, one.shared_bytes);
    kernel.launch(launch_of(one), &args, stream.get());
    stream.synchronize();
    cuda::check(cudaMemcpy(out.data(), to.data(), out.size() * 4, cudaMemcpyDeviceToHost));
    outputs[one.name] = std::move(out);
    ++args.b;
  }
  return outputs;
}

TEST(Instructions, AreTheSameOnAGpuAndOnTheCpu) {
  const DeviceList list = list_devices();
  if (list.devices.empty()) GTEST_SKIP() << "needs a GPU: " << list.reason;
  const DeviceInfo& info = list.devices.front();
  cuda::check(cudaSetDevice(0));
  Compiler compiler({.architecture = info.architecture, .cache_directory = {}, .threads = 2});
  InstructionRecording recording{info.name, info.architecture, info.driver, Compiler::nvrtc_version(), 1, {}};
  std::vector<std::string> paths = {"sm80"};
  if (info.architecture == "sm_90a") paths.emplace_back("sm90");
  std::map<std::string, std::vector<Outputs>> seen;  // by path, a seed each
  for (const std::string& path : paths) {
    const Compiled compiled = compiler.compile(kernel_source(path)).get();
    ASSERT_EQ(compiled.outcome, Outcome::ok) << compiled.reason;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) seen[path].push_back(run_on_gpu(path, seed, *compiled.binary));
    recording.outputs[path] = seen[path].at(recording.seed - 1);
  }
  // Before anything is compared: a recording is of use also where the CPU disagrees, or has no compiler.
  if (const char* const file = std::getenv("PHITUNE_RECORD_INSTRUCTIONS")) {
    const std::filesystem::path to = std::filesystem::absolute(file);
    write_instructions(to, recording);
    std::cout << "recorded in " << to << '\n';
  }
  const std::filesystem::path cache = std::filesystem::temp_directory_path() / ("phitune_instructions_" + std::to_string(::getpid()));
  for (const std::string& path : paths) {
    for (std::uint64_t seed = 1; seed <= seeds; ++seed)
      EXPECT_EQ(differences(path, seen[path].at(seed - 1), run_on_host(path, seed, cache)), "") << path << ", seed " << seed;
    std::cout << path << ": " << instruction_cases(path).size() << " instructions on " << info.name << ", " << seeds << " seeds\n";
  }
  std::filesystem::remove_all(cache);
}

}  // namespace
}  // namespace phitune::testing_support
