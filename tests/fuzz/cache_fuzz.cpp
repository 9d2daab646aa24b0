// Entries of the kernel cache, and the cubins in them: a file format with offsets, read before any driver sees it.
#include <fstream>
#include <stdexcept>

#include "harness/compile/cache.hpp"
#include "harness/compile/compiler.hpp"
#include "harness/compile/cubin.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/harness/compile/kernels.hpp"
#include "tests/harness/store/random_trials.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const char> bytes(reinterpret_cast<const char*>(data), size);
  try {
    static_cast<void>(phitune::read_resources(bytes));
    static_cast<void>(phitune::machine_code_hash(bytes));
  } catch (const std::invalid_argument&) {
  }
  static const phitune::testing_support::TemporaryFolder folder;
  static const phitune::BinaryCache cache(folder.path());
  static const std::string key(64, 'a');
  static const bool stored = !cache.store(key, {.compiled = true, .cubin = {'x'}, .log = ""}, {});
  if (!stored) throw std::runtime_error("the cache cannot be written");
  std::ofstream(cache.path_of(key) / "entry.json", std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(size));
  static_cast<void>(cache.load(key));
  return 0;
}

std::vector<std::string> phitune::fuzz::seeds() {
  Compiler compiler({"sm_90a", {}, 1});
  const auto future = compiler.compile(test_kernels::plain(3));
  const std::vector<char>& cubin = future.get().binary->cubin;
  const testing_support::TemporaryFolder folder;
  const BinaryCache cache(folder.path());
  const std::string key(64, 'b');
  static_cast<void>(cache.store(key, {.compiled = true, .cubin = {'x'}, .log = ""}, {}));
  return {std::string(cubin.begin(), cubin.end()), text_of(cache.path_of(key) / "entry.json")};
}
