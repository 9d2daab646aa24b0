// Trials and sweeps as JSON, field by field as docs/database.md names them. Internal.
#pragma once

#include <nlohmann/json.hpp>

#include "harness/store/store.hpp"

namespace phitune {

[[nodiscard]] nlohmann::ordered_json sweep_json(const SweepInfo& sweep);
[[nodiscard]] nlohmann::ordered_json device_json(const DeviceInfo& device);
[[nodiscard]] nlohmann::ordered_json resources_json(const Resources& resources);
[[nodiscard]] nlohmann::ordered_json result_json(const Result& result);
[[nodiscard]] nlohmann::ordered_json trial_json(const Trial& trial);
[[nodiscard]] nlohmann::ordered_json plan_trial_json(const PlanTrial& trial);

// The inverse. They throw nlohmann::json::exception or std::invalid_argument, which name the field.
[[nodiscard]] SweepInfo sweep_from(const nlohmann::json& json);
[[nodiscard]] DeviceInfo device_from(const nlohmann::json& json);
[[nodiscard]] Resources resources_from(const nlohmann::json& json);
[[nodiscard]] Result result_from(const nlohmann::json& json);
[[nodiscard]] Trial trial_from(const nlohmann::json& json);
[[nodiscard]] PlanTrial plan_trial_from(const nlohmann::json& json);

}  // namespace phitune
