// One reader per format. They throw nlohmann::json::exception or std::invalid_argument, which say what is wrong. Internal to this folder.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/store/recording.hpp"
#include "search/recorded_space.hpp"

namespace phitune {

/// Kernel Tuner's cache as JSON that parses: the closing braces of an interrupted run added, Python's NaN and Infinity turned into null.
[[nodiscard]] std::string mended_json(const std::string& text);

[[nodiscard]] bool is_kernel_tuner(const nlohmann::ordered_json& document);
[[nodiscard]] RecordedSpace kernel_tuner_space(const nlohmann::ordered_json& document);

[[nodiscard]] bool is_t4(const nlohmann::ordered_json& document);
[[nodiscard]] std::vector<RecordedSpace> t4_spaces(const nlohmann::ordered_json& document, const std::string& name);

[[nodiscard]] std::vector<RecordedSpace> recorded_spaces(const Recording& recording);

}  // namespace phitune
