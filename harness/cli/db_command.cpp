// phitune db: look into a database, check it, join two, and write a sweep as a recording or what trials teach.
#include <fmt/format.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "harness/cli/command.hpp"
#include "harness/cli/output.hpp"
#include "harness/error.hpp"
#include "harness/store/recording.hpp"
#include "harness/store/store.hpp"
#include "harness/tune/distill.hpp"

namespace phitune::cli {
namespace {

struct DbFlags {
  std::string database = "phitune.db";
  std::string from;
  std::vector<std::string> sources;
  std::string output;
  std::int64_t sweep = 0;
  bool json = false;
};

bool is_database(const std::string& path) {
  constexpr std::string_view magic = "SQLite format 3";
  std::string begin(magic.size(), '\0');
  std::ifstream(path, std::ios::binary).read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return begin == magic;
}

double megabytes(std::int64_t bytes) { return 1e-6 * static_cast<double>(bytes); }

int info(const DbFlags& flags) {
  Store store = open_read_only(flags.database);
  const StoreInfo info = store.info();
  nlohmann::json outcomes = nlohmann::json::object();
  for (const auto& [outcome, count] : info.outcomes) outcomes[std::string(to_string(outcome))] = count;
  if (flags.json) {
    nlohmann::json sweeps = nlohmann::json::array();
    for (const SweepInfo& sweep : store.sweeps()) {
      sweeps.push_back({{"id", sweep.id},
                        {"uid", sweep.uid},
                        {"device", sweep.device.name},
                        {"replayed", sweep.device.replayed},
                        {"suite", sweep.suite},
                        {"strategy", sweep.strategy},
                        {"seed", sweep.seed},
                        {"status", to_string(sweep.status)},
                        {"started_at", sweep.started_at},
                        {"ended_at", sweep.ended_at},
                        {"driver", sweep.device.driver},
                        {"nvrtc", sweep.nvrtc_version}});
    }
    nlohmann::json incidents = nlohmann::json::array();
    for (const auto& [id, sweep, incident] : store.incidents()) {
      incidents.push_back({{"sweep", sweep},
                           {"subject", incident.subject},
                           {"code", incident.code},
                           {"outcome", to_string(incident.outcome)},
                           {"reason", incident.reason},
                           {"verdict", to_string(incident.verdict)},
                           {"ran_before", incident.ran_before},
                           {"created_at", incident.created_at}});
    }
    const nlohmann::json out = {{"path", info.path.string()},
                                {"schema_version", info.schema_version},
                                {"file_bytes", info.file_bytes},
                                {"sqlite", info.sqlite_version},
                                {"devices", info.devices},
                                {"problems", info.problems},
                                {"stage_problems", info.stage_problems},
                                {"trials", info.trials},
                                {"outcomes", outcomes},
                                {"beaten", {{"trials", info.beaten}, {"at_least", info.beaten_by_at_least}}},
                                {"plans", info.plans},
                                {"plan_trials", info.plan_trials},
                                {"winners", info.winners},
                                {"incidents", incidents},
                                {"binaries", info.binaries},
                                {"binary_bytes", info.binary_bytes},
                                {"sweeps", sweeps}};
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  fmt::print("{}: schema {}, {:.1f} MB (SQLite {})\n", info.path.string(), info.schema_version, megabytes(info.file_bytes + info.log_bytes),
             info.sqlite_version);
  fmt::print("{}, {}, {}, {}\n", counted(info.devices, "device"), counted(info.problems, "problem"),
             counted(info.stage_problems, "stage problem"), counted(info.winners, "winner"));
  std::string by_outcome;
  for (const auto& [outcome, count] : info.outcomes)
    by_outcome += fmt::format("{}{} {}", by_outcome.empty() ? "" : ", ", count, to_string(outcome));
  fmt::print("{} ({}); {} of {}; {} ({:.1f} MB)\n", counted(info.trials, "stage trial"), by_outcome.empty() ? "none" : by_outcome,
             counted(info.plan_trials, "trial"), counted(info.plans, "whole plan"), counted(info.binaries, "kernel"),
             megabytes(info.binary_bytes));
  if (info.beaten > 0)
    fmt::print("{} given up early, each proven slower than the best of its stage problem by {:.1f} % or more (95 %)\n",
               counted(info.beaten, "stage trial"), 100 * (info.beaten_by_at_least - 1));
  for (const SweepInfo& sweep : store.sweeps()) {
    fmt::print("sweep {:>3}  {}{}  {}  {} seed {}  {}{}  {} .. {}\n", sweep.id, sweep.device.name,
               sweep.device.replayed ? " (replayed)" : "", sweep.suite, sweep.strategy, sweep.seed, to_string(sweep.status),
               sweep.reason.empty() ? "" : " (" + sweep.reason + ")", sweep.started_at, sweep.ended_at);
  }
  for (const auto& [id, sweep, incident] : store.incidents())
    fmt::print("{}  {}  {}: {}\n", incident.verdict == Incident::Verdict::guilty ? "quarantine" : to_string(incident.verdict),
               incident.subject, to_string(incident.outcome), incident.reason);
  for (const Winner& winner : store.winners()) {
    const PlanTrial& trial = winner.plan_trial.trial;
    fmt::print("winner {:>11.4f} ms  {}{}  {}  {}{}\n", trial.result.timing->median_ms, winner.device.name,
               winner.device.replayed ? " (replayed)" : "", trial.plan.problem.key(), trial.plan.shape.text(),
               winner.stale ? "  stale: " + winner.stale_reason : "");
  }
  return 0;
}

int release(const DbFlags& flags) {
  StoreOptions options;
  options.mode = OpenMode::read_write;
  Store store(flags.database, options);
  const std::int64_t released = store.release_quarantine();
  if (flags.json)
    fmt::print("{}\n", nlohmann::json({{"path", flags.database}, {"released", released}}).dump(2));
  else
    fmt::print("{}: {} will be tried again\n", flags.database, counted(released, "candidate"));
  return 0;
}

int check(const DbFlags& flags) {
  Store store = open_read_only(flags.database);
  const std::vector<std::string> faults = store.check();
  if (flags.json) {
    fmt::print("{}\n", nlohmann::json({{"path", flags.database}, {"ok", faults.empty()}, {"faults", faults}}).dump(2));
  } else {
    for (const std::string& fault : faults) fmt::print("{}\n", fault);
    fmt::print("{}: {}\n", flags.database, faults.empty() ? "nothing wrong" : counted(faults.size(), "fault"));
  }
  return static_cast<int>(faults.empty() ? ExitCode::ok : ExitCode::failed);
}

int merge(const DbFlags& flags) {
  Store store(flags.database);
  const MergeReport report = store.merge(flags.from);
  if (flags.json) {
    fmt::print("{}\n", nlohmann::json({{"sweeps", report.sweeps},
                                       {"trials", report.trials},
                                       {"plan_trials", report.plan_trials},
                                       {"binaries", report.binaries},
                                       {"winners", report.winners},
                                       {"incidents", report.incidents},
                                       {"trials_present", report.trials_present},
                                       {"plan_trials_present", report.plan_trials_present},
                                       {"conflicts", report.conflicts}})
                           .dump(2));
    return 0;
  }
  fmt::print("{} <- {}: added {}, {} and {} ({} and {} were there), {}; set {}; {}\n", flags.database, flags.from,
             counted(report.sweeps, "sweep"), counted(report.trials, "trial"), counted(report.plan_trials, "plan trial"),
             report.trials_present, report.plan_trials_present, counted(report.binaries, "kernel"), counted(report.winners, "winner"),
             counted(report.conflicts, "conflict"));
  return 0;
}

int record(const DbFlags& flags) {
  const std::filesystem::path output = replaceable(flags.output);
  Store store = open_read_only(flags.database);
  std::int64_t id = flags.sweep;
  if (id == 0) {
    for (const SweepInfo& sweep : store.sweeps())
      if (sweep.status == SweepStatus::finished) id = sweep.id;
    if (id == 0)
      throw Error(ExitCode::bad_input,
                  flags.database + " holds no finished sweep to record; name one with --sweep (phitune db info lists them)");
  }
  const Recording recording = recording_of(store, id);
  write_recording(output, recording);
  if (flags.json) {
    fmt::print(
        "{}\n",
        nlohmann::json(
            {{"path", flags.output}, {"sweep", id}, {"trials", recording.trials.size()}, {"plan_trials", recording.plan_trials.size()}})
            .dump(2));
    return 0;
  }
  fmt::print("{}: sweep {} of {}, {}, {}. Replay it with --device replay:{}\n", flags.output, id, recording.sweep.device.name,
             counted(recording.trials.size(), "trial"), counted(recording.plan_trials.size(), "plan trial"), flags.output);
  return 0;
}

// A database or a recording, told apart by how they begin.
void collect(const std::string& source, LessonCollector& to) {
  if (is_database(source)) {
    Store store = open_read_only(source);
    std::map<std::int64_t, SweepInfo> sweeps;
    for (const SweepInfo& sweep : store.sweeps()) sweeps.emplace(sweep.id, sweep);
    store.for_each_trial({}, [&](const StoredTrial& stored) { to.add(sweeps.at(stored.sweep), stored.trial); });
    return;
  }
  const Recording recording = read_recording(source);
  for (const Trial& trial : recording.trials) to.add(recording.sweep, trial);
}

int distill(const DbFlags& flags) {
  const std::filesystem::path output = replaceable(flags.output);
  LessonCollector collector{Regime{}};
  for (const std::string& source : flags.sources) collect(source, collector);
  const Lessons all = collector.lessons(), today = of_today(all);
  if (today.size() == 0)
    throw Error(ExitCode::bad_input, "none of these trials teaches anything: no config of today's kernels was timed on a GPU with a cold cache");
  const std::string bytes = packed(today);
  write_output(output.string(), bytes);
  const std::size_t outdated = all.size() - today.size();
  if (flags.json) {
    fmt::print("{}\n", nlohmann::json({{"path", flags.output},
                                       {"bytes", bytes.size()},
                                       {"devices", today.devices.size()},
                                       {"stage_problems", today.stages.size()},
                                       {"trials", today.size()},
                                       {"outdated", outdated}})
                           .dump(2));
    return 0;
  }
  fmt::print("{}: {} of {} on {}; {} left out, of kernels that have changed. Sweep with it by --experience {}\n", flags.output,
             counted(today.size(), "trial"), counted(today.stages.size(), "stage problem"), counted(today.devices.size(), "model"),
             counted(outdated, "trial"), flags.output);
  return 0;
}

}  // namespace

void add_db(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("db", "Look into a database, check it, merge two, write a recording or distilled experience");
  command->require_subcommand(1);
  command->footer(
      "Examples:\n"
      "  phitune db info --db phitune.db\n"
      "  phitune db merge --db phitune.db from-another-machine.db\n"
      "  phitune db record --db phitune.db h200.jsonl.gz\n"
      "  phitune db distill experience.jsonl.gz phitune.db h200.jsonl.gz");
  auto flags = std::make_shared<DbFlags>();
  const auto add_any = [&](const char* name, const char* help, int (*work)(const DbFlags&)) {
    auto* sub = command->add_subcommand(name, help);
    sub->add_flag("--json", flags->json, "print as JSON");
    sub->callback([flags, work, &action] { action = [flags, work] { return work(*flags); }; });
    return sub;
  };
  const auto add = [&](const char* name, const char* help, int (*work)(const DbFlags&)) {
    auto* sub = add_any(name, help, work);
    sub->add_option("--db", flags->database, "database")->capture_default_str();
    return sub;
  };
  add("info", "What it holds: sweeps, trials by outcome, winners", info);
  add("check", "Whether anything in it is damaged; exit code 1 if so", check);
  add("merge", "Add what another database has and this one has not", merge)
      ->add_option("from", flags->from, "the other database")
      ->required();
  add("release", "Let candidates that crashed or hung be tried again", release);
  auto* recording = add("record", "Write a sweep as a compressed recording that replay:FILE reads", record);
  recording->add_option("output", flags->output, "file to write, e.g. sweep.jsonl.gz")->required();
  recording->add_option("--sweep", flags->sweep, "id of the sweep (phitune db info); default: the last finished one");
  auto* distilled = add_any("distill", "Write what trials teach a search, for --experience of sweep", distill);
  distilled->add_option("output", flags->output, "file to write, e.g. experience.jsonl.gz")->required();
  distilled->add_option("sources", flags->sources, "databases and recordings")->required()->take_all();
}

}  // namespace phitune::cli
