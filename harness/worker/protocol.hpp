// What a sweep and its worker say to each other: docs/worker.md. Internal.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "harness/device/device.hpp"
#include "harness/worker/wire.hpp"

namespace phitune::worker {

/// Both sides are the same binary; the number guards against a binary that was replaced while a sweep ran.
inline constexpr int kVersion = 3;

/// The descriptor of its end of the connection in a worker process.
inline constexpr int kDescriptor = 3;

// Requests. A worker answers them one at a time.
struct Hello {
  int version = kVersion;
  std::string device;  // for open_device
  Use use = Use::measure;
};
struct RunStage {
  ExecutableStage stage;
  MeasurePolicy policy;
};
struct RunPlans {
  Problem problem;
  std::vector<std::vector<ExecutableStage>> plans;
  MeasurePolicy policy;
};

[[nodiscard]] nlohmann::json to_json(const Hello& hello);
[[nodiscard]] Message stage_request(const ExecutableStage& stage, const MeasurePolicy& policy);
[[nodiscard]] Message plans_request(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                    const MeasurePolicy& policy);

// Their inverses; which one it is stands in "ask". They throw nlohmann::json::exception,
// std::invalid_argument or Broken.
[[nodiscard]] Hello hello_from(const nlohmann::json& message);
[[nodiscard]] RunStage stage_request_from(const Message& message);
[[nodiscard]] RunPlans plans_request_from(const Message& message);

/// The answer to anything but Hello. `last`: the worker ends after it, because a candidate left the device in doubt.
struct Answer {
  std::vector<Result> results;
  bool last = false;
};
[[nodiscard]] nlohmann::json to_json(const Answer& answer);
[[nodiscard]] Answer answer_from(const nlohmann::json& message);

/// What a worker says instead of an answer when it cannot go on for a reason that is no candidate's fault (Error); it ends after it.
[[nodiscard]] nlohmann::json refusal(int exit_code, const std::string& reason);

}  // namespace phitune::worker
