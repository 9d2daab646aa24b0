// One assignment of all knobs of a template.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phitune {

/// Knob name -> integer value, kept sorted by name so that equal configs have equal text and equal hash on every machine.
/// Enumerated knobs store the index of their label (see Knob::labels).
class Config {
 public:
  Config() = default;
  Config(std::initializer_list<std::pair<std::string, std::int64_t>> values);

  /// Throws std::out_of_range naming the knob when it is not set.
  [[nodiscard]] std::int64_t at(std::string_view knob) const;
  [[nodiscard]] bool has(std::string_view knob) const;
  void set(std::string_view knob, std::int64_t value);
  /// The place of a knob that is set, for writing many values; valid until another knob is set. Throws as at() does.
  [[nodiscard]] std::int64_t& place(std::string_view knob);

  [[nodiscard]] const std::vector<std::pair<std::string, std::int64_t>>& values() const { return values_; }

  /// "m_tiles=2 stages=3 warps=8"; empty for a config without knobs.
  [[nodiscard]] std::string text() const;
  /// Reads what text() writes. Throws std::invalid_argument naming the word that is wrong.
  static Config parse(std::string_view text);

  /// FNV-1a over text(): stable across machines, compilers and runs.
  [[nodiscard]] std::uint64_t hash() const;

  bool operator==(const Config&) const = default;
  auto operator<=>(const Config&) const = default;

 private:
  std::vector<std::pair<std::string, std::int64_t>> values_;
};

}  // namespace phitune
