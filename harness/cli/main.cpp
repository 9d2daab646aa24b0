// phitune: tune, verify and dispatch power-attention kernels. Parses the command line and turns errors into messages and exit codes.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "harness/cli/command.hpp"
#include "harness/error.hpp"

namespace phitune::cli {
namespace {

std::atomic<bool> stop{false};

// The first Ctrl-C asks for a clean stop; the second one ends the process at once.
void on_signal(int signal) {
  if (stop.exchange(true)) std::_Exit(128 + signal);
}

int run(int argc, char** argv) {
  CLI::App app(
      "phitune tunes power-attention kernels for your GPU: it compiles every candidate with NVRTC, checks it against a float64 "
      "reference, times it, and keeps the winners in a database that its dispatcher reads.");
  app.set_version_flag("--version", "phitune " PHITUNE_VERSION);
  app.require_subcommand(1);
  app.footer(
      "A first run:\n"
      "  phitune sweep --suite data/suites/paper.toml --db phitune.db     tune (a GPU, or --device replay:FILE without one)\n"
      "  phitune report --db phitune.db --html report.html                look at it\n"
      "  phitune dispatch --db phitune.db --problem \"b1 t65536 h8 d64 p2 bf16 gated\" --run\n"
      "Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 bad input, 4 no usable device, 5 files or disk, 130 stopped by Ctrl-C.");
  Action action;
  for (auto* add : {add_sweep, add_report, add_export, add_dispatch, add_space, add_compile, add_verify, add_bench, add_devices, add_db}) add(app, action);
  CLI11_PARSE(app, argc, argv);
  return action();
}

}  // namespace

const std::atomic<bool>& stop_requested() { return stop; }

int guarded(int argc, char** argv) {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  try {
    const int code = run(argc, argv);
    // CLI11 has codes of its own for wrong usage; to a script all of them are 2.
    return code >= 100 && code != static_cast<int>(ExitCode::interrupted) ? static_cast<int>(ExitCode::usage) : code;
  } catch (const Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return static_cast<int>(ExitCode::bad_input);
  }
}

}  // namespace phitune::cli

int main(int argc, char** argv) { return phitune::cli::guarded(argc, argv); }
