#include "search/config.hpp"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "search/text.hpp"

namespace phitune {
namespace {

using Entry = std::pair<std::string, std::int64_t>;

auto position(std::vector<Entry>& values, std::string_view knob) {
  return std::ranges::lower_bound(values, knob, {}, [](const Entry& entry) { return std::string_view(entry.first); });
}

const Entry* find_entry(const std::vector<Entry>& values, std::string_view knob) {
  const auto it = std::ranges::lower_bound(values, knob, {}, [](const Entry& entry) { return std::string_view(entry.first); });
  return it != values.end() && it->first == knob ? &*it : nullptr;
}

}  // namespace

Config::Config(std::initializer_list<std::pair<std::string, std::int64_t>> values) {
  for (const auto& [knob, value] : values) set(knob, value);
}

std::int64_t Config::at(std::string_view knob) const {
  if (const Entry* entry = find_entry(values_, knob)) return entry->second;
  throw std::out_of_range(fmt::format("knob '{}' is not set in config '{}'", knob, text()));
}

std::int64_t& Config::place(std::string_view knob) {
  (void)at(knob);
  return position(values_, knob)->second;
}

bool Config::has(std::string_view knob) const { return find_entry(values_, knob) != nullptr; }

void Config::set(std::string_view knob, std::int64_t value) {
  const auto it = position(values_, knob);
  if (it != values_.end() && it->first == knob) {
    it->second = value;
  } else {
    values_.emplace(it, knob, value);
  }
}

std::string Config::text() const {
  std::string out;
  for (const auto& [knob, value] : values_) fmt::format_to(std::back_inserter(out), "{}{}={}", out.empty() ? "" : " ", knob, value);
  return out;
}

Config Config::parse(std::string_view text) {
  Config config;
  for (const std::string_view word : words_of(text)) {
    const std::size_t equals = word.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      throw std::invalid_argument(fmt::format("'{}' in a config is not knob=number", word));
    }
    const auto value = whole_number(word.substr(equals + 1));
    if (!value) throw std::invalid_argument(fmt::format("'{}' in a config: '{}' is not a whole number", word, word.substr(equals + 1)));
    const std::string_view knob = word.substr(0, equals);
    if (config.has(knob)) throw std::invalid_argument(fmt::format("'{}' sets knob '{}' a second time", word, knob));
    config.set(knob, *value);
  }
  return config;
}

std::uint64_t Config::hash() const { return fnv1a(text()); }

}  // namespace phitune
