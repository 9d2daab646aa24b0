#include "search/plan_audit.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

namespace phitune {
namespace {

constexpr double tolerated = 0.01;
// Rivals are counted up to here; more of them say the same.
constexpr std::size_t most_rivals = 100000;

struct Candidate {
  double ms;
  std::string config;
};
using Candidates = std::vector<Candidate>;  // fastest first

std::map<StageProblem, Candidates> candidates_of(std::span<const Trial> trials) {
  std::map<StageProblem, Candidates> found;
  for (const Trial& trial : trials)
    if (trial.result.outcome == Outcome::ok && trial.result.timing)
      found[trial.problem].push_back({trial.result.timing->median_ms, trial.config.text()});
  for (auto& [stage, candidates] : found) std::ranges::sort(candidates, {}, &Candidate::ms);
  return found;
}

// A shape's stages, each with what it can be made of; nothing where a stage has nothing.
std::optional<std::vector<const Candidates*>> stages_with_candidates(const std::map<StageProblem, Candidates>& all, const Problem& problem,
                                                                     const PlanShape& shape) {
  std::vector<const Candidates*> stages;
  for (const StageProblem& stage : stages_of(problem, shape)) {
    const auto found = all.find(stage);
    if (found == all.end()) return std::nullopt;
    stages.push_back(&found->second);
  }
  return stages;
}

std::string name_of(const PlanShape& shape, const std::vector<std::string>& configs) {
  std::string name = shape.text();
  for (const std::string& config : configs) name += " | " + config;
  return name;
}

std::string name_of(const Plan& plan) {
  std::vector<std::string> configs;
  for (const PlanStage& stage : plan.stages) configs.push_back(stage.config.text());
  return name_of(plan.shape, configs);
}

// Combinations with a sum below a bound that were not run. Candidates are sorted, so a sum that is too large ends its branch.
class Rivals {
 public:
  Rivals(const PlanShape& shape, const std::vector<const Candidates*>& stages, double bound, const std::set<std::string>& run)
      : shape_(shape), stages_(stages), bound_(bound), run_(run), rest_(stages.size() + 1, 0) {
    for (std::size_t i = stages.size(); i-- > 0;) rest_[i] = rest_[i + 1] + stages[i]->front().ms;
    walk(0, 0);
  }
  std::size_t count = 0;

 private:
  void walk(std::size_t stage, double sum) {
    if (stage == stages_.size()) {
      count += !run_.contains(name_of(shape_, configs_));
      return;
    }
    for (const Candidate& candidate : *stages_[stage]) {
      if (sum + candidate.ms + rest_[stage + 1] >= bound_ || count >= most_rivals) return;
      configs_.push_back(candidate.config);
      walk(stage + 1, sum + candidate.ms);
      configs_.pop_back();
    }
  }

  const PlanShape& shape_;
  const std::vector<const Candidates*>& stages_;
  double bound_;
  const std::set<std::string>& run_;
  std::vector<double> rest_;  // least sum of the stages from here on
  std::vector<std::string> configs_;
};

// The sum of the stages' recorded times; nothing where one was not recorded.
std::optional<double> sum_of(const Plan& plan, const std::map<StageProblem, Candidates>& all) {
  double sum = 0;
  for (const PlanStage& stage : plan.stages) {
    const auto found = all.find(stage.problem);
    if (found == all.end()) return std::nullopt;
    const auto candidate = std::ranges::find(found->second, stage.config.text(), &Candidate::config);
    if (candidate == found->second.end()) return std::nullopt;
    sum += candidate->ms;
  }
  return sum;
}

}  // namespace

std::optional<PlanAudit> audit_plans(const Problem& problem, std::span<const Trial> trials, std::span<const PlanTrial> plan_trials) {
  PlanAudit audit;
  audit.problem = problem;
  const std::map<StageProblem, Candidates> all = candidates_of(trials);

  std::map<std::string, double> run;
  std::vector<double> ratios;
  audit.fastest_ms = std::numeric_limits<double>::infinity();
  for (const PlanTrial& trial : plan_trials) {
    if (trial.plan.problem != problem || trial.result.outcome != Outcome::ok || !trial.result.timing) continue;
    const double ms = trial.result.timing->median_ms;
    run[name_of(trial.plan)] = ms;
    if (const auto sum = sum_of(trial.plan, all)) ratios.push_back(ms / *sum);
    if (ms >= audit.fastest_ms) continue;
    audit.fastest_ms = ms;
    audit.fastest = trial.plan.shape.text();
  }
  if (ratios.empty()) return std::nullopt;
  std::ranges::sort(ratios);
  audit.run = run.size();
  audit.least_ratio = ratios.front();
  audit.median_ratio = ratios[ratios.size() / 2];
  audit.greatest_ratio = ratios.back();

  std::set<std::string> names;
  for (const auto& [name, ms] : run) names.insert(name);
  const double bound = audit.fastest_ms * (1 - tolerated) / audit.least_ratio;
  double least = std::numeric_limits<double>::infinity();
  for (const PlanShape& shape : plan_shapes(problem).shapes) {
    const auto stages = stages_with_candidates(all, problem, shape);
    if (!stages) continue;
    ++audit.shapes;
    double combinations = 1, sum = 0;
    std::vector<std::string> best;
    for (const Candidates* candidates : *stages) {
      combinations *= static_cast<double>(candidates->size());
      sum += candidates->front().ms;
      best.push_back(candidates->front().config);
    }
    audit.plans += combinations;
    const std::size_t rivals = Rivals(shape, *stages, bound, names).count;
    audit.rivals += rivals;
    audit.rival_shapes += rivals > 0;
    if (sum >= least) continue;
    least = sum;
    audit.composed = shape.text();
    const auto was_run = run.find(name_of(shape, best));
    audit.composed_ms = was_run != run.end() ? std::optional(was_run->second) : std::nullopt;
  }
  return audit;
}

}  // namespace phitune
