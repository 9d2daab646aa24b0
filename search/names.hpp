// One table per enumeration gives both directions of its text.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "search/text.hpp"

namespace phitune {

template <typename Enum, std::size_t N>
struct Names {
  std::string_view what;  // "dtype", for messages
  std::array<std::pair<Enum, std::string_view>, N> entries;

  [[nodiscard]] std::string_view text(Enum value) const {
    for (const auto& [entry, name] : entries) {
      if (entry == value) return name;
    }
    throw std::invalid_argument(fmt::format("no such {}: number {}", what, static_cast<int>(value)));
  }

  [[nodiscard]] std::optional<Enum> find(std::string_view text) const {
    for (const auto& [entry, name] : entries) {
      if (name == text) return entry;
    }
    return std::nullopt;
  }

  /// Throws std::invalid_argument that lists what is accepted, and the nearest of it.
  [[nodiscard]] Enum parse(std::string_view text) const {
    if (const auto value = find(text)) return *value;
    std::array<std::string_view, N> names;
    for (std::size_t i = 0; i < N; ++i) names[i] = entries[i].second;
    const auto nearest = nearest_name(text, names);
    throw std::invalid_argument(fmt::format("'{}' is not a {} ({}){}", text, what, list_names(names),
                                            nearest ? fmt::format(": did you mean '{}'?", *nearest) : ""));
  }
};

}  // namespace phitune
