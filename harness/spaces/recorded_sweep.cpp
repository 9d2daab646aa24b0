// phitune's own recordings: a space per stage problem, of the configs that were tried.
#include <fmt/format.h>

#include <map>

#include "harness/spaces/formats.hpp"
#include "harness/spaces/trial_table.hpp"

namespace phitune {

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
    spaces.push_back(table.space(fmt::format("{} on {}", key, recording.sweep.device.name)));
  }
  return spaces;
}

}  // namespace phitune
