#include "kernel_templates/sm90/attention.hpp"

#include "kernel_templates/sm90/attention_kernel.hpp"
#include "kernel_templates/sm90/half_attention.hpp"

namespace phitune::sm90 {

namespace {

// (Configs of older databases have no such knob.)
bool halves(const Config& c) { return c.has("halves") && c.at("halves") != 0; }

}  // namespace

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
  for (Constraint& constraint : half_attention_constraints(s, device)) constraints.push_back(std::move(constraint));
  std::vector<Knob> knobs = attention_knobs(s, device);
  knobs.push_back({"halves", {0, 1}, "1: keys and values are weighed beforehand and multiplied in fp16, in tiles of 128 keys"});
  return Space(std::move(knobs), std::move(constraints));
}

std::string AttentionTemplate::source(const StageProblem& s, const Config& c) const {
  return halves(c) ? half_attention_source(s, c) : attention_source(s, c);
}
Launch AttentionTemplate::launch(const StageProblem& s, const Config& c) const {
  return halves(c) ? half_attention_launch(s, c) : attention_launch(s, c);
}

const StageTemplate& attention_template() {
  static const AttentionTemplate instance;
  return instance;
}

}  // namespace phitune::sm90
