#include "search/replay.hpp"

#include <algorithm>
#include <ctime>
#include <limits>
#include <stdexcept>

#include <fmt/format.h>

namespace phitune {
namespace {

// Of this thread alone, so that replays side by side do not lengthen each other.
double thread_cpu_ms() {
  timespec now{};
  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

// How far from the optimum the target of the budget lies, in parts of the distance from it to the median.
constexpr double target_share = 0.05;

}  // namespace

std::optional<SpaceFacts> facts_of(const RecordedSpace& space) {
  std::vector<double> times;
  for (const RecordedTrial& trial : space.trials)
    if (trial.outcome == Outcome::ok) times.push_back(trial.time_ms);
  if (times.empty()) return std::nullopt;
  return SpaceFacts{times.size(), std::ranges::min(times), median(times)};
}

Budget budget_of(const RecordedSpace& space) {
  const auto facts = facts_of(space);
  if (!facts) throw std::invalid_argument(fmt::format("{}: no config was right, so there is nothing to search for", space.name));
  const double target = facts->best_ms + target_share * (facts->median_ms - facts->best_ms);
  std::size_t worse = 0;
  std::vector<double> costs;
  for (const RecordedTrial& trial : space.trials) {
    worse += trial.outcome != Outcome::ok || trial.time_ms > target;
    costs.push_back(trial.cost_ms);
  }
  const std::size_t within = space.trials.size() + 1 - worse;
  Budget budget;
  budget.evaluations = std::max<std::size_t>(1, (worse + within - 1) / within);
  budget.ms = static_cast<double>(budget.evaluations) * median(std::move(costs));
  return budget;
}

double Replay::best_at(double at_ms, double otherwise) const {
  const auto after = std::ranges::upper_bound(improvements, at_ms, {}, &Improvement::at_ms);
  return after == improvements.begin() ? otherwise : std::prev(after)->best_ms;
}

Replay replay(const RecordedSpace& space, Strategy& strategy, const ReplayLimits& limits, Thinking thinking, std::size_t batch) {
  Replay run;
  double elapsed = 0;
  double best = std::numeric_limits<double>::infinity();
  const auto think = [&](auto&& work) {
    const double before = thread_cpu_ms();
    work();
    const double took = thread_cpu_ms() - before;
    run.thinking_ms += took;
    if (thinking == Thinking::counted) elapsed += took;
  };
  std::vector<std::size_t> asked;
  while (true) {
    bool done = false;
    think([&] {
      done = limits.worth_it.no_longer(strategy);
      if (!done) asked = strategy.ask(batch);
    });
    if (done) return run;
    ++run.asks;
    if (asked.empty()) return run;
    for (const std::size_t index : asked) {
      const RecordedTrial& trial = space.trials.at(index);
      elapsed += trial.cost_ms;
      if (elapsed > limits.ms || run.trials == limits.trials) return run;
      ++run.trials;
      if (trial.outcome == Outcome::ok && trial.time_ms < best) {
        best = trial.time_ms;
        run.improvements.push_back({elapsed, run.trials, best});
      }
      think([&] { strategy.tell(index, trial.outcome, trial.time_ms); });
      if (best <= limits.good_enough_ms) return run;
    }
  }
}

}  // namespace phitune
