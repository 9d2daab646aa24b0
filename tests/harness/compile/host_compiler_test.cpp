// Kernels compiled for the CPU at run time: found compiler, cache, and faults that travel through their code.
#include "harness/compile/host_compiler.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "harness/error.hpp"
#include "kernel_templates/common/host/executor.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

using testing_support::TemporaryFolder;

std::string kernel(const std::string& body) {
  return "#include \"kernel_templates/common/args.cuh\"\n#include \"kernel_templates/common/instructions.cuh\"\n"
         "extern \"C\" __global__ void __launch_bounds__(64) phitune_kernel(const __grid_constant__ phitune::Args args) {\n  " +
         body + "\n}\n";
}

void launch(const HostKernel& compiled, const Args& args) {
  host::launch({2, 1, 1}, {64, 1, 1}, 256, [&] { compiled.run(args); });
}

std::string fault_of(const HostKernel& compiled) {
  try {
    launch(compiled, {});
  } catch (const host::LaunchError& error) {
    return error.what();
  }
  return "no fault";
}

void expect_says(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << message << "' does not say '" << part << "'";
}

TEST(HostCompiler, RunsTheKernelOnEveryThreadOfEveryBlock) {
  HostCompiler compiler({});
  const HostCompiled compiled =
      compiler.compile(kernel("float* const out = args.row_sum + phitune::block_index_x() * 64;\n"
                              "  float* const shared = reinterpret_cast<float*>(phitune::shared_memory());\n"
                              "  shared[phitune::thread_index()] = args.scale * phitune::thread_index();\n"
                              "  phitune::block_barrier();\n"
                              "  out[phitune::thread_index()] = shared[63 - phitune::thread_index()];"));
  ASSERT_EQ(compiled.outcome, Outcome::ok) << compiled.reason;
  std::vector<float> out(128);
  Args args;
  args.row_sum = out.data();
  args.scale = 2;
  launch(*compiled.kernel, args);
  for (unsigned i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], 2.0f * static_cast<float>(63 - i % 64));
}

TEST(HostCompiler, KernelsAreApartFromEachOther) {
  HostCompiler compiler({});
  std::vector<std::shared_ptr<const HostKernel>> kernels;
  for (const int value : {3, 4, 5}) kernels.push_back(compiler.compile(kernel("args.row_sum[0] = " + std::to_string(value) + ";")).kernel);
  std::vector<float> out(1);
  Args args;
  args.row_sum = out.data();
  for (int i = 0; i < 3; ++i) {
    host::launch({1, 1, 1}, {32, 1, 1}, 0, [&] { kernels[static_cast<unsigned>(i)]->run(args); });
    EXPECT_EQ(out[0], static_cast<float>(3 + i));
  }
}

TEST(HostCompiler, FaultsPassThroughTheKernelAndNameItsLine) {
  HostCompiler compiler({});
  const HostCompiled compiled = compiler.compile(kernel("if (phitune::thread_index() < 32) phitune::block_barrier();"));
  ASSERT_EQ(compiled.outcome, Outcome::ok) << compiled.reason;
  const std::string fault = fault_of(*compiled.kernel);
  // Blocks run on several CPU threads: any may be the first to fail.
  expect_says(fault, "deadlock in block (");
  expect_says(fault, "threads 0-31 wait: block_barrier at ");
  expect_says(fault, "threads 32-63 have left the kernel");
  // And once more: nothing of the first run is left.
  expect_says(fault_of(*compiled.kernel), "deadlock");
}

TEST(HostCompiler, CompilesOnceAndKeepsItOnDisk) {
  const TemporaryFolder folder;
  const std::string source = kernel("args.row_sum[0] = 1;");
  {
    HostCompiler compiler(folder.path());
    const HostCompiled first = compiler.compile(source);
    EXPECT_FALSE(first.cache_hit);
    EXPECT_GT(first.compile_ms, 0);
    EXPECT_EQ(compiler.compile(source).kernel, first.kernel);
  }
  HostCompiler another(folder.path());
  const HostCompiled found = another.compile(source);
  EXPECT_TRUE(found.cache_hit);
  EXPECT_EQ(found.compile_ms, 0);
  ASSERT_NE(found.kernel, nullptr);
  EXPECT_FALSE(another.compile(kernel("args.row_sum[0] = 2;")).cache_hit);
}

TEST(HostCompiler, ReportsWhatDoesNotCompile) {
  HostCompiler compiler({});
  const HostCompiled compiled = compiler.compile(kernel("no_such_function();"));
  EXPECT_EQ(compiled.outcome, Outcome::compile_failed);
  expect_says(compiled.reason, "no_such_function");
  EXPECT_EQ(compiled.reason.find("/phitune-host-"), std::string::npos) << "the folder of this run has no place in a stored reason";
  EXPECT_EQ(compiled.kernel, nullptr);
}

TEST(HostCompiler, WithoutACompilerSaysWhatToDo) {
  const char* const before = std::getenv("CXX");
  const std::string kept = before != nullptr ? before : "";
  const auto message = [] {
    try {
      HostCompiler compiler({});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::no_device);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  ::setenv("CXX", "/nowhere/c++", 1);
  expect_says(message(), "CXX is set to '/nowhere/c++'");
  ::unsetenv("CXX");
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", "/nowhere", 1);
  expect_says(message(), "apt-get install g++");
  ::setenv("PATH", path.c_str(), 1);
  if (before != nullptr) ::setenv("CXX", kept.c_str(), 1);
}

}  // namespace
}  // namespace phitune
