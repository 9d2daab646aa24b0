// One run of another program, its output kept.
#pragma once

#include <string>
#include <vector>

namespace phitune {

struct ProcessResult {
  int status = 0;      // exit status; 128 + the signal that ended it
  std::string output;  // standard output and standard error together
};

/// Runs `words` (a program, by path or looked up in PATH, and its arguments; no shell) and waits for it. Thread-safe. Throws Error (io)
/// when the program cannot be started.
[[nodiscard]] ProcessResult run_process(const std::vector<std::string>& words);

}  // namespace phitune
