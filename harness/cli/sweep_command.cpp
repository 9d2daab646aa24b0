// phitune sweep: tune a suite of problems on a device.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "harness/cli/command.hpp"
#include "harness/error.hpp"
#include "harness/sweep.hpp"
#include "search/strategy.hpp"

namespace phitune::cli {
namespace {

struct SweepFlags {
  ProblemOptions problems;
  CompilerFlags compiler;
  SweepOptions options;
  std::string device = "cuda:0";
  std::string database = "phitune.db";
  std::string compile = "all";
  bool hot = false;
  bool json = false;
  bool quiet = false;
};

nlohmann::json to_json(const SweepSummary& summary) {
  nlohmann::json problems = nlohmann::json::array(), outcomes = nlohmann::json::object();
  for (const auto& [outcome, count] : summary.outcomes) outcomes[std::string(to_string(outcome))] = count;
  for (const ProblemSummary& problem : summary.problems) {
    nlohmann::json row = {{"name", problem.name}, {"problem", problem.problem.key()}, {"trials", problem.trials}};
    if (problem.winner) {
      const Timing& timing = *problem.winner->result.timing;
      row["winner"] = {{"plan", problem.winner->plan.text()}, {"median_ms", timing.median_ms}, {"iqr_ms", timing.iqr_ms}};
      if (problem.floor_ms > 0) row["time_over_floor"] = timing.median_ms / problem.floor_ms;
      if (problem.incumbent_ms) row["faster_incumbent_ms"] = *problem.incumbent_ms;
    } else {
      row["reason"] = problem.reason;
    }
    problems.push_back(row);
  }
  const DeviceInfo& device = summary.sweep.device;
  return {{"device", device.name},
          {"replayed", device.replayed},
          {"sweep", summary.sweep.uid},
          {"seconds", summary.seconds},
          {"trials", summary.trials},
          {"resumed", summary.resumed},
          {"shared", summary.shared},
          {"plan_trials", summary.plan_trials},
          {"outcomes", outcomes},
          {"compiled", summary.compiler.compiled},
          {"cache_hits", summary.compiler.cache_hits},
          {"compile_failed", summary.compiler.failed},
          {"interrupted", summary.interrupted},
          {"problems", problems}};
}

void print(const SweepSummary& summary) {
  const DeviceInfo& device = summary.sweep.device;
  fmt::print("{}{}\n", device.name, device.replayed ? " (replayed: every time below is the recording's)" : "");
  fmt::print("{:<22}{:>12}{:>10}{:>9}{:>8}  {}\n", "problem", "median ms", "IQR", "x floor", "trials", "winner");
  for (const ProblemSummary& problem : summary.problems) {
    if (!problem.winner) {
      fmt::print("{:<22}{:>12}{:>10}{:>9}{:>8}  none: {}\n", problem.name, "-", "-", "-", problem.trials, problem.reason);
      continue;
    }
    const Timing& timing = *problem.winner->result.timing;
    const std::string over_floor = problem.floor_ms > 0 ? fmt::format("{:.2f}", timing.median_ms / problem.floor_ms) : "-";
    fmt::print("{:<22}{:>12.4f}{:>10.4f}{:>9}{:>8}  {}\n", problem.name, timing.median_ms, timing.iqr_ms, over_floor, problem.trials,
               problem.winner->plan.shape.text());
    if (problem.incumbent_ms) fmt::print("{:<22}{:>12.4f}  an earlier sweep's winner is faster and stays\n", "", *problem.incumbent_ms);
  }
  std::string outcomes;
  for (const auto& [outcome, count] : summary.outcomes)
    outcomes += fmt::format("{}{} {}", outcomes.empty() ? "" : ", ", count, to_string(outcome));
  const std::string resumed = summary.resumed ? fmt::format(", {} of them from before it was resumed", summary.resumed) : "";
  fmt::print("{} stage trials ({}){}; {} whole plans; {} kernels compiled, {} from the cache; {}\n", summary.trials + summary.resumed,
             outcomes, resumed, summary.plan_trials, summary.compiler.compiled, summary.compiler.cache_hits,
             human_seconds(summary.seconds));
}

// What is about to happen, where, and where it goes.
void announce(Progress& progress, const SweepFlags& flags, const Suite& suite, const DeviceInfo& device, const Compiler& compiler) {
  progress.note(fmt::format("{}{}, {}; {} problem{} of suite {}; database {}", device.name,
                            device.replayed ? " (replayed: nothing is measured here)" : "", device.architecture, suite.problems.size(),
                            suite.problems.size() == 1 ? "" : "s", suite.name, flags.database));
  const std::string cache = compiler.options().cache_directory.string();
  progress.note(fmt::format("NVRTC {} on {} thread{}; compiled kernels {}", Compiler::nvrtc_version(), compiler.options().threads,
                            compiler.options().threads == 1 ? "" : "s", cache.empty() ? "are not kept" : "are kept in " + cache));
}

int run(SweepFlags flags) {
  const Suite suite = flags.problems.load();
  const std::unique_ptr<Device> device = open_device(flags.device);
  flags.options.compile = flags.compile == "all" ? CompileScope::all : CompileScope::leading;
  if (flags.options.compile == CompileScope::leading && !device->info().replayed)
    throw Error(ExitCode::usage, "--compile leading is for recordings: a GPU must be given the code of every candidate that it runs");
  Compiler compiler({device->info().architecture, flags.compiler.cache, flags.compiler.threads});
  Store store(flags.database);
  flags.options.stage_policy.cold_l2 = flags.options.final_policy.cold_l2 = !flags.hot;
  flags.options.stage_policy.seed = flags.options.final_policy.seed = flags.options.search.seed;
  Progress progress(flags.json || flags.quiet ? Progress::Style::silent : Progress::Style::automatic);
  announce(progress, flags, suite, device->info(), compiler);
  const SweepSummary summary = sweep(suite, *device, compiler, store, flags.options, progress, stop_requested());
  if (flags.json)
    fmt::print("{}\n", to_json(summary).dump(2));
  else
    print(summary);
  if (summary.compiler.cache_write_failures > 0)
    fmt::print(stderr, "warning: {} compiled kernels could not be kept: {}\n", summary.compiler.cache_write_failures,
               summary.compiler.cache_warning);
  if (summary.interrupted) {
    fmt::print(stderr, "stopped; every trial so far is in {}. Go on with the same command and --resume.\n", flags.database);
    return static_cast<int>(ExitCode::interrupted);
  }
  const bool all = std::all_of(summary.problems.begin(), summary.problems.end(),
                               [](const ProblemSummary& problem) { return problem.winner.has_value(); });
  return static_cast<int>(all ? ExitCode::ok : ExitCode::failed);
}

}  // namespace

void add_sweep(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("sweep", "Tune a suite of problems: compile, verify, time, keep the winners");
  auto flags = std::make_shared<SweepFlags>();
  flags->problems.add_to(*command);
  flags->compiler.add_to(*command);
  SearchPolicy& search = flags->options.search;
  command->add_option("--device", flags->device, "cuda:N, or replay:FILE to answer from a recorded sweep")->capture_default_str();
  command->add_option("--db", flags->database, "database to add to; made when it does not exist")->capture_default_str();
  command->add_option("--strategy", search.strategy, "how configs are chosen")
      ->check(CLI::IsMember(strategy_names()))
      ->capture_default_str();
  command->add_option("--trials", search.trials, "configs per stage at its pivot chunk size")->capture_default_str();
  command->add_option("--carried", search.carried, "best configs that are tried at each other chunk size")->capture_default_str();
  command->add_option("--finalists", search.finalists, "whole plans run end to end per problem")->capture_default_str();
  command->add_option("--bound", search.plan_bound, "leave out plans estimated beyond this multiple of the best estimate")
      ->capture_default_str();
  command->add_option("--seed", search.seed, "of the strategy and of the random inputs")->capture_default_str();
  command
      ->add_option("--compile", flags->compile,
                   "of a recording's candidates: all, or only the leading ones, which takes a third of the time")
      ->check(CLI::IsMember({"all", "leading"}))
      ->capture_default_str();
  command->add_flag("--hot", flags->hot, "time with a warm L2 cache instead of a cold one");
  command->add_flag("--resume", flags->options.resume, "go on with the last unfinished sweep of this suite, strategy and seed");
  command->add_flag("--json", flags->json, "print the summary as JSON");
  command->add_flag("--quiet", flags->quiet, "no progress");
  command->footer(
      "Every candidate is checked against a float64 reference before it is timed; what fails is stored with its reason.\n"
      "Ctrl-C stops after the trial in flight and keeps all others; --resume goes on.\n"
      "Example: phitune sweep --suite data/suites/paper.toml --db phitune.db");
  command->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace phitune::cli
