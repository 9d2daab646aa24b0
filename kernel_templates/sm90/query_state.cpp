#include "kernel_templates/sm90/query_state.hpp"

#include "kernel_templates/sm90/attention_kernel.hpp"
#include "kernel_templates/sm90/hopper.hpp"

namespace phitune::sm90 {

Space QueryStateTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Constraint> constraints = hopper_constraints(s, device, "warpgroups");
  for (Constraint& constraint : state_product_constraints(s)) constraints.push_back(std::move(constraint));
  for (Constraint& constraint : attention_constraints(s, device)) constraints.push_back(std::move(constraint));
  return Space(attention_knobs(s, device), std::move(constraints));
}

std::string QueryStateTemplate::source(const StageProblem& s, const Config& c) const { return attention_source(s, c); }
Launch QueryStateTemplate::launch(const StageProblem& s, const Config& c) const { return attention_launch(s, c); }

const StageTemplate& query_state_template() {
  static const QueryStateTemplate instance;
  return instance;
}

}  // namespace phitune::sm90
