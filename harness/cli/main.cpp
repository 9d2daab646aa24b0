// phitune: tune, verify and dispatch power-attention kernels. Parses the command line and turns errors into messages and exit codes.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <system_error>

#include "harness/cli/command.hpp"
#include "harness/error.hpp"
#include "search/text.hpp"

namespace phitune::cli {
namespace {

std::atomic<bool> stop{false};

// The first Ctrl-C asks for a clean stop; the second one ends the process at once.
void on_signal(int signal) {
  if (stop.exchange(true)) std::_Exit(128 + signal);
}

void complain(const char* what) { fmt::print(stderr, "error: {}\n", what); }

const CLI::App& innermost(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : innermost(*chosen.front());
}

// A word that nobody expected: what it is, and what was probably meant; empty when all words were understood.
std::string unknown_word(const CLI::App& command, const std::string& path) {
  const std::vector<std::string> unexpected = command.remaining();
  if (unexpected.empty()) return {};
  const auto dashed = std::ranges::find_if(unexpected, [](const std::string& word) { return word.starts_with("-"); });
  const std::string word = dashed == unexpected.end() ? unexpected.front() : *dashed;
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; })) names.push_back(sub->get_name());
  const auto nearest = nearest_name(word, std::vector<std::string_view>(names.begin(), names.end()));
  return fmt::format("'{}' means nothing to {}{}", word, path, nearest ? fmt::format(": did you mean {}?", *nearest) : "");
}

// One line on what is wrong, one on where to learn more.
std::string usage_message(const CLI::App* app, const CLI::Error& error) {
  const CLI::App& command = innermost(*app);
  std::string path = command.get_name();
  for (const CLI::App* parent = command.get_parent(); parent; parent = parent->get_parent()) path = parent->get_name() + " " + path;
  const std::string unknown = unknown_word(command, path);
  return fmt::format("error: {}\nSee {} --help\n", unknown.empty() ? error.what() : unknown, path);
}

int run(int argc, char** argv) {
  CLI::App app(
      "phitune tunes power-attention kernels for your GPU: it compiles every candidate with NVRTC, checks it against a float64 "
      "reference, times it, and keeps the winners in a database that its dispatcher reads.",
      "phitune");
  app.set_version_flag("--version", "phitune " PHITUNE_VERSION);
  app.require_subcommand(1);
  app.failure_message(usage_message);
  app.option_defaults()->take_last();
  app.footer(
      "A first run:\n"
      "  phitune sweep --suite data/suites/paper.toml --db phitune.db     tune (a GPU, or --device replay:FILE without one)\n"
      "  phitune report --db phitune.db --html report.html                look at it\n"
      "  phitune dispatch --db phitune.db --problem \"b1 t65536 h8 d64 p2 bf16 gated\" --run\n"
      "Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 bad input, 4 no usable device, 5 files or disk, 130 stopped by Ctrl-C.\n"
      "docs/cli.md has them all, with the environment variables and the form of a suite.");
  Action action;
  for (auto* add : {add_sweep, add_report, add_export, add_dispatch, add_space, add_compile, add_verify, add_bench, add_devices, add_db, add_worker})
    add(app, action);
  if (argc == 1) {
    fmt::print(stderr, "{}", app.help());
    return static_cast<int>(ExitCode::usage);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::usage);  // --help and --version end here too, as successes
  }
  return action();
}

// What was printed is a result too: a full disk behind standard output must not look like success.
int flushed(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  throw Error(ExitCode::io, fmt::format("cannot write to standard output: {}", std::strerror(errno)));
}

}  // namespace

const std::atomic<bool>& stop_requested() { return stop; }

int guarded(int argc, char** argv) {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGXFSZ, SIG_IGN);  // the write that meets a limit (ulimit -f) then fails, and is named, like on a full disk
  try {
    return flushed(run(argc, argv));
  } catch (const Error& error) {
    complain(error.what());
    return static_cast<int>(error.code());
  } catch (const std::invalid_argument& error) {  // a word that a parser of search did not understand
    complain(error.what());
    return static_cast<int>(ExitCode::bad_input);
  } catch (const std::system_error& error) {  // fmt could not write
    complain(fmt::format("cannot write to standard output: {}", error.code().message()).c_str());
    return static_cast<int>(ExitCode::io);
  } catch (const std::exception& error) {
    complain(error.what());
    return static_cast<int>(ExitCode::failed);
  }
}

}  // namespace phitune::cli

int main(int argc, char** argv) { return phitune::cli::guarded(argc, argv); }
