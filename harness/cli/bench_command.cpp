// phitune bench: times tuned plans again and prints Google Benchmark's JSON, which its compare.py reads.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "harness/cli/command.hpp"
#include "harness/device/device.hpp"
#include "harness/error.hpp"

namespace phitune::cli {
namespace {

struct BenchFlags {
  ProblemOptions problems;
  std::string device = "cuda:0";
  std::string database = "phitune.db";
  int samples = 20;
  std::string regime = "flush";
  double rest = MeasurePolicy().rest;
  bool json = false;
};

struct Benched {
  std::string name;
  PlanTrial plan;
  Result result;
};

bool asked_for(const Problem& problem, const Suite* suite) {
  return !suite ||
         std::any_of(suite->problems.begin(), suite->problems.end(), [&](const SuiteProblem& named) { return named.problem == problem; });
}

std::vector<Benched> bench_winners(const BenchFlags& flags, Device& device) {
  Suite suite;
  const bool all = flags.problems.empty();
  if (!all) suite = flags.problems.load();
  Store store = open_read_only(flags.database);
  MeasurePolicy policy;
  policy.min_samples = policy.max_samples = flags.samples;
  policy.regime = parse_regime(flags.regime);
  policy.rest = flags.rest;
  std::vector<Benched> benched;
  for (const Winner& winner : winners_for(store, device.info())) {
    const PlanTrial& trial = winner.plan_trial.trial;
    if (!asked_for(trial.plan.problem, all ? nullptr : &suite) || stop_requested()) continue;
    std::vector<ExecutableStage> stages;
    for (std::size_t i = 0; i < trial.plan.stages.size(); ++i)
      stages.push_back({trial.plan.stages[i], trial.cubin_hashes[i].empty() ? nullptr : store.binary(trial.cubin_hashes[i])});
    benched.push_back({trial.plan.problem.key(), trial, device.run_plans(trial.plan.problem, std::span(&stages, 1), policy).front()});
  }
  if (benched.empty())
    throw Error(ExitCode::bad_input,
                fmt::format("{} has no winner for what was asked; phitune db info lists what it holds", flags.database));
  return benched;
}

double deviation(const std::vector<double>& samples, double mean) {
  double sum = 0;
  for (const double sample : samples) sum += (sample - mean) * (sample - mean);
  return samples.size() > 1 ? std::sqrt(sum / static_cast<double>(samples.size() - 1)) : 0;
}

// One "iteration" entry per sample, then the aggregates, as Google Benchmark writes repetitions.
void append(nlohmann::json& benchmarks, const Benched& run, std::size_t family) {
  const std::vector<double>& samples = run.result.timing->samples_ms;
  const auto entry = [&](const std::string& suffix, const char* type, double ms) {
    return nlohmann::json{{"name", run.name + suffix},
                          {"family_index", family},
                          {"per_family_instance_index", 0},
                          {"run_name", run.name},
                          {"run_type", type},
                          {"repetitions", samples.size()},
                          {"threads", 1},
                          {"iterations", 1},
                          {"real_time", ms},
                          {"cpu_time", ms},
                          {"time_unit", "ms"}};
  };
  for (std::size_t i = 0; i < samples.size(); ++i) {
    auto row = entry("", "iteration", samples[i]);
    row["repetition_index"] = i;
    benchmarks.push_back(row);
  }
  const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
  for (const auto& [aggregate, ms] :
       {std::pair("mean", mean), std::pair("median", run.result.timing->median_ms), std::pair("stddev", deviation(samples, mean))}) {
    auto row = entry(std::string("_") + aggregate, "aggregate", ms);
    row["aggregate_name"] = aggregate;
    row["aggregate_unit"] = "time";
    benchmarks.push_back(row);
  }
}

int bench(const BenchFlags& flags) {
  DeviceFlags opening;
  opening.name = flags.device;
  const std::unique_ptr<Device> device = opening.open(Use::measure, {});
  if (device->info().emulated)
    throw Error(ExitCode::usage, "CPU emulation has no times worth comparing: --device must name a GPU (cuda:0) or a recording");
  const std::vector<Benched> benched = bench_winners(flags, *device);
  const DeviceInfo& info = device->info();
  bool all_ok = true;
  nlohmann::json benchmarks = nlohmann::json::array();
  for (std::size_t i = 0; i < benched.size(); ++i) {
    const Result& result = benched[i].result;
    all_ok = all_ok && result.outcome == Outcome::ok;
    if (flags.json) {
      if (result.timing) append(benchmarks, benched[i], i);
    } else if (result.timing) {
      fmt::print("{:.4f} ms (IQR {:.4f}, {} samples)  {}  {}\n", result.timing->median_ms, result.timing->iqr_ms,
                 result.timing->samples_ms.size(), benched[i].name, benched[i].plan.plan.shape.text());
    }
    if (result.outcome != Outcome::ok) fmt::print(stderr, "{}: {}: {}\n", benched[i].name, to_string(result.outcome), result.reason);
  }
  if (flags.json) {
    char host[256] = "unknown";
    gethostname(host, sizeof host - 1);
    const nlohmann::json context = {{"date", utc_now()},
                                    {"host_name", host},
                                    {"executable", "phitune bench"},
                                    {"num_cpus", sysconf(_SC_NPROCESSORS_ONLN)},
                                    {"mhz_per_cpu", 0},
                                    {"cpu_scaling_enabled", false},
                                    {"caches", nlohmann::json::array()},
                                    {"library_build_type", "release"},
                                    {"gpu", info.name},
                                    {"driver", info.driver},
                                    {"cuda", info.runtime},
                                    {"replayed", info.replayed},
                                    {"cold_l2", parse_regime(flags.regime).cold()},
                                    {"regime", flags.regime}};
    fmt::print("{}\n", nlohmann::json({{"context", context}, {"benchmarks", benchmarks}}).dump(2));
  } else if (info.replayed) {
    fmt::print("replayed: these times are the recording's\n");
  }
  return static_cast<int>(all_ok ? ExitCode::ok : ExitCode::failed);
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("bench", "Time the tuned plans again; --json is Google Benchmark's format, for its compare.py");
  auto flags = std::make_shared<BenchFlags>();
  flags->problems.add_to(*command);
  command->add_option("--device", flags->device, "cuda:N or replay:FILE")->capture_default_str();
  command->add_option("--db", flags->database, "database with the winners; all of them unless problems are named")->capture_default_str();
  command->add_option("--samples", flags->samples, "repetitions")->check(at_least(9))->capture_default_str();
  add_regime(*command, flags->regime);
  add_rest(*command, flags->rest);
  command->add_flag("--json", flags->json, "Google Benchmark's JSON");
  command->footer(
      "Examples:\n"
      "  phitune bench --db phitune.db\n"
      "  phitune bench --db phitune.db --json > new.json && compare.py benchmarks old.json new.json");
  command->require_subcommand(0, 1);
  command->callback([flags, command, &action] {
    if (command->get_subcommands().empty()) action = [flags] { return bench(*flags); };
  });
  add_bench_plans(*command, action);
  add_bench_search(*command, action);
}

}  // namespace phitune::cli
