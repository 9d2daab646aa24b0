// Suites: TOML with axes.
#include "harness/error.hpp"
#include "harness/suite.hpp"
#include "tests/fuzz/fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    static_cast<void>(phitune::suite_hash(phitune::parse_suite({reinterpret_cast<const char*>(data), size}, "fuzz.toml")));
  } catch (const phitune::Error&) {
  }
  return 0;
}

std::vector<std::string> phitune::fuzz::seeds() {
  const std::filesystem::path suites = std::filesystem::path(PHITUNE_SOURCE_DIR) / "data/suites";
  std::vector<std::string> seeds = {
      "name = \"a\"\ngated = true\ndtype = [\"bf16\", \"fp16\"]\n[[problem]]\nname = \"b\"\nt = [64, 128]\nh = 8\nd = 64\np = 2\n"};
  for (const auto& entry : std::filesystem::directory_iterator(suites))
    if (entry.path().extension() == ".toml") seeds.push_back(text_of(entry.path()));
  return seeds;
}
