#include "harness/spaces/search_bench.hpp"

#include <set>
#include <string>

#include "harness/error.hpp"
#include "harness/tune/experience.hpp"
#include "harness/verify/parallel.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

bool worth_searching(const RecordedSpace& space) {
  const auto facts = facts_of(space);
  return facts && facts->median_ms > facts->best_ms && budget_of(space).evaluations > 1;
}

// By index, so that every seed can ask for it again and again.
std::vector<double> tabulated(const Prior& prior, const RecordedSpace& space) {
  std::vector<double> values;
  for (std::size_t i = 0; prior && i < space.space.size(); ++i) values.push_back(prior(i));
  return values;
}

// Of a kernel that had other knobs when it was recorded, today's template cannot say how it would fill the device.
bool has_todays_knobs(const RecordedSpace& space) {
  if (space.stage->path == Path::library) return false;
  const auto names_of = [](const Space& of) {
    std::set<std::string> names;
    for (const Knob& knob : of.knobs()) names.insert(knob.name);
    return names;
  };
  return names_of(space.space) == names_of(stage_template(space.stage->stage, space.stage->path).space(*space.stage, space.device));
}

}  // namespace

Prior prior_from(const std::vector<std::shared_ptr<const Lessons>>& known, const RecordedSpace& space) {
  if (!space.stage || !has_todays_knobs(space)) return {};
  Experience experience;
  for (const auto& lessons : known)
    for (const StageLessons& other : lessons->stages) {
      if (other.stage.stage != space.stage->stage || other.stage.path != space.stage->path) continue;
      const DeviceInfo& device = lessons->devices[other.device];
      if (other.stage.problem != space.stage->problem || device.name != space.device.name) experience.add(device, other);
    }
  return experience.prior(*space.stage, space.space, space.device);
}

std::vector<SpaceComparison> compare_strategies(const std::vector<RecordedSpace>& spaces, const SearchBenchOptions& options,
                                                const std::atomic<bool>& stop) {
  std::vector<const RecordedSpace*> searched;
  for (const RecordedSpace& space : spaces)
    if (worth_searching(space)) searched.push_back(&space);
  std::vector<SpaceComparison> comparisons(searched.size());
  std::vector<std::vector<double>> priors(searched.size());
  parallel_for(
      searched.size(),
      [&](std::size_t i) {
        const RecordedSpace& space = *searched[i];
        SpaceComparison& to = comparisons[i];
        to = {space.name, space.space.size(), facts_of(space).value(), budget_of(space), space.has_costs, space.untried, {}, {}, {}};
        to.moments = moments_of(to.budget);
        to.random = random_curve(space, to.moments);
        if (options.prior) priors[i] = tabulated(options.prior(space), space);
      },
      options.threads);

  // One job is one seed of one strategy on one space; every job has its place, so threads cannot change the result.
  const std::size_t per_space = options.strategies.size() * options.seeds;
  std::vector<Replay> runs(searched.size() * per_space), to_winners(runs.size()), until_worth_it(runs.size());
  parallel_for(
      runs.size(),
      [&](std::size_t job) {
        if (stop) throw Error(ExitCode::interrupted, "stopped; nothing is kept of a comparison that is not whole");
        const RecordedSpace& space = *searched[job / per_space];
        const std::string& name = options.strategies[job % per_space / options.seeds];
        const auto run = [&](const ReplayLimits& limits) {
          const std::vector<double>& known = priors[job / per_space];
          const Prior prior = known.empty() ? Prior{} : [&known](std::size_t index) { return known[index]; };
          const auto strategy = make_strategy(name, space.space, options.first_seed + job % options.seeds, prior);
          return replay(space, *strategy, limits, options.thinking, options.batch);
        };
        runs[job] = run({.ms = comparisons[job / per_space].budget.ms});
        to_winners[job] = run(to_winner_limits(space));
        if (heeds_prior(name) && !priors[job / per_space].empty()) until_worth_it[job] = run({.worth_it = options.worth_it});
      },
      options.threads);

  for (std::size_t i = 0; i < searched.size(); ++i) {
    for (std::size_t s = 0; s < options.strategies.size(); ++s) {
      const auto of_strategy = [&](const std::vector<Replay>& all) {
        const auto first = all.begin() + static_cast<std::ptrdiff_t>(i * per_space + s * options.seeds);
        return std::vector<Replay>(first, first + static_cast<std::ptrdiff_t>(options.seeds));
      };
      SpaceScore& score =
          comparisons[i].scores.emplace_back(score_of(*searched[i], comparisons[i].moments, comparisons[i].random, of_strategy(runs)));
      score.to_winner = to_winner(*searched[i], of_strategy(to_winners));
      if (heeds_prior(options.strategies[s]) && !priors[i].empty())
        score.stopped = stopped(*searched[i], options.worth_it, of_strategy(until_worth_it));
    }
  }
  return comparisons;
}

}  // namespace phitune
