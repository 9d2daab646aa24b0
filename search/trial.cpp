#include "search/trial.hpp"

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

constexpr Names<Incident::Verdict, 3> verdict_names{"verdict",
                                                    {{{Incident::Verdict::guilty, "guilty"},
                                                      {Incident::Verdict::innocent, "innocent"},
                                                      {Incident::Verdict::released, "released"}}}};

}  // namespace

std::string_view to_string(Outcome outcome) { return outcome_names.text(outcome); }
Outcome parse_outcome(std::string_view text) { return outcome_names.parse(text); }

std::string_view to_string(Incident::Verdict verdict) { return verdict_names.text(verdict); }
Incident::Verdict parse_verdict(std::string_view text) { return verdict_names.parse(text); }

std::string candidate_name(const PlanStage& stage) { return stage.problem.key() + " # " + stage.config.text(); }

std::string candidate_name(const Problem& problem, std::span<const PlanStage> stages) {
  std::string name = problem.key();
  for (const PlanStage& stage : stages) name += " ; " + candidate_name(stage);
  return name;
}

}  // namespace phitune
