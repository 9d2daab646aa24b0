#include "search/compose.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>

#include <fmt/format.h>

namespace phitune {
namespace {

StageCandidate candidate_of(const Trial& trial) {
  return {trial.config, trial.result.timing->median_ms, trial.result.errors ? trial.result.errors->relative_l2 : 0,
          trial.resources ? trial.resources->registers : 0, trial.identity};
}

// The missing stage's reason, or the composition.
std::optional<std::string> compose_one(const Problem& problem, const PlanShape& shape, const StageResults& results, const Ties& ties,
                                       Composition& out) {
  out.plan = {problem, shape, {}};
  for (const StageProblem& stage : stages_of(problem, shape)) {
    const StageCandidate* best = results.best(stage, ties);
    if (best == nullptr) return results.why_none(stage);
    out.plan.stages.push_back({stage, best->config});
    out.stage_ms.push_back(best->median_ms);
    out.sum_ms += best->median_ms;
  }
  return std::nullopt;
}

}  // namespace

void StageResults::add(const Trial& trial) {
  Tried& tried = tried_[trial.problem];
  const std::string config = trial.config.text();
  tried.ok.erase(config);
  tried.failed.erase(config);
  if (trial.result.outcome != Outcome::ok) {
    tried.failed.emplace(config, Failure{trial.result.outcome, trial.result.reason});
  } else if (!trial.result.timing) {
    tried.failed.emplace(config, Failure{Outcome::unstable, "right, but without a time"});
  } else {
    tried.ok.emplace(config, candidate_of(trial));
  }
}

const StageCandidate* StageResults::best(const StageProblem& stage, const Ties& ties) const {
  const auto found = tried_.find(stage);
  if (found == tried_.end()) return nullptr;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [text, candidate] : found->second.ok) least = std::min(least, candidate.median_ms);
  const auto order = [](const StageCandidate& c) { return std::tuple(c.error, c.registers); };
  const StageCandidate* best = nullptr;
  // The map is in order of config text, so the first of equals is the lexicographically smallest.
  for (const auto& [text, candidate] : found->second.ok) {
    if (candidate.median_ms > least + std::max(ties.share * least, ties.ms)) continue;
    if (best == nullptr || order(candidate) < order(*best)) best = &candidate;
  }
  return best;
}

std::vector<const StageCandidate*> StageResults::candidates(const StageProblem& stage) const {
  std::vector<const StageCandidate*> list;
  if (const auto found = tried_.find(stage); found != tried_.end())
    for (const auto& [text, candidate] : found->second.ok) list.push_back(&candidate);
  return list;
}

std::string StageResults::why_none(const StageProblem& stage) const {
  const auto found = tried_.find(stage);
  if (found == tried_.end() || (found->second.ok.empty() && found->second.failed.empty())) {
    return fmt::format("{} was not tried", to_string(stage.stage));
  }
  const Tried& tried = found->second;
  std::map<Outcome, std::size_t> counts;
  for (const auto& [config, failure] : tried.failed) ++counts[failure.outcome];
  std::string list;
  for (const auto& [outcome, count] : counts) list += fmt::format("{}{} {}", list.empty() ? "" : ", ", count, to_string(outcome));
  if (!tried.ok.empty()) list += fmt::format("{}{} ok", list.empty() ? "" : ", ", tried.ok.size());
  const std::size_t trials = tried.ok.size() + tried.failed.size();
  std::string text = fmt::format("{} {} of {}: {}", trials, trials == 1 ? "trial" : "trials", to_string(stage.stage), list);
  if (!tried.failed.empty()) text += fmt::format(" (first: {})", tried.failed.begin()->second.reason);
  return text;
}

Composed compose(const Problem& problem, std::span<const PlanShape> shapes, const StageResults& results, const Ties& ties) {
  Composed composed;
  for (const PlanShape& shape : shapes) {
    Composition composition;
    if (auto reason = compose_one(problem, shape, results, ties, composition)) {
      composed.impossible.push_back({shape, std::move(*reason)});
    } else {
      composed.ranked.push_back(std::move(composition));
    }
  }
  std::ranges::sort(composed.ranked, {}, [](const Composition& c) { return std::tuple(c.sum_ms, c.stage_ms.size(), c.plan.shape.text()); });
  return composed;
}

namespace {

// Other kernels for the stage, by the times nearest to its own, that keep the plan's sum below `bound`.
std::vector<const StageCandidate*> nearest_rivals(const Composition& plan, std::size_t stage, const StageResults& results, double bound) {
  std::vector<const StageCandidate*> candidates = results.candidates(plan.plan.stages[stage].problem);
  const auto own = std::ranges::find(candidates, plan.plan.stages[stage].config, &StageCandidate::config);
  std::vector<const StageCandidate*> taken, nearest;
  if (own != candidates.end()) taken.push_back(*own);
  std::ranges::stable_sort(candidates, {}, [&](const StageCandidate* candidate) { return std::abs(candidate->median_ms - plan.stage_ms[stage]); });
  for (const StageCandidate* candidate : candidates) {
    const auto same_kernel = [&](const StageCandidate* other) {
      return candidate == other || (!candidate->identity.empty() && candidate->identity == other->identity);
    };
    if (nearest.size() == kRivalsOfAStage) break;
    if (plan.sum_ms - plan.stage_ms[stage] + candidate->median_ms > bound || std::ranges::any_of(taken, same_kernel)) continue;
    taken.push_back(candidate);
    nearest.push_back(candidate);
  }
  return nearest;
}

}  // namespace

std::vector<Composition> rivals(std::span<const Composition> chosen, const StageResults& results, double near, std::size_t most) {
  if (chosen.empty()) return {};
  const double bound = std::ranges::min(chosen, {}, &Composition::sum_ms).sum_ms * (1 + near);
  std::vector<Composition> found;
  for (const Composition& one : chosen) {
    if (one.sum_ms > bound) continue;
    std::vector<std::size_t> stages(one.stage_ms.size());
    std::iota(stages.begin(), stages.end(), std::size_t{0});
    std::ranges::stable_sort(stages, std::greater(), [&](std::size_t i) { return one.stage_ms[i]; });
    for (const std::size_t i : stages) {
      for (const StageCandidate* candidate : nearest_rivals(one, i, results, bound)) {
        if (found.size() == most) return found;
        Composition rival = one;
        rival.plan.stages[i].config = candidate->config;
        rival.sum_ms += candidate->median_ms - rival.stage_ms[i];
        rival.stage_ms[i] = candidate->median_ms;
        found.push_back(std::move(rival));
      }
    }
  }
  return found;
}

std::vector<Composition> finalists(std::span<const Composition> ranked, std::size_t count) {
  std::vector<Composition> chosen;
  std::set<Fusion> fusions;
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    const bool first_of_fusion = fusions.insert(ranked[i].plan.shape.fusion).second;
    if (i < count || first_of_fusion) chosen.push_back(ranked[i]);
  }
  return chosen;
}

}  // namespace phitune
