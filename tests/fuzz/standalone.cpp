// Runs a fuzz target on mutations of its seeds for a bounded time, with any compiler: TARGET [SECONDS] [SEED]. A finding ends the process
// with the input in a file; run TARGET --input FILE to see it again.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string_view>

#include "search/random.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using phitune::draw_below;
using Rng = std::mt19937_64;

constexpr std::size_t kMostBytes = 1 << 16;

// What readers tend to stumble over.
constexpr std::string_view kTokens[] = {"0",
                                        "-1",
                                        "18446744073709551616",
                                        "9223372036854775807",
                                        "1e999",
                                        "nan",
                                        "null",
                                        "true",
                                        "{}",
                                        "[]",
                                        "[[",
                                        "\"",
                                        "\\u0000",
                                        "\xff\xfe",
                                        "\n",
                                        "|",
                                        "=",
                                        "#",
                                        " ",
                                        "\0",
                                        "..",
                                        "/"};

std::size_t below(std::size_t bound, Rng& rng) { return static_cast<std::size_t>(draw_below(bound, rng)); }

void mutate(std::string& input, const std::vector<std::string>& seeds, Rng& rng) {
  const std::size_t at = below(input.size() + 1, rng);
  const std::size_t length = input.empty() ? 0 : below(std::min<std::size_t>(input.size() - at, 64) + 1, rng);
  switch (below(7, rng)) {
    case 0:
      if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << below(8, rng)));
      break;
    case 1:
      if (at < input.size()) input[at] = static_cast<char>(rng());
      break;
    case 2:
      input.erase(at, length);
      break;
    case 3:
      input.insert(at, input.substr(at, length));
      break;
    case 4:
      input.replace(at, length, kTokens[below(std::size(kTokens), rng)]);
      break;
    case 5: {
      const std::string& other = seeds[below(seeds.size(), rng)];
      const std::size_t from = below(other.size() + 1, rng);
      input.replace(at, std::string::npos, other.substr(from));
      break;
    }
    default:
      input.resize(at);
  }
  if (input.size() > kMostBytes && below(4, rng) != 0) input.resize(kMostBytes);
}

const std::string* running = nullptr;

void keep_input() {
  if (!running) return;
  const std::string name = "finding-" + std::to_string(running->size()) + ".input";
  std::ofstream(name, std::ios::binary) << *running;
  std::fprintf(stderr, "the input is in %s\n", name.c_str());
}

// Findings that are no exception: an assertion of a library, a fault.
void on_signal(int signal) {
  keep_input();
  std::signal(signal, SIG_DFL);
  static_cast<void>(std::raise(signal));
}

void give(const std::string& input) {
  running = &input;
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  running = nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) std::signal(signal, on_signal);
  if (argc == 3 && std::strcmp(argv[1], "--input") == 0) {
    give(phitune::fuzz::text_of(argv[2]));
    return 0;
  }
  const double seconds = argc > 1 ? std::atof(argv[1]) : 2;
  const unsigned long long seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}();
  std::printf("seed %llu\n", seed);
  std::fflush(stdout);
  Rng rng(seed);
  const std::vector<std::string> seeds = phitune::fuzz::seeds();
  std::size_t runs = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::string input;
  try {
    for (const std::string& one : seeds) give(one);
    while (std::chrono::steady_clock::now() < end) {
      input = seeds[below(seeds.size(), rng)];
      for (std::size_t n = 1 + below(8, rng); n > 0; --n) mutate(input, seeds, rng);
      give(input);
      ++runs;
    }
  } catch (const std::exception& finding) {
    std::fprintf(stderr, "an exception that is not documented: %s\n", finding.what());
    keep_input();
    return 1;
  }
  std::printf("%zu runs\n", runs);
  return 0;
}
