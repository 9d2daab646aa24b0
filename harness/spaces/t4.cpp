// T4 results of the autotuning community (schema: odgaard/TuningSchema): results[] each with configuration, times, invalidity,
// measurements. Times are in ms unless the metadata's time unit says seconds.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "harness/spaces/formats.hpp"
#include "harness/spaces/trial_table.hpp"

namespace phitune {
namespace {

using Json = nlohmann::ordered_json;

Outcome outcome_of(const Json& result) {
  const auto invalidity = result.value("invalidity", std::string("correct"));
  if (invalidity == "correct") return Outcome::ok;
  if (invalidity == "constraints") return Outcome::pruned;
  if (invalidity == "compile") return Outcome::compile_failed;
  if (invalidity == "correctness") return Outcome::wrong_result;
  if (invalidity == "timeout") return Outcome::timed_out;
  return Outcome::launch_failed;
}

double to_ms(const std::string& unit, double otherwise) {
  if (unit == "ms" || unit == "milliseconds" || unit == "miliseconds") return 1;
  if (unit == "s" || unit == "seconds") return 1e3;
  if (unit == "us" || unit == "microseconds") return 1e-3;
  if (unit == "ns" || unit == "nanoseconds") return 1e-6;
  return otherwise;
}

double unit_of_times(const Json& document) {
  const Json metadata = document.value("metadata", Json::object());
  for (const char* field : {"time_unit", "timeunit"})
    if (metadata.contains(field) && metadata.at(field).is_string()) return to_ms(metadata.at(field).get<std::string>(), 1);
  return 1;
}

double number_or(const Json& object, const char* field, double otherwise) {
  const auto at = object.find(field);
  return at != object.end() && at->is_number() ? at->get<double>() : otherwise;
}

double cost_of(const Json& result, double unit) {
  const Json times = result.value("times", Json::object());
  const double compile = number_or(times, "compilation_time", number_or(times, "compilation", 0));
  return unit * (compile + number_or(times, "benchmark", 0) + number_or(times, "validation", 0) + number_or(times, "framework", 0));
}

// The measurement called time, which every tuner of kernels has; nothing where it is not a number, as for a config that failed.
std::optional<double> time_of(const Json& result, double unit) {
  for (const Json& measurement : result.value("measurements", Json::array())) {
    if (measurement.value("name", std::string()) != "time") continue;
    const auto value = measurement.find("value");
    if (value != measurement.end() && value->is_number())
      return value->get<double>() * to_ms(measurement.value("unit", std::string()), unit);
  }
  return std::nullopt;
}

std::string group_of(const Json& result, const std::string& name) {
  std::string group;
  for (const char* field : {"kernel", "problem", "device"})
    if (result.contains(field) && result.at(field).is_string()) group += (group.empty() ? "" : " | ") + result.at(field).get<std::string>();
  return group.empty() ? name : group;
}

}  // namespace

bool is_t4(const Json& document) { return document.is_object() && document.contains("results") && document.at("results").is_array(); }

std::vector<RecordedSpace> t4_spaces(const Json& document, const std::string& name) {
  const double unit = unit_of_times(document);
  std::map<std::string, TrialTable> tables;
  std::map<std::string, std::vector<std::string>> knobs;
  std::size_t number = 0;
  for (const Json& result : document.at("results")) {
    ++number;
    const Json& configuration = result.at("configuration");
    const std::string group = group_of(result, name);
    std::vector<std::string>& names = knobs[group];
    if (!tables.contains(group)) {
      for (const auto& [knob, value] : configuration.items()) names.push_back(knob);
      tables.emplace(group, TrialTable(names));
    }
    if (configuration.size() != names.size())
      throw std::invalid_argument(
          fmt::format("result {}: {} knobs, where the first of its problem has {}", number, configuration.size(), names.size()));
    std::vector<Json> values;
    for (const std::string& knob : names) values.push_back(configuration.at(knob));
    RecordedTrial trial{outcome_of(result), 0, cost_of(result, unit)};
    if (trial.outcome == Outcome::ok) {
      const auto time = time_of(result, unit);
      if (!time || *time <= 0)
        throw std::invalid_argument(fmt::format("result {} is said to be correct and has no measurement called time", number));
      trial.time_ms = *time;
    }
    tables.at(group).add(values, trial);
  }
  std::vector<RecordedSpace> spaces;
  for (const auto& [group, table] : tables) spaces.push_back(table.space(group));
  return spaces;
}

}  // namespace phitune
