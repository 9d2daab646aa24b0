// Kernel Tuner's cache: {device_name, kernel_name, tune_params_keys, tune_params, cache: {"v1,v2,...": {knobs, time, *_time}}}. Times are
// in ms. A trial that failed has the name of Kernel Tuner's error in place of its time.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "harness/spaces/formats.hpp"
#include "harness/spaces/trial_table.hpp"
#include "search/text.hpp"

namespace phitune {
namespace {

using Json = nlohmann::ordered_json;

Outcome outcome_of(const Json& time) {
  if (time.is_number()) return std::isfinite(time.get<double>()) && time.get<double>() > 0 ? Outcome::ok : Outcome::unstable;
  const std::string text = time.is_string() ? time.get<std::string>() : time.dump();
  if (text.find("Compilation") != std::string::npos) return Outcome::compile_failed;
  if (text.find("Correctness") != std::string::npos) return Outcome::wrong_result;
  if (text.find("Invalid") != std::string::npos) return Outcome::pruned;
  return Outcome::launch_failed;
}

double number_or_zero(const Json& entry, const char* field) {
  const auto at = entry.find(field);
  return at != entry.end() && at->is_number() ? at->get<double>() : 0;
}

// What Kernel Tuner's strategy took is left out: another strategy's time comes in its place.
double cost_of(const Json& entry) {
  return number_or_zero(entry, "compile_time") + number_or_zero(entry, "verification_time") + number_or_zero(entry, "benchmark_time") +
         number_or_zero(entry, "framework_time");
}

// Python's str() of a value, which is what keys are made of.
std::string python_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  return value.dump();
}

std::vector<Json> values_of(const std::string& key, const Json& entry, const std::vector<std::string>& knobs, const Json& declared) {
  std::vector<Json> values;
  const bool inline_values = std::ranges::all_of(knobs, [&](const std::string& knob) { return entry.contains(knob); });
  if (inline_values) {
    for (const std::string& knob : knobs) values.push_back(entry.at(knob));
    return values;
  }
  const std::vector<std::string_view> words = words_of(key, ",");
  if (words.size() != knobs.size())
    throw std::invalid_argument(fmt::format("cache entry \"{}\" has {} values for {} knobs", key, words.size(), knobs.size()));
  for (std::size_t i = 0; i < knobs.size(); ++i) {
    const Json& choices = declared.at(knobs[i]);
    const auto chosen = std::ranges::find_if(choices, [&](const Json& choice) { return python_text(choice) == words[i]; });
    if (chosen == choices.end())
      throw std::invalid_argument(fmt::format("cache entry \"{}\": {} is not among the tune_params of {}", key, words[i], knobs[i]));
    values.push_back(*chosen);
  }
  return values;
}

}  // namespace

std::string mended_json(const std::string& text) {
  std::string out;
  std::string open;  // brackets to be closed
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      out += c;
      if (c == '\\' && i + 1 < text.size()) out += text[++i];
      in_string = c != '"';
      continue;
    }
    const auto word = [&](std::string_view name) { return text.compare(i, name.size(), name) == 0; };
    if (word("NaN") || word("Infinity") || word("-Infinity")) {
      out += "null";
      i += word("NaN") ? 2 : word("Infinity") ? 7 : 8;
      continue;
    }
    if (c == '{' || c == '[') open += c == '{' ? '}' : ']';
    if ((c == '}' || c == ']') && !open.empty()) open.pop_back();
    in_string = c == '"';
    out += c;
  }
  // Kernel Tuner ends every entry with a comma while it runs. Half an entry is no entry, and is left for the parser to refuse.
  if (!open.empty() && !in_string) {
    const std::size_t last = out.find_last_not_of(" \t\r\n");
    if (last != std::string::npos && out[last] == ',') out.resize(last);
    out.append(open.rbegin(), open.rend());
  }
  return out;
}

bool is_kernel_tuner(const Json& document) {
  return document.is_object() && document.contains("cache") && document.contains("tune_params_keys");
}

RecordedSpace kernel_tuner_space(const Json& document) {
  const auto knobs = document.at("tune_params_keys").get<std::vector<std::string>>();
  const Json declared = document.value("tune_params", Json::object());
  TrialTable table(knobs);
  for (const auto& [knob, values] : declared.items())
    if (std::ranges::find(knobs, knob) != knobs.end()) table.declare(knob, values);
  for (const auto& [key, entry] : document.at("cache").items()) {
    if (!entry.contains("time")) throw std::invalid_argument(fmt::format("cache entry \"{}\" has no time", key));
    RecordedTrial trial{outcome_of(entry.at("time")), 0, cost_of(entry)};
    if (trial.outcome == Outcome::ok) trial.time_ms = entry.at("time").get<double>();
    table.add(values_of(key, entry, knobs, declared), trial);
  }
  return table.space(fmt::format("{} on {}", document.value("kernel_name", "kernel"), document.value("device_name", "an unnamed device")));
}

}  // namespace phitune
