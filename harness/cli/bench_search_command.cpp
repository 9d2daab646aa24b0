// phitune bench search: how good the search strategies are, on spaces of which every config was recorded.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/cli/command.hpp"
#include "harness/cli/output.hpp"
#include "harness/error.hpp"
#include "harness/spaces/read_spaces.hpp"
#include "harness/spaces/search_bench.hpp"
#include "reports/search_picture.hpp"

namespace phitune::cli {
namespace {

struct BenchSearchFlags {
  std::vector<std::string> files;
  SearchBenchOptions options;
  std::string picture;
  ExperienceFlags experience;
  bool model = false;
  std::size_t least_configs = 50;
  bool trials_only = false;
  bool json = false;
};

struct Overall {
  double score = 0, worst = 0, share = 0;
  Stopped stopped;
  std::size_t winners = 0;  // spaces of which the median run came within 1 % of the best in 5 % of the trials
};

Overall overall(const std::vector<SpaceComparison>& spaces, std::size_t strategy) {
  Overall mean{0, spaces.front().scores[strategy].score, 0, {}, 0};
  for (const SpaceComparison& space : spaces) {
    const SpaceScore& score = space.scores[strategy];
    mean.score += score.score / static_cast<double>(spaces.size());
    mean.share += score.share / static_cast<double>(spaces.size());
    mean.worst = std::min(mean.worst, score.score);
    mean.winners += score.to_winner.reached();
    mean.stopped.trials += score.stopped.trials / static_cast<double>(spaces.size());
    mean.stopped.left += score.stopped.left / static_cast<double>(spaces.size());
    mean.stopped.share += score.stopped.share / static_cast<double>(spaces.size());
  }
  return mean;
}

nlohmann::json to_json(const Reached& reached) {
  return {{"runs", reached.runs},
          {"median_trials", reached.trials ? nlohmann::json(*reached.trials) : nlohmann::json()},
          {"median_seconds", reached.seconds ? nlohmann::json(*reached.seconds) : nlohmann::json()}};
}

// Of strategies that cannot tell when to stop there is nothing to say.
nlohmann::json to_json(const Stopped& stopped) {
  if (stopped.trials == 0) return {};
  return {{"mean_trials", stopped.trials}, {"runs_with_more_to_gain", stopped.left}, {"share_of_optimum", stopped.share}};
}

nlohmann::json to_json(const ToWinner& to_winner) {
  return {{"budget_trials", to_winner.budget},
          {"median_trials", to_winner.trials ? nlohmann::json(*to_winner.trials) : nlohmann::json()},
          {"runs_in_budget", to_winner.in_budget},
          {"reached", to_winner.reached()}};
}

nlohmann::json to_json(const SpaceComparison& space, const std::vector<std::string>& names) {
  nlohmann::json strategies = nlohmann::json::array();
  for (std::size_t i = 0; i < names.size(); ++i) {
    const SpaceScore& score = space.scores[i];
    strategies.push_back({{"strategy", names[i]},
                          {"score", score.score},
                          {"share_of_optimum", score.share},
                          {"worst_seed_share_of_optimum", score.worst_seed_share},
                          {"within_5_percent", to_json(score.within_5)},
                          {"within_1_percent", to_json(score.within_1)},
                          {"trials", score.trials},
                          {"to_winner", to_json(score.to_winner)},
                          {"stopped", to_json(score.stopped)},
                          {"ms_per_ask", score.ms_per_ask},
                          {"best_so_far_ms", score.curve}});
  }
  return {{"space", space.name},
          {"configs", space.configs},
          {"untried", space.untried},
          {"valid", space.facts.valid},
          {"best_ms", space.facts.best_ms},
          {"median_ms", space.facts.median_ms},
          {"costs_recorded", space.has_costs},
          {"budget", {{"evaluations", space.budget.evaluations}, {"seconds", 1e-3 * space.budget.ms}}},
          {"moments_ms", space.moments},
          {"random_best_so_far_ms", space.random},
          {"strategies", strategies}};
}

std::string reached_text(const Reached& reached) {
  if (!reached.trials) return fmt::format("{:>7}{:>9}", "-", "-");
  return fmt::format("{:>7}{:>9}", *reached.trials, fmt::format("{:.0f}", *reached.seconds));
}

void print(const SpaceComparison& space, const std::vector<std::string>& names) {
  fmt::print("{}\n  {} configs, {} right; best {:.4g} ms, median {:.4g} ms; budget {} evaluations of median cost, {:.0f} s{}{}\n",
             space.name, space.configs, space.facts.valid, space.facts.best_ms, space.facts.median_ms, space.budget.evaluations,
             1e-3 * space.budget.ms, space.has_costs ? "" : " (costs are not recorded: each trial counts as 1 s)",
             space.untried ? fmt::format("; {} more configs of the space were not recorded", space.untried) : "");
  fmt::print("  {:<14}{:>7}{:>12}{:>9}{:>16}{:>16}{:>10}{:>18}\n", "", "", "of optimum", "", "within 5 %", "within 1 %", "",
             fmt::format("1 % in {} trials", space.scores.front().to_winner.budget));
  fmt::print("  {:<14}{:>7}{:>12}{:>9}{:>7}{:>9}{:>7}{:>9}{:>10}{:>9}{:>9}\n", "strategy", "score", "mean", "worst", "trials", "s",
             "trials", "s", "ms/ask", "median", "seeds");
  for (std::size_t i = 0; i < names.size(); ++i) {
    const SpaceScore& score = space.scores[i];
    const ToWinner& winner = score.to_winner;
    fmt::print("  {:<14}{:>7.3f}{:>10.2f} %{:>7.1f} %{}{}{:>10.2f}{:>9}{:>7.0f} %\n", names[i], score.score, 100 * score.share,
               100 * score.worst_seed_share, reached_text(score.within_5), reached_text(score.within_1), score.ms_per_ask,
               winner.trials ? fmt::to_string(*winner.trials) : "-", 100 * winner.in_budget);
  }
  fmt::print("\n");
}

void draw(const std::string& path, const std::vector<SpaceComparison>& spaces, const std::vector<std::string>& strategies) {
  std::vector<std::string> names = {"simulated random"};
  names.insert(names.end(), strategies.begin(), strategies.end());
  std::vector<SearchPanel> panels;
  for (const SpaceComparison& space : spaces) {
    panels.push_back({space.name, space.facts.best_ms, {space.random}});
    for (const SpaceScore& score : space.scores) panels.back().curves.push_back(score.curve);
  }
  write_output(path, draw_search(names, panels));
}

int run(BenchSearchFlags flags) {
  for (const std::string& name : flags.options.strategies) (void)make_strategy(name, Space({}, {}), 0);  // unknown names before long work
  flags.options.thinking = flags.trials_only ? Thinking::free : Thinking::counted;
  std::vector<RecordedSpace> spaces;
  for (const std::string& file : flags.files)
    for (RecordedSpace& space : read_spaces(file))
      if (space.trials.size() >= flags.least_configs) spaces.push_back(std::move(space));
  const std::vector<std::shared_ptr<const Lessons>> known = flags.experience.load(Regime{}, false);
  if (flags.model || !known.empty()) flags.options.prior = [&known](const RecordedSpace& space) { return prior_from(known, space); };
  const std::vector<SpaceComparison> compared = compare_strategies(spaces, flags.options, stop_requested());
  if (compared.empty())
    throw Error(ExitCode::bad_input,
                fmt::format("nothing to search: no space has {} configs or more, one of them right and better than its "
                            "median by more than the target. --least-configs lowers the bound",
                            flags.least_configs));
  const std::vector<std::string>& names = flags.options.strategies;
  if (flags.json) {
    nlohmann::json rows = nlohmann::json::array(), means = nlohmann::json::array();
    for (const SpaceComparison& space : compared) rows.push_back(to_json(space, names));
    for (std::size_t i = 0; i < names.size(); ++i) {
      const Overall mean = overall(compared, i);
      means.push_back({{"strategy", names[i]},
                       {"score", mean.score},
                       {"worst_space_score", mean.worst},
                       {"share_of_optimum", mean.share},
                       {"winner_in_5_percent_of_trials", mean.winners},
                       {"stopped", to_json(mean.stopped)}});
    }
    fmt::print("{}\n", nlohmann::json({{"seeds", flags.options.seeds},
                                       {"first_seed", flags.options.first_seed},
                                       {"thinking_counted", !flags.trials_only},
                                       {"overall", means},
                                       {"spaces", rows}})
                           .dump(2));
  } else {
    for (const SpaceComparison& space : compared) print(space, names);
    fmt::print("{}, {} each: mean of the spaces\n  {:<14}{:>7}{:>13}{:>14}   within 1 % of the winner in 5 % of the trials\n",
               counted(compared.size(), "space"), counted(flags.options.seeds, "seed"), "strategy", "score", "worst space", "of optimum");
    for (std::size_t i = 0; i < names.size(); ++i) {
      const Overall mean = overall(compared, i);
      fmt::print("  {:<14}{:>7.3f}{:>13.3f}{:>12.2f} %   {} of {} spaces\n", names[i], mean.score, mean.worst, 100 * mean.share,
                 mean.winners, compared.size());
    }
  }
  if (!flags.json)
    for (std::size_t i = 0; i < names.size(); ++i)
      if (const Stopped stop = overall(compared, i).stopped; stop.trials > 0)
        fmt::print(
            "  {}: until not worth it {:.1f} trials a space, {:.2f} % of the optimum, more than {:g} % left in {:.0f} % of the runs\n",
            names[i], stop.trials, 100 * stop.share, 100 * flags.options.worth_it.gain, 100 * stop.left);
  if (!flags.picture.empty()) draw(flags.picture, compared, names);
  return 0;
}

}  // namespace

void add_bench_search(CLI::App& bench, Action& action) {
  auto* command = bench.add_subcommand("search", "Compare search strategies on recorded spaces, without a GPU");
  auto flags = std::make_shared<BenchSearchFlags>();
  flags->options.strategies = strategy_names();
  command->add_option("files", flags->files, "recorded spaces: phitune recordings, Kernel Tuner caches, T4 results; plain or gzip")
      ->required()
      ->take_all();
  command->add_option("--strategy", flags->options.strategies, "names, separated by commas; all of them by default")
      ->delimiter(',')
      ->take_all();
  command->add_option("--seeds", flags->options.seeds, "runs per strategy and space, each with the next seed")
      ->check(at_least(1))
      ->capture_default_str();
  command->add_option("--first-seed", flags->options.first_seed, "seed of the first run")->check(at_least(0))->capture_default_str();
  command->add_option("--threads", flags->options.threads, "replays at the same time; 0: one per hardware thread")
      ->check(at_least(0))
      ->capture_default_str();
  command->add_option("--batch", flags->options.batch, "most configs that are asked for at once")
      ->check(at_least(1))
      ->capture_default_str();
  command->add_option("--least-configs", flags->least_configs, "leave out smaller spaces")->check(at_least(1))->capture_default_str();
  flags->experience.add_to(
      *command,
      "phitune recordings and distilled experience, separated by commas (builtin: what phitune brings along), of which the strategies know all "
      "trials beforehand but those of a space's own problem on its own device");
  command->add_flag("--model", flags->model, "without experience the strategies know what the analytic model expects");
  command
      ->add_option("--stop-below", flags->options.worth_it.chance,
                   "runs that end by themselves do so when the chance that one of the next 10 trials gains 1 % is lower than this")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_flag("--trials-only", flags->trials_only,
                    "the strategies' own time does not count, so that every machine prints the same scores");
  command->add_option("--picture", flags->picture, "SVG file of best-so-far curves");
  command->add_flag("--json", flags->json, "print as JSON, with the curves");
  command->footer(
      "score: 0 as good as random search, 1 the optimum at once; docs/search.md has the formula.\n"
      "Examples:\n"
      "  phitune bench search data/tuning_spaces/*.json.gz --seeds 50\n"
      "  phitune bench search data/tuning_spaces/*.json.gz --strategy random,exhaustive --picture search.svg");
  command->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace phitune::cli
