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

}  // namespace

std::string_view to_string(Outcome outcome) { return outcome_names.text(outcome); }
Outcome parse_outcome(std::string_view text) { return outcome_names.parse(text); }

}  // namespace phitune
