// The harness cannot go on: what was wrong, where, and what to do about it.
#pragma once

#include <stdexcept>
#include <string>

namespace phitune {

/// Exit codes of the command line; documented in docs/cli.md.
enum class ExitCode : int { ok = 0, failed = 1, usage = 2, bad_input = 3, no_device = 4, io = 5, interrupted = 130 };

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& what) : std::runtime_error(what), code_(code) {}
  [[nodiscard]] ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// The device stopped working for this process (a sticky CUDA error); trials so far are stored.
class DeviceLost : public Error {
 public:
  explicit DeviceLost(const std::string& what) : Error(ExitCode::no_device, what) {}
};

}  // namespace phitune
