// What the commands share. Each command lives in a file of its own name and adds itself to the application.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "harness/device/device.hpp"
#include "harness/store/lessons.hpp"
#include "harness/store/store.hpp"
#include "harness/suite.hpp"
#include "search/trial.hpp"

namespace phitune::cli {

/// Set by Ctrl-C (SIGINT) and SIGTERM; long work looks at it between trials.
[[nodiscard]] const std::atomic<bool>& stop_requested();

/// A command's work, run after parsing; its return value is the process's exit code.
using Action = std::function<int()>;

void add_devices(CLI::App& app, Action& action);
void add_space(CLI::App& app, Action& action);
void add_sweep(CLI::App& app, Action& action);
void add_compile(CLI::App& app, Action& action);
void add_report(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_dispatch(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_bench_plans(CLI::App& bench, Action& action);
void add_bench_search(CLI::App& bench, Action& action);
void add_db(CLI::App& app, Action& action);
void add_worker(CLI::App& app, Action& action);

/// Problems by a suite file, by shorthand, or by fields; every field may be a list, which makes it an axis.
struct ProblemOptions {
  std::string suite;
  std::vector<std::string> problems;

  void add_to(CLI::App& command);
  [[nodiscard]] bool empty() const { return suite.empty() && problems.empty(); }
  /// Throws Error naming what is wrong; also when nothing was given.
  [[nodiscard]] Suite load() const;
};

/// Refuses what is no number or less than `least`.
[[nodiscard]] CLI::Validator at_least(double least);

/// --regime: what is in the L2 cache when a sample begins, and how kernels are launched.
CLI::Option* add_regime(CLI::App& command, std::string& regime);
CLI::Option* add_rest(CLI::App& command, double& rest);

/// Where compiled kernels are kept: $PHITUNE_CACHE, else $XDG_CACHE_HOME/phitune, else ~/.cache/phitune, else none.
[[nodiscard]] std::filesystem::path default_cache_directory();

/// A database that this command only looks at.
[[nodiscard]] Store open_read_only(const std::string& database);

/// Winners that were tuned on this board, or, when it has none, on another of the same name and architecture. Throws Error when there is
/// neither.
[[nodiscard]] std::vector<Winner> winners_for(Store& store, const DeviceInfo& device);

/// --experience: files by their names, `builtin` for what phitune brings along, `none` for doing without.
struct ExperienceFlags {
  std::vector<std::string> names;
  CLI::Option* add_to(CLI::App& command, const std::string& help);
  [[nodiscard]] bool asks_for_some() const;
  /// In the order in which they count for more, the built-in one first: where it was asked for, or `by_default` where `none` was not. Throws
  /// Error for both `builtin` and `none`, and what read_lessons throws.
  [[nodiscard]] std::vector<std::shared_ptr<const Lessons>> load(Regime regime, bool by_default) const;

 private:
  [[nodiscard]] bool has(const std::string& name) const;
};

struct CompilerFlags {
  std::string cache = default_cache_directory().string();
  int threads = 0;
  void add_to(CLI::App& command);
};

/// The device of a command that runs or recalls candidates.
struct DeviceFlags {
  std::string name = "cuda:0";
  double emulation_limit_s = HostOptions{}.limit_s;
  double trial_limit_s = 0;  // 0: from what has been seen
  bool in_process = false;
  bool several = false;  // whether the command can use more than one at once
  void add_to(CLI::App& command, const std::string& what);
  /// A GPU in a worker process of its own, unless asked otherwise; several as a DeviceGroup. `cache`: folder of compiled kernels. Throws
  /// what open_device throws.
  [[nodiscard]] std::unique_ptr<Device> open(Use use, const std::string& cache) const;

 private:
  [[nodiscard]] std::unique_ptr<Device> open_one(const std::string& device, Use use, const std::string& cache) const;
};

}  // namespace phitune::cli
