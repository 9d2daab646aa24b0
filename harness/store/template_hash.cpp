#include "harness/store/template_hash.hpp"

#include "harness/compile/source_key.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {

std::string template_hash(const PlanStage& stage) {
  if (stage.problem.path == Path::library) return {};
  return template_text_hash(stage_template(stage.problem.stage, stage.problem.path).source(stage.problem, stage.config));
}

}  // namespace phitune
