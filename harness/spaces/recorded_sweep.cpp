// phitune's own recordings: a space per stage problem, of the configs that were tried.
#include <fmt/format.h>

#include <map>

#include "harness/spaces/formats.hpp"
#include "harness/spaces/trial_table.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {

namespace {

// Of the space that today's template has.
std::size_t untried(const RecordedSpace& recorded) {
  if (recorded.stage->path == Path::library) return 0;
  const Space whole = stage_template(recorded.stage->stage, recorded.stage->path).space(*recorded.stage, recorded.device);
  std::size_t found = 0;
  for (std::size_t i = 0; i < recorded.space.size(); ++i) found += whole.find(recorded.space.at(i)).has_value();
  return whole.size() - found;
}

}  // namespace

std::vector<RecordedSpace> recorded_spaces(const Recording& recording) {
  std::map<std::string, std::vector<const Trial*>> by_stage;
  for (const Trial& trial : recording.trials) by_stage[trial.problem.key()].push_back(&trial);
  std::vector<RecordedSpace> spaces;
  for (const auto& [key, trials] : by_stage) {
    std::vector<std::string> knobs;
    for (const auto& [knob, value] : trials.front()->config.values()) knobs.push_back(knob);
    TrialTable table(knobs);
    for (const Trial* trial : trials) {
      std::vector<nlohmann::ordered_json> values;
      for (const auto& [knob, value] : trial->config.values()) values.emplace_back(value);
      const double time = trial->result.timing ? trial->result.timing->median_ms : 0;
      table.add(values, {trial->result.outcome, time, trial->compile_ms + trial->result.verify_ms + trial->result.measure_ms});
    }
    RecordedSpace& space = spaces.emplace_back(table.space(fmt::format("{} on {}", key, recording.sweep.device.name)));
    space.stage = trials.front()->problem;
    space.device = recording.sweep.device;
    space.untried = untried(space);
  }
  return spaces;
}

}  // namespace phitune
