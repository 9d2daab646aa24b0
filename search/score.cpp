#include "search/score.hpp"

#include <algorithm>
#include <limits>
#include <random>

namespace phitune {
namespace {

// One random search, as the moments see it.
void add_random_run(const RecordedSpace& space, const std::vector<double>& moments, double median_ms, std::mt19937_64& rng,
                    std::vector<double>& sums) {
  const std::vector<std::size_t> order = space.space.sample(space.space.size(), rng);
  double elapsed = 0, best = std::numeric_limits<double>::infinity();
  std::size_t next = 0;
  for (std::size_t i = 0; i < moments.size(); ++i) {
    for (; next < order.size() && elapsed + space.trials[order[next]].cost_ms <= moments[i]; ++next) {
      const RecordedTrial& trial = space.trials[order[next]];
      elapsed += trial.cost_ms;
      if (trial.outcome == Outcome::ok) best = std::min(best, trial.time_ms);
    }
    sums[i] += best < std::numeric_limits<double>::infinity() ? best : median_ms;
  }
}

Reached reached(double share, double optimum, const std::vector<Replay>& runs) {
  constexpr auto never = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> trials;
  std::vector<double> ms;
  std::size_t did = 0;
  for (const Replay& run : runs) {
    const auto found = std::ranges::find_if(run.improvements, [&](const Improvement& i) { return i.best_ms <= optimum * (1 + share); });
    const bool yes = found != run.improvements.end();
    did += yes;
    trials.push_back(yes ? found->trials : never);
    ms.push_back(yes ? found->at_ms : std::numeric_limits<double>::infinity());
  }
  Reached result;
  result.share = share;
  result.runs = static_cast<double>(did) / static_cast<double>(runs.size());
  const auto middle = static_cast<std::ptrdiff_t>(runs.size() / 2);
  std::ranges::nth_element(trials, trials.begin() + middle);
  std::ranges::nth_element(ms, ms.begin() + middle);
  if (trials[runs.size() / 2] != never) {
    result.trials = trials[runs.size() / 2];
    result.seconds = 1e-3 * ms[runs.size() / 2];
  }
  return result;
}

std::size_t share_of(const RecordedSpace& space, double share) {
  return std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(space.trials.size())));
}

}  // namespace

ReplayLimits to_winner_limits(const RecordedSpace& space) {
  return {.trials = share_of(space, ToWinner::longest_share), .good_enough_ms = facts_of(space).value().best_ms * (1 + ToWinner::within)};
}

ToWinner to_winner(const RecordedSpace& space, const std::vector<Replay>& runs) {
  ToWinner result;
  result.budget = share_of(space, ToWinner::budget_share);
  const Reached found = reached(ToWinner::within, facts_of(space).value().best_ms, runs);
  result.trials = found.trials;
  for (const Replay& run : runs) {
    const bool yes = !run.improvements.empty() && run.improvements.back().best_ms <= to_winner_limits(space).good_enough_ms &&
                     run.improvements.back().trials <= result.budget;
    result.in_budget += yes ? 1 / static_cast<double>(runs.size()) : 0;
  }
  return result;
}

Stopped stopped(const RecordedSpace& space, const WorthIt& worth_it, const std::vector<Replay>& runs) {
  const double optimum = facts_of(space).value().best_ms, each = 1 / static_cast<double>(runs.size());
  Stopped result;
  for (const Replay& run : runs) {
    const double best = run.best_at(std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity());
    result.trials += each * static_cast<double>(run.trials);
    result.share += each * optimum / best;
    if (optimum < best * (1 - worth_it.gain)) result.left += each;
  }
  return result;
}

std::vector<double> moments_of(const Budget& budget, std::size_t points) {
  std::vector<double> moments;
  for (std::size_t i = 1; i <= points; ++i) moments.push_back(budget.ms * static_cast<double>(i) / static_cast<double>(points));
  return moments;
}

std::vector<double> random_curve(const RecordedSpace& space, const std::vector<double>& moments, std::size_t runs, std::uint64_t seed) {
  const SpaceFacts facts = facts_of(space).value();
  std::mt19937_64 rng(seed);
  std::vector<double> curve(moments.size(), 0);
  for (std::size_t run = 0; run < runs; ++run) add_random_run(space, moments, facts.median_ms, rng, curve);
  for (double& value : curve) value /= static_cast<double>(runs);
  return curve;
}

SpaceScore score_of(const RecordedSpace& space, const std::vector<double>& moments, const std::vector<double>& random,
                    const std::vector<Replay>& runs) {
  const SpaceFacts facts = facts_of(space).value();
  const auto count = static_cast<double>(runs.size());
  SpaceScore result;
  result.worst_seed_share = 1;
  for (std::size_t i = 0; i < moments.size(); ++i) {
    double best = 0;
    for (const Replay& run : runs) best += run.best_at(moments[i], facts.median_ms) / count;
    result.curve.push_back(best);
    const double room = random[i] - facts.best_ms;
    // Where random search has always found the optimum there is nothing to be better at.
    if (room > 0) result.score += (random[i] - best) / room / static_cast<double>(moments.size());
  }
  double thinking = 0, asks = 0;
  for (const Replay& run : runs) {
    const double share = facts.best_ms / run.best_at(moments.back(), std::numeric_limits<double>::infinity());
    result.share += share / count;
    result.worst_seed_share = std::min(result.worst_seed_share, share);
    result.trials += static_cast<double>(run.trials) / count;
    thinking += run.thinking_ms;
    asks += static_cast<double>(run.asks);
  }
  result.within_5 = reached(0.05, facts.best_ms, runs);
  result.within_1 = reached(0.01, facts.best_ms, runs);
  result.ms_per_ask = asks > 0 ? thinking / asks : 0;
  return result;
}

}  // namespace phitune
