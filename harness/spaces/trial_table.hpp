// Trials as rows of named JSON values, and the recorded space that they make. Internal to this folder.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "search/recorded_space.hpp"

namespace phitune {

/// Collects trials whose knobs have values of any JSON kind. Whole numbers become a knob's values as they are; numbers with a fraction,
/// truth values and words become indices with labels. Numbers are in rising order and ordered; words are categorical.
class TrialTable {
 public:
  /// Knobs in their order. Values that no row has need not be given, and those given are kept.
  explicit TrialTable(std::vector<std::string> knobs);
  void declare(const std::string& knob, const nlohmann::ordered_json& values);

  /// `values` in the order of the knobs. A config that is there already is replaced: the later trial counts.
  void add(const std::vector<nlohmann::ordered_json>& values, const RecordedTrial& trial);

  [[nodiscard]] RecordedSpace space(std::string name) const;

 private:
  struct Row {
    std::vector<std::string> values;  // as JSON text, which is what makes them equal
    RecordedTrial trial;
  };

  std::vector<std::string> names_;
  std::vector<std::map<std::string, nlohmann::ordered_json>> values_;  // per knob
  std::vector<Row> rows_;
};

}  // namespace phitune
