#include "kernel_templates/sm90/attend_query.hpp"

#include "kernel_templates/sm90/attention_kernel.hpp"
#include "kernel_templates/sm90/hopper.hpp"

namespace phitune::sm90 {

Space AttendQueryTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Knob> knobs = attention_knobs(device);
  knobs.insert(knobs.begin() + 2, {{"steps", {4, 8, 12, 16}, "k16 steps of the state per stage of the ring"},
                                   {"batch", {1, 2, 4}, "k16 steps of phi(q) that are formed while the batch before is multiplied"}});
  std::vector<Constraint> constraints = hopper_constraints(s, device, "warpgroups");
  for (Constraint& constraint : state_product_constraints(s)) constraints.push_back(std::move(constraint));
  for (Constraint& constraint : attention_constraints(s, device)) constraints.push_back(std::move(constraint));
  return Space(std::move(knobs), std::move(constraints));
}

std::string AttendQueryTemplate::source(const StageProblem& s, const Config& c) const { return attention_source(s, c); }
Launch AttendQueryTemplate::launch(const StageProblem& s, const Config& c) const { return attention_launch(s, c); }

const StageTemplate& attend_query_template() {
  static const AttendQueryTemplate instance;
  return instance;
}

}  // namespace phitune::sm90
