// Recorded spaces of other tuners: Kernel Tuner's caches and T4 results.
#include "harness/error.hpp"
#include "harness/spaces/read_spaces.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const phitune::fuzz::MemoryFile file({reinterpret_cast<const char*>(data), size});
  try {
    static_cast<void>(phitune::read_spaces(file.path()));
  } catch (const phitune::Error&) {
  }
  return 0;
}

std::vector<std::string> phitune::fuzz::seeds() {
  return {
      R"({"device_name": "A100", "kernel_name": "k", "problem_size": "64", "tune_params_keys": ["x", "y"], "tune_params": {"x": [1, 2], "y": ["a", "b"]},
          "objective": "time", "cache": {"1,a": {"x": 1, "y": "a", "time": 1.5, "times": [1.4, 1.6], "compile_time": 3}, "2,a": {"x": 2, "y": "a", "time": "CompilationFailedConfig"},
          "2,b": {"x": 2, "y": "b", "time": 1.0, "times": [NaN, 1.0]})",
      R"({"schema_version": "1.0.0", "metadata": {}, "results": [{"configuration": {"x": 1, "y": true}, "times": {"compilation_time": 1, "runtimes": [0.5, 0.6]}, "invalidity": "correct", "correctness": 1,
          "measurements": [{"name": "time", "value": 0.55, "unit": "ms"}], "objectives": ["time"], "problem": "p", "kernel": "k"},
          {"configuration": {"x": 2, "y": false}, "invalidity": "timeout", "correctness": 0, "measurements": [], "objectives": ["time"], "problem": "p", "kernel": "k"}]})"};
}
