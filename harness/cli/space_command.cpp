// phitune space: what a sweep would search, and what each constraint removed.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "harness/cli/command.hpp"
#include "harness/device/nominal_device.hpp"
#include "harness/tune/stage_search.hpp"

namespace phitune::cli {
namespace {

struct SpaceOptions {
  std::string architecture = "sm_90a";
  ProblemOptions problems;
  SearchPolicy search;
  bool json = false;
  bool plans = false;
};

nlohmann::json describe(const StageGroup& group) {
  nlohmann::json knobs = nlohmann::json::object(), removals = nlohmann::json::array();
  for (const Knob& knob : group.space->knobs()) knobs[knob.name] = {{"values", knob.values}, {"meaning", knob.meaning}};
  for (const auto& removal : group.space->removals()) removals.push_back({{"reason", removal.reason}, {"configs", removal.configs}});
  return {{"stage", group.pivot.key()},
          {"chunk_sizes", 1 + group.others.size()},
          {"product", group.space->product_size()},
          {"configs", group.space->size()},
          {"knobs", knobs},
          {"removed", removals}};
}

void print(const StageGroup& group) {
  fmt::print("  {:<14} {:<58} {:>6} of {:>6} configs, {} chunk size{}\n", to_string(group.pivot.stage), group.pivot.shape.text(),
             group.space->size(), group.space->product_size(), 1 + group.others.size(), group.others.empty() ? "" : "s");
  std::string knobs;
  for (const Knob& knob : group.space->knobs())
    knobs += fmt::format("{}{}: {}", knobs.empty() ? "" : ", ", knob.name, fmt::join(knob.values, "|"));
  if (!knobs.empty()) fmt::print("      knobs    {}\n", knobs);
  for (const auto& removal : group.space->removals())
    if (removal.configs) fmt::print("      removed  {:>6}  {}\n", removal.configs, removal.reason);
}

int show(const SpaceOptions& options) {
  const DeviceInfo device = nominal_device(options.architecture);
  nlohmann::json out = nlohmann::json::array();
  for (const auto& named : options.problems.load().problems) {
    const ProblemSearch search = plan_search(named.problem, device, options.search);
    std::uint64_t configs = 0;
    for (const StageGroup& group : search.groups) configs += group.space->size() * (1 + group.others.size());
    if (options.json) {
      nlohmann::json groups = nlohmann::json::array(), shapes = nlohmann::json::array(), skipped = nlohmann::json::array();
      for (const StageGroup& group : search.groups) groups.push_back(describe(group));
      for (const PlanShape& shape : search.shapes) shapes.push_back(shape.text());
      for (const auto& shape : search.skipped) skipped.push_back({{"shape", shape.shape.text()}, {"reason", shape.reason}});
      out.push_back({{"name", named.name},
                     {"problem", named.problem.key()},
                     {"configs", configs},
                     {"plan_shapes", shapes},
                     {"skipped", skipped},
                     {"stages", groups}});
      continue;
    }
    fmt::print("{}: {}\n  {} plan shapes to tune, {} left out; {} stage configs\n", named.name, named.problem.key(), search.shapes.size(),
               search.skipped.size(), configs);
    for (const StageGroup& group : search.groups) print(group);
    if (options.plans) {
      for (const PlanShape& shape : search.shapes) fmt::print("  plan     {}\n", shape.text());
      for (const auto& shape : search.skipped) fmt::print("  left out {}: {}\n", shape.shape.text(), shape.reason);
    }
    fmt::print("\n");
  }
  if (options.json) fmt::print("{}\n", out.dump(2));
  return 0;
}

}  // namespace

void add_space(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("space", "Show the search space of a problem: sizes, knobs, and what each constraint removed and why");
  auto options = std::make_shared<SpaceOptions>();
  options->problems.add_to(*command);
  command->add_option("--arch", options->architecture, "architecture whose limits apply")->capture_default_str();
  command->add_option("--bound", options->search.plan_bound, "leave out plans estimated beyond this multiple of the best estimate")
      ->check(at_least(1))
      ->capture_default_str();
  command->add_flag("--plans", options->plans, "list every plan shape, and why the others were left out");
  command->add_flag("--json", options->json, "print as JSON");
  command->footer("Example: phitune space --problem \"b1 t65536 h8 d64 p2 bf16 gated\" --plans");
  command->callback([options, &action] { action = [options] { return show(*options); }; });
}

}  // namespace phitune::cli
