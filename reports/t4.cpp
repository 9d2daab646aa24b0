// T4 results of the autotuning community (schema: odgaard/TuningSchema, results-schema.json): one entry per stage trial. Times are in ms.
#include <cmath>
#include <nlohmann/json.hpp>

#include "reports/writers.hpp"

namespace phitune {
namespace {

using Json = nlohmann::ordered_json;

const char* invalidity_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::ok:
      return "correct";
    case Outcome::pruned:
      return "constraints";
    case Outcome::compile_failed:
      return "compile";
    case Outcome::wrong_result:
      return "correctness";
    case Outcome::timed_out:
      return "timeout";
    case Outcome::launch_failed:
    case Outcome::unstable:
      break;
  }
  return "runtime";
}

Json measurements_of(const Trial& trial) {
  Json list = Json::array();
  const auto add = [&](const char* name, double value, const char* unit) {
    if (std::isfinite(value)) list.push_back({{"name", name}, {"value", value}, {"unit", unit}});
  };
  if (trial.result.timing) {
    add("time", trial.result.timing->median_ms, "ms");
    add("time_iqr", trial.result.timing->iqr_ms, "ms");
    if (trial.result.timing->sm_clock_mhz > 0) add("sm_clock", trial.result.timing->sm_clock_mhz, "MHz");
  }
  if (trial.result.errors) add("relative_l2_error", trial.result.errors->relative_l2, "");
  if (trial.resources) {
    add("registers", static_cast<double>(trial.resources->registers), "");
    add("local_memory", static_cast<double>(trial.resources->spill_bytes), "B");
    const auto shared = trial.resources->static_shared_bytes + trial.resources->dynamic_shared_bytes;
    add("shared_memory", static_cast<double>(shared), "B");
  }
  return list;
}

/// Both spellings of the compile time, because readers of the format look for one or the other. Time spent in the framework and the search
/// is not recorded per trial; readers add those fields up, so they are present and 0, and the metadata says so.
Json times_of(const Trial& trial) {
  Json runtimes = Json::array();
  if (trial.result.timing) runtimes = trial.result.timing->samples_ms;
  return {{"compilation", trial.compile_ms},
          {"compilation_time", trial.compile_ms},
          {"benchmark", trial.result.measure_ms},
          {"validation", trial.result.verify_ms},
          {"framework", 0.0},
          {"search_algorithm", 0.0},
          {"runtimes", runtimes}};
}

Json result_of(const Trial& trial, const DeviceView& device) {
  Json configuration = Json::object();
  for (const auto& [knob, value] : trial.config.values()) configuration[knob] = value;
  const bool right = trial.result.errors && trial.result.outcome != Outcome::wrong_result;
  return {{"timestamp", trial.created_at},
          {"configuration", configuration},
          {"times", times_of(trial)},
          {"invalidity", invalidity_of(trial.result.outcome)},
          {"correctness", right ? 1.0 : 0.0},
          {"measurements", measurements_of(trial)},
          {"objectives", Json::array({"time"})},
          // Beyond the schema, which allows it: what the entry belongs to, and why it failed.
          {"kernel", to_string(trial.problem.stage)},
          {"problem", trial.problem.key()},
          {"device", device.info.name},
          {"origin", device.origin()},
          {"outcome", to_string(trial.result.outcome)},
          {"reason", trial.result.reason}};
}

}  // namespace

std::string write_t4(const Model& model) {
  Json devices = Json::array();
  Json results = Json::array();
  for (const DeviceView& device : model.devices) {
    devices.push_back({{"name", device.info.name},
                       {"architecture", device.info.architecture},
                       {"driver", device.info.driver},
                       {"origin", device.origin()}});
    for (const Trial& trial : device.trials) results.push_back(result_of(trial, device));
  }
  const Json json = {
      {"schema_version", "1.0.0"},
      {"metadata",
       {{"generator", "phitune"},
        {"source", model.source},
        {"generated_at", model.generated_at},
        {"time_unit", "ms"},
        {"devices", devices},
        {"any_replayed", model.any_replayed()},
        {"notes",
         "configurations are comparable within one \"problem\"; framework and search_algorithm times are not recorded per trial and are "
         "written as 0; a compilation time of 0 means that the kernel came from the cache"}}},
      {"results", results}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace phitune
