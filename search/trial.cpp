#include "search/trial.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "search/names.hpp"

namespace phitune {
namespace {

constexpr Names<Outcome, 7> outcome_names{"outcome",
                                          {{{Outcome::ok, "ok"},
                                            {Outcome::pruned, "pruned"},
                                            {Outcome::compile_failed, "compile_failed"},
                                            {Outcome::launch_failed, "launch_failed"},
                                            {Outcome::wrong_result, "wrong_result"},
                                            {Outcome::timed_out, "timed_out"},
                                            {Outcome::unstable, "unstable"}}}};

constexpr std::array<std::pair<Regime, std::string_view>, 6> kRegimes{
    {{{Regime::Cache::flush, Regime::Launches::graph}, "flush"},
     {{Regime::Cache::rotation, Regime::Launches::graph}, "rotation"},
     {{Regime::Cache::hot, Regime::Launches::graph}, "hot"},
     {{Regime::Cache::flush, Regime::Launches::eager}, "flush-eager"},
     {{Regime::Cache::rotation, Regime::Launches::eager}, "rotation-eager"},
     {{Regime::Cache::hot, Regime::Launches::eager}, "hot-eager"}}};

constexpr Names<Incident::Verdict, 3> verdict_names{"verdict",
                                                    {{{Incident::Verdict::guilty, "guilty"},
                                                      {Incident::Verdict::innocent, "innocent"},
                                                      {Incident::Verdict::released, "released"}}}};

}  // namespace

std::string_view to_string(Outcome outcome) { return outcome_names.text(outcome); }
Outcome parse_outcome(std::string_view text) { return outcome_names.parse(text); }

std::string_view to_string(Regime regime) { return std::ranges::find(kRegimes, regime, &std::pair<Regime, std::string_view>::first)->second; }

Regime parse_regime(std::string_view text) {
  const auto found = std::ranges::find(kRegimes, text, &std::pair<Regime, std::string_view>::second);
  if (found == kRegimes.end()) throw std::invalid_argument(fmt::format("'{}' is not a regime ({})", text, fmt::join(regime_names(), ", ")));
  return found->first;
}

std::vector<std::string> regime_names() {
  std::vector<std::string> names;
  for (const auto& [regime, name] : kRegimes) names.emplace_back(name);
  return names;
}

std::string_view to_string(Incident::Verdict verdict) { return verdict_names.text(verdict); }
Incident::Verdict parse_verdict(std::string_view text) { return verdict_names.parse(text); }

std::string candidate_name(const PlanStage& stage) { return stage.problem.key() + " # " + stage.config.text(); }

std::string candidate_name(const Problem& problem, std::span<const PlanStage> stages) {
  std::string name = problem.key();
  for (const PlanStage& stage : stages) name += " ; " + candidate_name(stage);
  return name;
}

}  // namespace phitune
