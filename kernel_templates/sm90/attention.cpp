#include "kernel_templates/sm90/attention.hpp"

#include "kernel_templates/sm90/attention_kernel.hpp"

namespace phitune::sm90 {

Space AttentionTemplate::space(const StageProblem& s, const DeviceInfo& device) const {
  std::vector<Constraint> constraints = {
      {"wgmma and setmaxnreg need a GPU of compute capability 9.0 (sm_90a)",
       {"warpgroups"},
       [capability = device.compute_capability](const Config&) { return capability / 10 == 9; }},
      {"the sm90 path multiplies in bf16", {"warpgroups"}, [s](const Config&) { return s.problem.dtype == Dtype::bf16; }},
      {"groups of warpgroups are equally large, and have one query tile each", {"warpgroups", "key_groups", "m_tiles"}, [](const Config& c) {
         return c.at("key_groups") == 1 || (c.at("warpgroups") % c.at("key_groups") == 0 && c.at("m_tiles") == 1);
       }}};
  for (Constraint& constraint : attention_constraints(s, device)) constraints.push_back(std::move(constraint));
  return Space(attention_knobs(s, device), std::move(constraints));
}

std::string AttentionTemplate::source(const StageProblem& s, const Config& c) const { return attention_source(s, c); }
Launch AttentionTemplate::launch(const StageProblem& s, const Config& c) const { return attention_launch(s, c); }

const StageTemplate& attention_template() {
  static const AttentionTemplate instance;
  return instance;
}

}  // namespace phitune::sm90
