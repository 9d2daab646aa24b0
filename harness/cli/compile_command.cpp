// phitune compile: fills the kernel cache for an architecture on a machine that may have no GPU.
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/cli/command.hpp"
#include "harness/cli/output.hpp"
#include "harness/compile/compiler.hpp"
#include "harness/compile/static_gate.hpp"
#include "harness/device/nominal_device.hpp"
#include "harness/error.hpp"
#include "harness/tune/progress.hpp"
#include "harness/tune/stage_search.hpp"

namespace phitune::cli {
namespace {

struct CompileOptions {
  std::string architecture = "sm_90a";
  ProblemOptions problems;
  CompilerFlags compiler;
  SearchPolicy search;
  bool all = false;
  bool json = false;
};

struct Job {
  StageProblem stage;
  Config config;
  std::string source;
  std::shared_future<Compiled> result;
};

// Every distinct source that a sweep with this policy would begin with, or the whole of every space with --all.
std::vector<Job> jobs_for(const CompileOptions& options, const DeviceInfo& device) {
  std::vector<Job> jobs;
  std::set<std::string> seen;
  for (const auto& named : options.problems.load().problems) {
    ProblemSearch search = plan_search(named.problem, device, options.search);
    Experience none;
    for (StageGroup& group : search.groups) {
      if (!group.strategy) open(group, device, options.search, &none);
      const StageTemplate& kernel = stage_template(group.pivot.stage, group.pivot.path);
      const std::size_t count = options.all ? group.space->size() : group.first.size();
      for (std::size_t i = 0; i < count; ++i) {
        Job job{group.pivot, group.space->at(options.all ? i : group.first[i]), {}, {}};
        job.source = kernel.source(job.stage, job.config);
        if (seen.insert(job.source).second) jobs.push_back(std::move(job));
      }
    }
  }
  return jobs;
}

int compile_all(const CompileOptions& options) {
  const DeviceInfo device = nominal_device(options.architecture);
  std::vector<Job> jobs = jobs_for(options, device);
  Compiler compiler({options.architecture, options.compiler.cache, options.compiler.threads});
  const auto started = std::chrono::steady_clock::now();
  for (Job& job : jobs) job.result = compiler.compile(job.source);

  Progress progress(options.json ? Progress::Style::silent : Progress::Style::automatic);
  progress.begin("compile " + options.architecture, jobs.size());
  nlohmann::json failures = nlohmann::json::array();
  std::size_t gated = 0, done = 0;
  for (const Job& job : jobs) {
    if (stop_requested()) compiler.cancel();
    const Compiled& compiled = job.result.get();
    ++done;
    if (compiled.outcome != Outcome::ok) {
      if (!stop_requested()) failures.push_back({{"stage", job.stage.key()}, {"config", job.config.text()}, {"reason", compiled.reason}});
    } else if (static_gate(compiled.binary->resources, stage_template(job.stage.stage, job.stage.path).launch(job.stage, job.config),
                           device)) {
      ++gated;
    }
    progress.advance(std::string(to_string(job.stage.stage)));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  const auto counters = compiler.counters();
  const double rate = seconds > 0 ? static_cast<double>(counters.compiled) / seconds : 0;
  progress.end(fmt::format("{} kernels: {} compiled ({:.1f}/s), {} from the cache, {} failed, {} would not run well (static gate)",
                           jobs.size(), counters.compiled, rate, counters.cache_hits, counters.failed, gated));
  if (options.json) {
    const nlohmann::json out = {{"architecture", options.architecture},
                                {"nvrtc", Compiler::nvrtc_version()},
                                {"kernels", jobs.size()},
                                {"compiled", counters.compiled},
                                {"cache_hits", counters.cache_hits},
                                {"failed", counters.failed},
                                {"static_gate", gated},
                                {"seconds", seconds},
                                {"cache", options.compiler.cache},
                                {"failures", failures}};
    fmt::print("{}\n", out.dump(2));
  } else {
    for (const auto& failure : failures)
      fmt::print("failed: {} [{}]\n  {}\n", failure["stage"].get<std::string>(), failure["config"].get<std::string>(),
                 failure["reason"].get<std::string>());
    if (!options.compiler.cache.empty()) fmt::print("cache: {}\n", options.compiler.cache);
  }
  if (stop_requested()) return static_cast<int>(ExitCode::interrupted);
  if (counters.cache_write_failures > 0)
    throw Error(ExitCode::io,
                fmt::format("{} could not be kept, and keeping them is what this command is for: {}. Free some space there, or "
                            "name another folder with --cache.",
                            counted(counters.cache_write_failures, "compiled kernel"), counters.cache_warning));
  return static_cast<int>(failures.empty() ? ExitCode::ok : ExitCode::failed);
}

}  // namespace

void add_compile(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("compile", "Compile a sweep's candidates into the cache; needs no GPU");
  auto options = std::make_shared<CompileOptions>();
  options->problems.add_to(*command);
  options->compiler.add_to(*command);
  command->add_option("--arch", options->architecture, "real architecture, e.g. sm_80, sm_90a, sm_100a, sm_120")->capture_default_str();
  command->add_option("--trials", options->search.trials, "candidates per stage, as in sweep")->check(at_least(1))->capture_default_str();
  command->add_option("--seed", options->search.seed, "of the sweep this compiles for")->check(at_least(0))->capture_default_str();
  command->add_flag("--all", options->all, "every config of every space, not only what a sweep begins with");
  command->add_flag("--json", options->json, "print the result as JSON");
  command->footer(
      "Example, on a CPU node before a GPU job:\n"
      "  phitune compile --arch sm_90a --suite data/suites/paper.toml --cache /shared/phitune\n"
      "  phitune sweep --suite data/suites/paper.toml --cache /shared/phitune     (on the GPU node)");
  command->callback([options, &action] { action = [options] { return compile_all(*options); }; });
}

}  // namespace phitune::cli
