#include "harness/spaces/trial_table.hpp"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

namespace phitune {
namespace {

using Json = nlohmann::ordered_json;

// 4 and 4.0 are the same value in Python's eyes, which wrote most of these files.
Json plain(const Json& value) {
  if (!value.is_number_float()) return value;
  const auto number = value.get<double>();
  const bool whole = number == static_cast<double>(static_cast<std::int64_t>(number)) && std::abs(number) < 1e15;
  return whole ? Json(static_cast<std::int64_t>(number)) : value;
}

bool is_ordered(const Json& value) { return value.is_number() || value.is_boolean(); }

double as_number(const Json& value) { return value.is_boolean() ? static_cast<double>(value.get<bool>()) : value.get<double>(); }

// The knob, and the value that stands for each JSON text.
std::pair<Knob, std::map<std::string, std::int64_t>> make_knob(const std::string& name, const std::map<std::string, Json>& found) {
  std::vector<std::pair<std::string, Json>> values(found.begin(), found.end());
  const bool ordered = std::ranges::all_of(values, [](const auto& v) { return is_ordered(v.second); });
  const bool whole = std::ranges::all_of(values, [](const auto& v) { return v.second.is_number_integer(); });
  if (ordered) std::ranges::stable_sort(values, {}, [](const auto& v) { return as_number(v.second); });
  Knob knob{.name = name, .values = {}, .meaning = "", .categorical = !ordered};
  std::map<std::string, std::int64_t> meaning;
  for (const auto& [text, value] : values) {
    const std::int64_t stands_for = whole ? value.get<std::int64_t>() : static_cast<std::int64_t>(knob.values.size());
    knob.values.push_back(stands_for);
    if (!whole) knob.labels.push_back(value.is_string() ? value.get<std::string>() : text);
    meaning[text] = stands_for;
  }
  return {std::move(knob), std::move(meaning)};
}

}  // namespace

TrialTable::TrialTable(std::vector<std::string> knobs) : names_(std::move(knobs)), values_(names_.size()) {}

void TrialTable::declare(const std::string& knob, const Json& values) {
  const auto at = std::ranges::find(names_, knob);
  if (at == names_.end()) throw std::invalid_argument(fmt::format("values are given for '{}', which is not among the knobs", knob));
  for (const Json& value : values) {
    const Json same = plain(value);
    values_[static_cast<std::size_t>(at - names_.begin())].emplace(same.dump(), same);
  }
}

void TrialTable::add(const std::vector<Json>& values, const RecordedTrial& trial) {
  if (values.size() != names_.size())
    throw std::invalid_argument(fmt::format("a trial has {} values for {} knobs", values.size(), names_.size()));
  Row row{{}, trial};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Json value = plain(values[i]);
    if (!value.is_primitive() || value.is_null())
      throw std::invalid_argument(
          fmt::format("knob '{}' has the value {}, which is no number, word or truth value", names_[i], value.dump()));
    row.values.push_back(value.dump());
    values_[i].emplace(row.values.back(), value);
  }
  rows_.push_back(std::move(row));
}

RecordedSpace TrialTable::space(std::string name) const {
  std::vector<Knob> knobs;
  std::vector<std::map<std::string, std::int64_t>> meanings;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    auto [knob, meaning] = make_knob(names_[i], values_[i]);
    knobs.push_back(std::move(knob));
    meanings.push_back(std::move(meaning));
  }
  std::vector<Config> configs;
  for (const Row& row : rows_) {
    Config config;
    for (std::size_t i = 0; i < names_.size(); ++i) config.set(names_[i], meanings[i].at(row.values[i]));
    configs.push_back(std::move(config));
  }
  RecordedSpace recorded{std::move(name), Space::listed(std::move(knobs), configs), {}};
  recorded.trials.resize(recorded.space.size());
  for (std::size_t i = 0; i < rows_.size(); ++i) recorded.trials[recorded.space.find(configs[i]).value()] = rows_[i].trial;
  recorded.has_costs = std::ranges::any_of(recorded.trials, [](const RecordedTrial& trial) { return trial.cost_ms > 0; });
  if (!recorded.has_costs)
    for (RecordedTrial& trial : recorded.trials) trial.cost_ms = 1000;
  return recorded;
}

}  // namespace phitune
