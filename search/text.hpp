// What the parsers of search and harness share: words, whole numbers, the nearest name, a stable hash.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace phitune {

/// FNV-1a, 64 bit (Fowler, Noll, Vo): equal on every machine. Chain calls through `seed`.
constexpr std::uint64_t fnv1a_start = 0xcbf29ce484222325ULL;
[[nodiscard]] constexpr std::uint64_t fnv1a(std::string_view text, std::uint64_t seed = fnv1a_start) {
  for (const char c : text) {
    seed ^= static_cast<unsigned char>(c);
    seed *= 0x100000001b3ULL;
  }
  return seed;
}

/// The pieces of `text` between any of `separators`, empty ones left out. Views into `text`.
[[nodiscard]] std::vector<std::string_view> words_of(std::string_view text, std::string_view separators = " \t\r\n");

/// A decimal whole number with nothing before or after it ("-3" yes, "+3", "3 " and "3x" no); nothing when it does not fit.
[[nodiscard]] std::optional<std::int64_t> whole_number(std::string_view text);

/// The candidate with the fewest edits from `text`, or nothing when all are further than half its length (at least 2) away.
[[nodiscard]] std::optional<std::string> nearest_name(std::string_view text, std::span<const std::string_view> candidates);

/// "a, b or c".
[[nodiscard]] std::string list_names(std::span<const std::string_view> names);

}  // namespace phitune
