// The installed headers, libraries and errors work: compiles the README's example as it stands there, and opens a tuned table that is not
// there, expecting to be told so.
#include <cstdio>
#include <cstring>

#include "harness/dispatch/dispatcher.hpp"
#include "harness/error.hpp"

// Compiled, not called: it needs a GPU.
void readme_example(const void* q, const void* k, const void* v, const float* log_g, void* y, void* workspace, void* stream) {
#include "readme_example.inc"
}

int main() {
  const auto problem = phitune::Problem::parse("b1 t65536 h8 d64 p2 bf16 gated");
  std::printf("%s\n", problem.key().c_str());
  try {
    const auto dispatcher = phitune::Dispatcher::open("no-such-file.db");
    std::puts("a database that does not exist was opened");
    return 1;
  } catch (const phitune::Error& error) {
    std::printf("%s\n", error.what());
    return std::strstr(error.what(), "no-such-file.db") ? 0 : 1;
  }
}
