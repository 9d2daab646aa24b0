// phitune dispatch: what the run-time library would do for a problem; with --run, do it on random data and check it.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "harness/cli/command.hpp"
#include "harness/device/device.hpp"
#include "harness/dispatch/dispatcher.hpp"
#include "harness/error.hpp"

namespace phitune::cli {
namespace {

struct DispatchFlags {
  ProblemOptions problems;
  std::string database = "phitune.db";
  std::string device = "cuda:0";
  std::string cache = default_cache_directory().string();
  bool run = false;
  bool json = false;
};

nlohmann::json to_json(const Result& result) {
  nlohmann::json out = {{"outcome", to_string(result.outcome)}, {"reason", result.reason}};
  if (result.timing) out["median_ms"] = result.timing->median_ms;
  if (result.errors) out["relative_l2"] = result.errors->relative_l2, out["tolerance"] = result.errors->tolerance;
  return out;
}

void print(const Result& result, bool replayed) {
  fmt::print("  {}: {}", replayed ? "recorded (nothing was run here)" : "run", to_string(result.outcome));
  if (result.errors)
    fmt::print(", error {:.2e} against float64 (bound {:.1e}, {} rows)", result.errors->relative_l2, result.errors->tolerance,
               result.errors->rows_checked);
  if (result.timing) fmt::print(", {:.4f} ms", result.timing->median_ms);
  fmt::print("{}{}\n", result.reason.empty() ? "" : ": ", result.reason);
}

int dispatch(const DispatchFlags& flags) {
  const Suite suite = flags.problems.load();
  std::unique_ptr<Device> device;
  DispatcherOptions options;
  options.cache_directory = flags.cache;
  if (flags.run) {
    device = open_device(flags.device);
    options.device = device->info();
  }
  Dispatcher dispatcher = Dispatcher::open(flags.database, options);
  bool all_ok = true;
  nlohmann::json out = nlohmann::json::array();
  for (const SuiteProblem& named : suite.problems) {
    const Selection selection = dispatcher.lookup(named.problem);
    const Plan plan = dispatcher.plan(selection);
    nlohmann::json row = {{"problem", named.problem.key()},
                          {"device", dispatcher.device().name},
                          {"why", to_string(selection.why)},
                          {"detail", dispatcher.explain(selection)},
                          {"stale", selection.stale()},
                          {"plan", plan.text()},
                          {"workspace_bytes", dispatcher.workspace_size(selection)}};
    if (!flags.json) {
      fmt::print("{}\n  {}: {}\n  plan: {}\n  workspace: {:.1f} MB\n", named.problem.key(), to_string(selection.why),
                 dispatcher.explain(selection), plan.text(), 1e-6 * static_cast<double>(dispatcher.workspace_size(selection)));
    }
    if (flags.run) {
      const std::vector<ExecutableStage> stages = dispatcher.stages(selection);
      const Result result = device->run_plans(named.problem, std::span(&stages, 1), MeasurePolicy{}).front();
      all_ok = all_ok && result.outcome == Outcome::ok;
      row["run"] = to_json(result);
      row["run"]["replayed"] = device->info().replayed;
      if (!flags.json) print(result, device->info().replayed);
    }
    out.push_back(row);
  }
  if (flags.json) fmt::print("{}\n", out.dump(2));
  return static_cast<int>(all_ok ? ExitCode::ok : ExitCode::failed);
}

}  // namespace

void add_dispatch(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("dispatch", "Which plan the library would run for a problem, and why; --run runs and checks it");
  auto flags = std::make_shared<DispatchFlags>();
  flags->problems.add_to(*command);
  command->add_option("--db", flags->database, "database")->capture_default_str();
  command->add_flag("--run", flags->run, "run it on random data, check it against float64 and time it");
  command->add_option("--device", flags->device, "for --run: cuda:N, or replay:FILE for what was recorded")->capture_default_str();
  command->add_option("--cache", flags->cache, "folder of compiled kernels, for plans that are not stored")->capture_default_str();
  command->add_flag("--json", flags->json, "print as JSON");
  command->footer(
      "Examples:\n"
      "  phitune dispatch --db phitune.db --problem \"b1 t65536 h8 d64 p2 bf16 gated\"\n"
      "  phitune dispatch --db phitune.db --problem \"b1 t1000|50000 h8 d64 p2 bf16 gated\" --run");
  command->callback([flags, &action] { action = [flags] { return dispatch(*flags); }; });
}

}  // namespace phitune::cli
