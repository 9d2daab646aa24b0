// phitune verify: check stages or a database's winners against the float64 reference on a device, without searching.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>

#include "harness/cli/command.hpp"
#include "harness/device/device.hpp"
#include "harness/error.hpp"
#include "harness/tune/candidate.hpp"
#include "harness/tune/stage_search.hpp"
#include "kernel_templates/replaced_templates.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune::cli {
namespace {

struct VerifyFlags {
  ProblemOptions problems;
  CompilerFlags compiler;
  DeviceFlags device;
  std::string database;
  std::string shape, stage, config, templates;
  std::size_t configs = 1;
  std::size_t winners = 0;
  std::uint64_t seed = 1;
  int seeds = 1;
  bool plans = false;
  bool timed = true;
  bool json = false;
};

// One table for people or one array for scripts.
class Findings {
 public:
  explicit Findings(bool json) : json_(json) {}

  /// `launch`: of a stage's kernel, for scripts that look for it in a profile.
  void add(const std::string& what, const Result& result, const std::optional<Launch>& launch = std::nullopt) {
    failed_ += result.outcome != Outcome::ok && result.outcome != Outcome::pruned;
    pruned_ += result.outcome == Outcome::pruned;
    ++count_;
    if (json_) {
      nlohmann::json row = {{"what", what}, {"outcome", to_string(result.outcome)}, {"reason", result.reason}};
      if (result.errors)
        row["relative_l2"] = result.errors->relative_l2, row["worst_row"] = result.errors->worst_row,
        row["tolerance"] = result.errors->tolerance;
      for (const InputCheck& check : result.checks)
        row["checks"].push_back({{"inputs", check.inputs},
                                 {"seed", check.seed},
                                 {"outcome", to_string(check.outcome)},
                                 {"relative_l2", check.errors.relative_l2},
                                 {"worst_row", check.errors.worst_row},
                                 {"worst_element", check.errors.worst_element}});
      if (result.timing) row["median_ms"] = result.timing->median_ms;
      if (launch) row["launch"] = {{"grid", launch->grid}, {"block", launch->block}, {"dynamic_shared_bytes", launch->dynamic_shared_bytes}};
      rows_.push_back(row);
      return;
    }
    const std::string error = result.errors ? fmt::format("error {:.2e} (bound {:.1e}, {} rows)", result.errors->relative_l2,
                                                          result.errors->tolerance, result.errors->rows_checked)
                                            : "";
    const std::string time = result.timing ? fmt::format("{:.4f} ms", result.timing->median_ms) : "";
    fmt::print("{:<14} {:<44} {:<14} {}{}\n", to_string(result.outcome), error, time, what,
               result.reason.empty() ? "" : "\n    " + result.reason);
    std::fflush(stdout);
  }

  int finish() const {
    if (json_)
      fmt::print("{}\n", rows_.dump(2));
    else
      fmt::print("{} checked: {} right, {} wrong or failed, {} pruned\n", count_, count_ - failed_ - pruned_, failed_, pruned_);
    return static_cast<int>(failed_ ? ExitCode::failed : ExitCode::ok);
  }

 private:
  bool json_;
  nlohmann::json rows_ = nlohmann::json::array();
  std::size_t count_ = 0, failed_ = 0, pruned_ = 0;
};

// Stages that the plan shapes of a suite consist of, each once however many plans share it.
std::vector<StageProblem> stages_asked_for(const VerifyFlags& flags, const DeviceInfo& device) {
  std::optional<PlanShape> only_shape;
  std::optional<Stage> only_stage;
  if (!flags.shape.empty()) only_shape = PlanShape::parse(flags.shape);
  if (!flags.stage.empty()) only_stage = parse_stage(flags.stage);
  std::vector<StageProblem> stages;
  std::set<std::string> seen;
  for (const SuiteProblem& named : flags.problems.load().problems) {
    for (const PlanShape& shape : plan_shapes(named.problem).shapes) {
      if ((only_shape && shape != *only_shape) || device_refuses(shape, device)) continue;
      for (const StageProblem& stage : stages_of(named.problem, shape))
        if ((!only_stage || stage.stage == *only_stage) && seen.insert(stage.key()).second) stages.push_back(stage);
    }
  }
  if (stages.empty())
    throw Error(
        ExitCode::usage,
        "no plan of these problems has a stage on this device that matches --shape and --stage; phitune space --plans lists the shapes");
  return stages;
}

// The config that was named, or random ones.
std::vector<Config> configs_for(const StageProblem& stage, const DeviceInfo& device, const VerifyFlags& flags) {
  if (stage.path == Path::library) return {Config{}};
  const Space space = stage_template(stage.stage, stage.path).space(stage, device);
  if (!flags.config.empty()) {
    const Config config = space.completed(Config::parse(flags.config));
    if (const auto refusal = space.why_not(config))
      throw Error(ExitCode::bad_input, fmt::format("{} cannot run with \"{}\": {}", stage.key(), flags.config, *refusal));
    return {config};
  }
  std::mt19937_64 rng(flags.seed);
  std::vector<Config> configs;
  for (const std::size_t index : space.sample(flags.configs, rng)) configs.push_back(space.at(index));
  return configs;
}

void verify_stages(const VerifyFlags& flags, Device& device, Compiler& compiler, const MeasurePolicy& policy, Findings& findings) {
  for (const StageProblem& stage : stages_asked_for(flags, device.info())) {
    for (const Config& config : configs_for(stage, device.info(), flags)) {
      if (stop_requested()) return;
      std::optional<Launch> launch;
      if (stage.path != Path::library) launch = stage_template(stage.stage, stage.path).launch(stage, config);
      findings.add(fmt::format("{} [{}]", stage.key(), config.text()), try_candidate(device, compiler, stage, config, policy).result, launch);
    }
  }
}

// Whole plans of the shapes asked for, on every kind of input, with a random config for each stage.
void verify_plans(const VerifyFlags& flags, Device& device, Compiler& compiler, const MeasurePolicy& policy, Findings& findings) {
  std::mt19937_64 rng(flags.seed);
  std::size_t matching = 0;
  for (const SuiteProblem& named : flags.problems.load().problems) {
    for (const PlanShape& shape : plan_shapes(named.problem).shapes) {
      if (!flags.shape.empty() && shape != PlanShape::parse(flags.shape)) continue;
      ++matching;
      for (std::size_t n = 0; n < flags.configs && !stop_requested(); ++n) {
        std::vector<ExecutableStage> stages;
        Result result;
        std::string what = named.problem.key() + " | " + shape.text();
        for (const StageProblem& stage : stages_of(named.problem, shape)) {
          Config config;
          if (stage.path != Path::library) {
            const Space space = stage_template(stage.stage, stage.path).space(stage, device.info());
            config = space.at(space.sample(1, rng).front());
            what += fmt::format(" | {} [{}]", to_string(stage.stage), config.text());
          }
          Candidate candidate = prepare_candidate(compiler, device.info(), stage, config);
          if (candidate.trial.result.outcome != Outcome::ok) result = candidate.trial.result;
          stages.push_back(std::move(candidate.executable));
        }
        if (result.outcome == Outcome::ok) result = device.run_plans(named.problem, std::span(&stages, 1), policy).front();
        findings.add(what, result);
      }
    }
  }
  if (matching == 0) throw Error(ExitCode::usage, "these problems have no plan of that --shape; phitune space --plans lists the shapes");
}

// The very binaries that were timed, on the device at hand.
void verify_winners(const VerifyFlags& flags, Device& device, const MeasurePolicy& policy, Findings& findings) {
  Store store = open_read_only(flags.database);
  for (const Winner& winner : winners_for(store, device.info())) {
    if (stop_requested()) return;
    const PlanTrial& trial = winner.plan_trial.trial;
    std::vector<ExecutableStage> stages;
    for (std::size_t i = 0; i < trial.plan.stages.size(); ++i) {
      const std::string& hash = trial.cubin_hashes[i];
      stages.push_back({trial.plan.stages[i], hash.empty() ? nullptr : store.binary(hash)});
    }
    const auto results = device.run_plans(trial.plan.problem, std::span(&stages, 1), policy);
    findings.add(trial.plan.problem.key() + " | " + trial.plan.shape.text(), results.front());
  }
}

// The config, or another of the space that compiles to the very same kernel: some constraints only keep launches from being wasteful.
std::optional<Config> same_kernel(const StageProblem& stage, const Config& config, const DeviceInfo& device) {
  if (stage.path == Path::library) return config;
  const StageTemplate& source = stage_template(stage.stage, stage.path);
  const Space space = source.space(stage, device);
  if (!space.why_not(config)) return config;
  const std::string text = source.source(stage, config);
  for (std::size_t i = 0; i < space.size(); ++i) {
    const Config other = space.at(i);
    if (source.source(stage, other) == text) return other;
  }
  return std::nullopt;
}

// The plan of a winner on a problem that a CPU can emulate: one batch entry, as few kv heads with their query heads and as short and few chunks as
// the configs allow, half of one more and a token; launched as on a device of few multiprocessors, so that blocks that stay for several
// pieces of work find as many. Everything that is compiled into the kernels stays, but for who does which works in the last rounds.
std::optional<Plan> scaled_down(const Plan& winner, DeviceInfo device) {
  device.multiprocessors = 4;
  const auto at = [&](std::int64_t chunk, std::int64_t chunks, std::int64_t heads) -> std::optional<Plan> {
    Plan small{winner.problem, winner.shape, {}};
    small.problem.b = 1;
    small.problem.hq = small.problem.hq / small.problem.hk * heads;
    small.problem.hk = heads;
    small.problem.t = std::min(winner.problem.t, chunks * chunk + chunk / 2 + 1);
    if (small.shape.fusion != Fusion::quadratic) small.shape.chunk = chunk;
    const std::vector<StageProblem> stages = stages_of(small.problem, small.shape);
    for (std::size_t i = 0; i < stages.size(); ++i) {
      const auto config = same_kernel(stages[i], winner.stages.at(i).config, device);
      if (!config) return std::nullopt;
      small.stages.push_back({stages[i], *config});
    }
    return small;
  };
  // Powers of two up to the winner's chunk, and that; where all tokens are one chunk, parts of so many. (A block of gates may have several heads.)
  constexpr std::int64_t shortest = 64, longest_part = 2048;
  const std::int64_t longest = winner.shape.chunk > 0 ? winner.shape.chunk : longest_part;
  std::vector<std::int64_t> sizes;
  for (std::int64_t chunk = shortest; chunk < longest; chunk *= 2) sizes.push_back(chunk);
  sizes.push_back(std::max(shortest, longest));
  for (const std::int64_t heads : {1, 2, 4, 8}) {
    if (winner.problem.hk % heads != 0) continue;
    for (const std::int64_t chunk : sizes) {
      for (const std::int64_t chunks : {2, 4, 8}) {
        if (auto plan = at(chunk, chunks, heads)) return plan;
      }
    }
  }
  return std::nullopt;
}

// Whoever they were tuned on: here it is about the kernels, made from today's templates, and not about times.
void verify_winners_scaled_down(const VerifyFlags& flags, Device& device, const MeasurePolicy& policy, Findings& findings) {
  Store store = open_read_only(flags.database);
  std::vector<Winner> winners = store.winners();
  if (winners.empty()) throw Error(ExitCode::bad_input, fmt::format("{} has no winners to verify", flags.database));
  std::mt19937_64 rng(flags.seed);
  std::ranges::shuffle(winners, rng);
  if (flags.winners > 0 && flags.winners < winners.size()) winners.resize(flags.winners);
  for (const Winner& winner : winners) {
    if (stop_requested()) return;
    const Plan& tuned = winner.plan_trial.trial.plan;
    const std::string name = fmt::format("{} | {}", tuned.problem.key(), tuned.shape.text());
    const std::optional<Plan> small = scaled_down(tuned, device.info());
    if (!small) {
      Result result;
      result.outcome = Outcome::pruned;
      result.reason = "not run: no small problem takes this winner's configs. Verify it on a GPU (--device cuda:0)";
      findings.add(name, result);
      continue;
    }
    std::vector<ExecutableStage> stages;
    for (const PlanStage& stage : small->stages) stages.push_back({stage, nullptr});
    const auto results = device.run_plans(small->problem, std::span(&stages, 1), policy);
    findings.add(fmt::format("{}\n    run as {} | {}", name, small->problem.key(), small->shape.text()), results.front());
  }
}

int verify(const VerifyFlags& flags) {
  if (flags.database.empty() && flags.problems.empty())
    throw Error(ExitCode::usage, "nothing to verify. Name a database (--db phitune.db), a suite or a problem.");
  if (!flags.templates.empty()) read_templates_from(flags.templates);
  const std::unique_ptr<Device> device = flags.device.open(flags.timed ? Use::measure : Use::verify, flags.compiler.cache);
  if (device->info().replayed)
    throw Error(ExitCode::usage, "a recording runs nothing, so it cannot verify anything: --device must name a GPU (cuda:0), or host");
  MeasurePolicy policy;
  policy.seed = flags.seed;
  policy.seeds = flags.seeds;
  Findings findings(flags.json);
  if (!flags.config.empty() && flags.stage.empty())
    throw Error(ExitCode::usage, "--config is the config of one stage: name it with --stage");
  std::string lost;
  try {
    if (!flags.database.empty() && device->info().emulated) {
      verify_winners_scaled_down(flags, *device, policy, findings);
    } else if (!flags.database.empty()) {
      verify_winners(flags, *device, policy, findings);
    } else {
      Compiler compiler({device->info().architecture, flags.compiler.cache, flags.compiler.threads});
      if (flags.plans)
        verify_plans(flags, *device, compiler, policy, findings);
      else
        verify_stages(flags, *device, compiler, policy, findings);
    }
  } catch (const DeviceLost& error) {  // what was found until then is worth printing, and says which candidate it was
    lost = error.what();
  }
  const int code = findings.finish();
  if (!lost.empty()) throw DeviceLost(lost);
  return stop_requested() ? static_cast<int>(ExitCode::interrupted) : code;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("verify", "Check a database's winners, or the stages of a problem, against the float64 reference");
  auto flags = std::make_shared<VerifyFlags>();
  flags->problems.add_to(*command);
  flags->compiler.add_to(*command);
  flags->device.add_to(*command, "cuda:N, or host[:sm_90a] to run on this CPU");
  command->add_option("--db", flags->database,
                      "check this database's winners on this device instead of the stages of a problem; on host, on a small problem each");
  command->add_option("--winners", flags->winners, "with --db on host: at most so many, drawn by the seed; 0: all")->check(at_least(0));
  command->add_option("--shape", flags->shape, "only this plan shape, e.g. \"expand_mma c1024 d_tile8 state_bf16 partial_bf16\"");
  command->add_option("--stage", flags->stage, "only this stage, e.g. query_state");
  command->add_flag("--plans", flags->plans, "whole plans instead of their stages, on every kind of input");
  command->add_option("--config", flags->config, "this config of the stage, e.g. \"m_tiles=2 warps=4\"; knobs left out have their first values");
  command->add_option("--configs", flags->configs, "random configs of each stage, or of each plan shape")
      ->check(at_least(1))
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "of the configs and of the inputs")->check(at_least(0))->capture_default_str();
  command->add_option("--seeds", flags->seeds, "normal inputs of so many seeds for whole plans, beside the adversarial ones")
      ->check(at_least(1))
      ->capture_default_str();
  command->add_option("--templates", flags->templates,
                      "folder whose kernel_templates/ is used instead of the binary's: to try a change to a template without building");
  command->add_flag("!--no-timing", flags->timed, "only check; for compute-sanitizer and other tools that make times meaningless");
  command->add_flag("--json", flags->json, "print as JSON");
  command->footer(
      "Examples:\n  phitune verify --db phitune.db\n  phitune verify --problem \"b1 t1000 h2 d32 p3 fp16 none\" --configs 3\n"
      "  phitune verify --device host --problem \"b1 t200 h2 d16 p2 bf16 gated\" --configs 3");
  command->callback([flags, &action] { action = [flags] { return verify(*flags); }; });
}

}  // namespace phitune::cli
