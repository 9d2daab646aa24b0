// phitune sweep: tune a suite of problems on a device.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "harness/cli/command.hpp"
#include "harness/cli/output.hpp"
#include "harness/device/device_group.hpp"
#include "harness/device/replay_device.hpp"
#include "harness/error.hpp"
#include "harness/sweep.hpp"
#include "harness/tune/distill.hpp"
#include "search/strategy.hpp"

namespace phitune::cli {
namespace {

struct SweepFlags {
  ProblemOptions problems;
  CompilerFlags compiler;
  SweepOptions options;
  DeviceFlags device;
  std::string database = "phitune.db";
  std::string compile = "all";
  std::string regime = "flush";
  ExperienceFlags experience;
  bool again = false;
  bool until_worth_it = false;
  bool json = false;
  bool quiet = false;

  // Options that say how widely to look. A recording's own are used instead of those that were not typed.
  struct Limit {
    const CLI::Option* option;
    void (*copy)(SweepOptions& to, const SweepOptions& from);
  };
  std::vector<Limit> limits;
  const CLI::Option* trials = nullptr;
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
      nlohmann::json finalists = nlohmann::json::array();
      for (const PlanTrial& finalist : problem.finalists) {
        if (!finalist.standing) continue;
        finalists.push_back({{"plan", finalist.plan.text()},
                             {"median_ms", finalist.result.timing->median_ms},
                             {"samples", finalist.result.timing->samples_ms.size()},
                             {"discarded", finalist.result.timing->discarded},
                             {"difference_low", finalist.standing->low},
                             {"difference_high", finalist.standing->high},
                             {"tied", finalist.standing->tied}});
      }
      row["finalists"] = std::move(finalists);
      if (problem.incumbent_ms) row["faster_incumbent_ms"] = *problem.incumbent_ms;
    } else {
      row["reason"] = problem.reason;
    }
    problems.push_back(row);
  }
  nlohmann::json known = nlohmann::json::array();
  for (const KnownBeforehand& one : summary.known) known.push_back({{"what", one.what}, {"trials", one.trials}});
  const DeviceInfo& device = summary.sweep.device;
  return {{"device", device.name},
          {"replayed", device.replayed},
          {"emulated", device.emulated},
          {"sweep", summary.sweep.uid},
          {"seconds", summary.seconds},
          {"trials", summary.trials},
          {"resumed", summary.resumed},
          {"shared", summary.shared},
          {"same_code", summary.same_code},
          {"plan_trials", summary.plan_trials},
          {"known_beforehand", known},
          {"spared_trials", summary.spared},
          {"spared_device_seconds", 1e-3 * summary.spared_ms},
          {"outcomes", outcomes},
          {"compiled", summary.compiler.compiled},
          {"cache_hits", summary.compiler.cache_hits},
          {"compile_failed", summary.compiler.failed},
          {"interrupted", summary.interrupted},
          {"problems", problems}};
}

void print(const SweepSummary& summary) {
  const DeviceInfo& device = summary.sweep.device;
  fmt::print("{}{}\n", device.name,
             device.replayed   ? " (replayed: every time below is the recording's)"
             : device.emulated ? " (CPU emulation: right or wrong counts below, and no time says anything about a GPU)"
                               : "");
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
    const auto tied =
        std::ranges::count_if(problem.finalists, [](const PlanTrial& trial) { return trial.standing && trial.standing->tied; });
    if (tied > 1) fmt::print("{:<22}{:>12}  {} plans cannot be told apart; this one wins by rule\n", "", "", tied);
    if (problem.incumbent_ms) fmt::print("{:<22}{:>12.4f}  an earlier sweep's winner is faster and stays\n", "", *problem.incumbent_ms);
  }
  std::string outcomes;
  for (const auto& [outcome, count] : summary.outcomes)
    outcomes += fmt::format("{}{} {}", outcomes.empty() ? "" : ", ", count, to_string(outcome));
  const std::string resumed = summary.resumed ? fmt::format(", {} of them from before it was resumed", summary.resumed) : "";
  const std::string shared = summary.shared ? fmt::format(", {} of them used by a second problem", summary.shared) : "";
  const std::string same_code = summary.same_code ? fmt::format(", {} of them known by their machine code", summary.same_code) : "";
  fmt::print("{} stage trials ({}){}{}{}; {} whole plans; {} kernels compiled, {} from the cache; {}\n", summary.trials + summary.resumed,
             outcomes, resumed, shared, same_code, summary.plan_trials, summary.compiler.compiled, summary.compiler.cache_hits,
             human_seconds(summary.seconds));
  std::string known;
  for (const KnownBeforehand& one : summary.known)
    if (one.trials > 0) known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", counted(one.trials, "trial"), one.what);
  if (!summary.known.empty()) fmt::print("known beforehand: {}\n", known.empty() ? "nothing" : known);
  if (summary.spared > 0)
    fmt::print("{} not made, because one of the next {} was unlikely to gain {:g} %: about {} of device time\n",
               counted(summary.spared, "more trial"), WorthIt{}.trials, 100 * WorthIt{}.gain, human_seconds(1e-3 * summary.spared_ms));
}

// What is about to happen, where, and where it goes.
void announce(Progress& progress, const SweepFlags& flags, const Suite& suite, const DeviceInfo& device, const Compiler& compiler) {
  const std::string cache = compiler.options().cache_directory.string();
  progress.note(fmt::format("{}, {}{}; {} of suite {}; database {}", device.name, device.architecture,
                            device.replayed   ? " (replayed: nothing is measured here)"
                            : device.emulated ? " (CPU emulation: its times are no GPU's)"
                                              : "",
                            counted(suite.problems.size(), "problem"), suite.name, flags.database));
  progress.note(fmt::format("NVRTC {} on {}; {}", Compiler::nvrtc_version(), counted(compiler.options().threads, "thread"),
                            cache.empty() ? "compiled kernels are not kept" : "compiled kernels in " + cache));
}

// A recording answers what it was asked when it was made, so its limits, strategy and seed are the ones to ask it with.
void adopt_limits(SweepFlags& flags, const SweepInfo& recorded) {
  const SweepOptions typed = flags.options;
  read_policy(recorded.policy, flags.options);
  flags.options.search.strategy = recorded.strategy;
  flags.options.search.seed = recorded.seed;
  for (const SweepFlags::Limit& limit : flags.limits)
    if (limit.option->count() > 0) limit.copy(flags.options, typed);
}

void require_recorded(const Suite& suite, const ReplayDevice& device, const std::string& name) {
  const std::vector<Problem> recorded = device.problems();
  const auto is_there = [&](const SuiteProblem& named) { return std::ranges::find(recorded, named.problem) != recorded.end(); };
  if (std::ranges::any_of(suite.problems, is_there)) return;
  std::string list;
  for (const Problem& problem : recorded) list += "\n  " + problem.key();
  throw Error(ExitCode::bad_input, fmt::format("none of these problems is in {}. It holds{}", name, list));
}

void prepare_replay(SweepFlags& flags, const Suite& suite, const Device& device) {
  if (const auto* replay = dynamic_cast<const ReplayDevice*>(&device)) {
    require_recorded(suite, *replay, flags.device.name);
    adopt_limits(flags, replay->sweep());
  } else if (flags.options.compile == CompileScope::leading) {
    throw Error(ExitCode::usage, "--compile leading is for recordings: a device must be given the code of every candidate that it runs");
  }
}

int run(SweepFlags flags) {
  const Suite suite = flags.problems.load();
  flags.options.stage_policy.regime = flags.options.final_policy.regime = parse_regime(flags.regime);
  flags.options.final_policy.rest = flags.options.stage_policy.rest;
  flags.options.reuse = flags.again ? Reuse::this_sweep : Reuse::any_sweep;
  flags.options.compile = flags.compile == "all" ? CompileScope::all : CompileScope::leading;
  const std::unique_ptr<Device> device = flags.device.open(Use::measure, flags.compiler.cache);
  if (flags.until_worth_it) {
    flags.options.search.worth_it = WorthIt{};
    if (flags.trials->count() == 0) flags.options.search.trials = std::numeric_limits<std::size_t>::max();
  }
  prepare_replay(flags, suite, *device);
  if (flags.options.search.worth_it && !heeds_prior(flags.options.search.strategy))
    throw Error(ExitCode::usage,
                fmt::format("--until-worth-it is for strategies that can tell what is left to gain, auto and informed; '{}' cannot",
                            flags.options.search.strategy));
  if (flags.experience.asks_for_some() && !heeds_prior(flags.options.search.strategy))
    throw Error(ExitCode::usage,
                fmt::format("--experience is for strategies that begin with what is known, auto and informed; '{}' begins with nothing",
                            flags.options.search.strategy));
  if (heeds_prior(flags.options.search.strategy))
    flags.options.experience = flags.experience.load(flags.options.stage_policy.regime, builtin_by_default(device->info()));
  flags.options.stage_policy.seed = flags.options.final_policy.seed = flags.options.search.seed;
  Compiler compiler({device->info().architecture, flags.compiler.cache, flags.compiler.threads});
  Store store(flags.database);
  Progress progress(flags.json || flags.quiet ? Progress::Style::silent : Progress::Style::automatic);
  announce(progress, flags, suite, device->info(), compiler);
  const SweepSummary summary = sweep(suite, *device, compiler, store, flags.options, progress, stop_requested());
  if (flags.json)
    fmt::print("{}\n", to_json(summary).dump(2));
  else
    print(summary);
  if (const auto* group = dynamic_cast<const DeviceGroup*>(device.get()))
    for (const std::string& loss : group->losses()) fmt::print(stderr, "warning: {}\n", loss);
  if (summary.compiler.cache_write_failures > 0)
    fmt::print(stderr,
               "warning: {} could not be kept, so the next sweep compiles them again: {}. Free some space there, or name another folder "
               "with --cache.\n",
               counted(summary.compiler.cache_write_failures, "compiled kernel"), summary.compiler.cache_warning);
  if (summary.interrupted) {
    fmt::print(stderr, "stopped; every trial so far is in {}. Go on with the same command and --resume.\n", flags.database);
    return static_cast<int>(ExitCode::interrupted);
  }
  const bool all = std::ranges::all_of(summary.problems, [](const ProblemSummary& problem) { return problem.winner.has_value(); });
  return static_cast<int>(all ? ExitCode::ok : ExitCode::failed);
}

void add_limits(CLI::App& command, SweepFlags& flags) {
  SearchPolicy& search = flags.options.search;
  const auto limit = [&flags](CLI::Option* option, void (*copy)(SweepOptions&, const SweepOptions&)) {
    flags.limits.push_back({option, copy});
    option->capture_default_str();
  };
  limit(command.add_option("--strategy", search.strategy, "how configs are chosen")->check(CLI::IsMember(strategy_names())),
        [](SweepOptions& to, const SweepOptions& from) { to.search.strategy = from.search.strategy; });
  CLI::Option* trials = command.add_option("--trials", search.trials, "configs per stage at its pivot chunk size")->check(at_least(1));
  flags.trials = trials;
  limit(trials, [](SweepOptions& to, const SweepOptions& from) { to.search.trials = from.search.trials; });
  limit(command.add_option("--seconds", search.seconds, "time for the stages of one problem; 0: no limit")->check(at_least(0)),
        [](SweepOptions& to, const SweepOptions& from) { to.search.seconds = from.search.seconds; });
  limit(
      command.add_flag("--until-worth-it", flags.until_worth_it,
                       "end a stage's search once one of the next 10 configs is unlikely (10 %) to gain 1 %; without --trials there is no "
                       "other bound on it"),
      [](SweepOptions& to, const SweepOptions& from) {
        to.search.worth_it = from.search.worth_it;
        to.search.trials = from.search.trials;
      });
  limit(command.add_option("--carried", search.carried, "best configs that are tried at each other chunk size")->check(at_least(0)),
        [](SweepOptions& to, const SweepOptions& from) { to.search.carried = from.search.carried; });
  limit(command.add_option("--finalists", search.finalists, "whole plans run end to end per problem")->check(at_least(1)),
        [](SweepOptions& to, const SweepOptions& from) { to.search.finalists = from.search.finalists; });
  limit(command.add_option("--bound", search.plan_bound, "leave out plans estimated beyond this multiple of the best estimate")
            ->check(at_least(1)),
        [](SweepOptions& to, const SweepOptions& from) { to.search.plan_bound = from.search.plan_bound; });
  limit(command.add_option("--seed", search.seed, "of the strategy and of the random inputs")->check(at_least(0)),
        [](SweepOptions& to, const SweepOptions& from) { to.search.seed = from.search.seed; });
  limit(add_regime(command, flags.regime),
        [](SweepOptions& to, const SweepOptions& from) { to.stage_policy.regime = to.final_policy.regime = from.stage_policy.regime; });
  limit(add_rest(command, flags.options.stage_policy.rest),
        [](SweepOptions& to, const SweepOptions& from) { to.stage_policy.rest = to.final_policy.rest = from.stage_policy.rest; });
}

}  // namespace

void add_sweep(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("sweep", "Tune a suite of problems: compile, verify, time, keep the winners");
  auto flags = std::make_shared<SweepFlags>();
  flags->problems.add_to(*command);
  flags->device.several = true;
  flags->device.add_to(
      *command,
      "cuda:N, several of one model (cuda:0,cuda:1 or cuda:all), replay:FILE to answer from a recorded sweep, or host[:sm_90a] "
      "to run small problems on this CPU");
  command->add_option("--db", flags->database, "database to add to; made when it does not exist")->capture_default_str();
  add_limits(*command, *flags);
  flags->compiler.add_to(*command);
  command
      ->add_option("--compile", flags->compile,
                   "of a recording's candidates: all, or only the leading ones, which takes a third of the time")
      ->check(CLI::IsMember({"all", "leading"}))
      ->capture_default_str();
  flags->experience.add_to(
      *command,
      "phitune recordings and distilled experience, separated by commas, of this or any other GPU: the search begins with what their trials "
      "teach, as it does with what phitune brings along and with what the database holds. none: without what phitune brings along; builtin: "
      "with it also where nothing is measured, as on replay:FILE");
  command->add_flag(
      "--again", flags->again,
      "measure again what an earlier sweep of the database has measured: the same machine code and launch on this device and driver");
  command->add_flag("--resume", flags->options.resume, "go on with the last unfinished sweep of this suite, strategy and seed");
  command->add_flag("--json", flags->json, "print the summary as JSON, and no progress");
  command->add_flag("--quiet", flags->quiet, "no progress");
  command->footer(
      "Every candidate is checked against a float64 reference before it is timed; what fails is stored with its reason.\n"
      "Ctrl-C stops after the trial in flight and keeps all others; --resume goes on.\n"
      "A recording is asked with the limits, strategy and seed that it was made with, unless others are given.\n"
      "Examples:\n"
      "  phitune sweep --suite data/suites/paper.toml --db phitune.db\n"
      "  phitune sweep --problem \"b1 t4096|16384|65536 h8 d64 p2 bf16 gated\" --trials 30\n"
      "  phitune sweep --suite data/suites/paper.toml --device replay:data/recordings/nvidia-h200.jsonl.gz --compile leading\n"
      "  phitune sweep --problem \"b1 t200 h2 d16 p2 bf16 gated\" --device host --trials 2     (no GPU: are the kernels right?)");
  command->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace phitune::cli
