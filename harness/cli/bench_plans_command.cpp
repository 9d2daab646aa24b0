// phitune bench plans: whether plans composed of the best stages are the best plans, by what was recorded.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "harness/cli/command.hpp"
#include "harness/cli/output.hpp"
#include "harness/error.hpp"
#include "harness/store/recording.hpp"
#include "search/plan_audit.hpp"

namespace phitune::cli {
namespace {

struct BenchPlansFlags {
  std::vector<std::string> files;
  bool json = false;
};

std::vector<PlanAudit> audits_of(const Recording& recording) {
  std::set<Problem> problems;
  for (const PlanTrial& trial : recording.plan_trials) problems.insert(trial.plan.problem);
  std::vector<PlanAudit> audits;
  for (const Problem& problem : problems)
    if (auto audit = audit_plans(problem, recording.trials, recording.plan_trials)) audits.push_back(std::move(*audit));
  return audits;
}

nlohmann::json to_json(const PlanAudit& audit) {
  return {{"problem", audit.problem.key()},
          {"shapes", audit.shapes},
          {"plans", audit.plans},
          {"run", audit.run},
          {"composed", audit.composed},
          {"composed_ms", audit.composed_ms ? nlohmann::json(*audit.composed_ms) : nlohmann::json()},
          {"fastest", audit.fastest},
          {"fastest_ms", audit.fastest_ms},
          {"whole_over_sum", {{"least", audit.least_ratio}, {"median", audit.median_ratio}, {"greatest", audit.greatest_ratio}}},
          {"rivals", audit.rivals},
          {"rival_shapes", audit.rival_shapes}};
}

void print(const PlanAudit& audit) {
  fmt::print("{}\n  {} shapes, {:.3g} plans, {} run\n  least sum {:<58}{:>10}\n  fastest   {:<58}{:>10.4f} ms{}\n", audit.problem.key(),
             audit.shapes, audit.plans, audit.run, audit.composed,
             audit.composed_ms ? fmt::format("{:.4f} ms", *audit.composed_ms) : "not run", audit.fastest, audit.fastest_ms,
             audit.composed_ms ? fmt::format("; the least sum's is {:+.2f} %", 100 * (audit.composed_over_fastest() - 1)) : "");
  fmt::print("  whole time over sum {:.3f} to {:.3f}, median {:.3f}; {} that were not run might be more than 1 % faster, of {}\n",
             audit.least_ratio, audit.greatest_ratio, audit.median_ratio, counted(audit.rivals, "combination"),
             counted(audit.rival_shapes, "shape"));
}

int run(const BenchPlansFlags& flags) {
  nlohmann::json rows = nlohmann::json::array();
  std::size_t problems = 0, within = 0, not_run = 0, settled = 0;
  for (const std::string& file : flags.files) {
    for (const PlanAudit& audit : audits_of(read_recording(file))) {
      ++problems;
      within += audit.composed_ms && audit.composed_over_fastest() <= 1.01;
      not_run += !audit.composed_ms;
      settled += audit.rivals == 0;
      if (flags.json)
        rows.push_back(to_json(audit));
      else
        print(audit);
    }
  }
  if (problems == 0)
    throw Error(ExitCode::bad_input, "no whole plan was run in any of these recordings, so there is nothing to compare with");
  if (flags.json)
    fmt::print(
        "{}\n",
        nlohmann::json({{"problems", rows}, {"within_1_percent", within}, {"not_run", not_run}, {"without_rivals", settled}}).dump(2));
  else
    fmt::print("{}: the plan of the least sum is the fastest or within 1 % in {}, was not run in {}; no other could be in {}\n",
               counted(problems, "problem"), within, not_run, settled);
  return 0;
}

}  // namespace

void add_bench_plans(CLI::App& bench, Action& action) {
  auto* command =
      bench.add_subcommand("plans", "Compare plans composed of the best stages with those that were run, on recordings, without a GPU");
  auto flags = std::make_shared<BenchPlansFlags>();
  command->add_option("files", flags->files, "phitune recordings")->required()->take_all();
  command->add_flag("--json", flags->json, "print as JSON");
  command->footer("Example: phitune bench plans data/recordings/nvidia-h200.jsonl.gz");
  command->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace phitune::cli
