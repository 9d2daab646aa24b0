// Distilled experience, plain or packed.
#include "harness/error.hpp"
#include "harness/store/gzip.hpp"
#include "harness/store/lessons.hpp"
#include "harness/tune/distill.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    static_cast<void>(phitune::of_today(phitune::unpack_lessons("fuzzed", {reinterpret_cast<const char*>(data), size})));
  } catch (const phitune::Error&) {
  }
  return 0;
}

std::vector<std::string> phitune::fuzz::seeds() {
  Lessons few = *builtin_lessons();
  few.stages.resize(4);
  const std::string bytes = packed(few);
  return {bytes, gunzip(bytes)};
}
