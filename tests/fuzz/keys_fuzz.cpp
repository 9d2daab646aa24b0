// The one-line forms of problems, plan shapes, stage problems and configs. What reads must print as something that reads as the same.
#include <cstdlib>
#include <stdexcept>

#include "harness/error.hpp"
#include "harness/suite.hpp"
#include "search/plan.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

template <typename T, typename Print>
void round_trip(const std::string& text, T (*parse)(std::string_view), Print print) {
  try {
    const T value = parse(text);
    if (!(parse(print(value)) == value)) throw std::logic_error("'" + text + "' does not read back");
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  round_trip<phitune::Problem>(text, &phitune::Problem::parse, [](const auto& value) { return value.key(); });
  round_trip<phitune::PlanShape>(text, &phitune::PlanShape::parse, [](const auto& value) { return value.text(); });
  round_trip<phitune::StageProblem>(text, &phitune::StageProblem::parse, [](const auto& value) { return value.key(); });
  round_trip<phitune::Config>(text, &phitune::Config::parse, [](const auto& value) { return value.text(); });
  try {
    static_cast<void>(phitune::suite_of({text}));
  } catch (const phitune::Error&) {
  }
  return 0;
}

std::vector<std::string> phitune::fuzz::seeds() {
  const Problem problem = Problem::parse("b1 t65536 h8 d64 p2 bf16 gated");
  const PlanShape shape = PlanShape::parse("expand_mma c1024 d_tile8 state_bf16 partial_bf16 sm90");
  return {problem.key(), "b1 t1024|4096 h8 d64 p2 bf16|fp16", shape.text(), make_stage_problem(problem, shape, Stage::query_state).key(),
          "key_tile=32 m_tiles=1 min_blocks=1 stages=2 warps=4"};
}
