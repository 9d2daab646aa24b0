#include "harness/store/recording.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <tuple>

#include "harness/error.hpp"
#include "harness/store/gzip.hpp"
#include "harness/store/json_lines.hpp"
#include "harness/store/trial_json.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Json = nlohmann::ordered_json;

constexpr const char* format_name = "phitune recording";
constexpr int format_version = 1;

void sort(Recording& recording) {
  const auto name = [](const Trial& trial) { return std::tuple(trial.problem.key(), trial.config.text(), trial.source_hash); };
  std::ranges::sort(recording.trials, [&](const Trial& a, const Trial& b) { return name(a) < name(b); });
  const auto plan_name = [](const PlanTrial& trial) { return std::tuple(trial.plan.problem.key(), trial.plan.text(), trial.cubin_hashes); };
  std::ranges::sort(recording.plan_trials, [&](const PlanTrial& a, const PlanTrial& b) { return plan_name(a) < plan_name(b); });
}

Json header_of(const Recording& recording) {
  Json header;
  header["format"] = format_name;
  header["version"] = format_version;
  header["device"] = device_json(recording.sweep.device);
  header["sweep"] = sweep_json(recording.sweep);
  header["trials"] = recording.trials.size();
  header["plan_trials"] = recording.plan_trials.size();
  return header;
}

void write_lines(const Recording& recording, std::ostream& to) {
  Gzip pack;
  // A compiler log may hold bytes that are not UTF-8; they must not lose the sweep.
  const auto line = [](const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; };
  pack.write(line(header_of(recording)), to);
  for (const Trial& trial : recording.trials) pack.write(line({{"trial", trial_json(trial)}}), to);
  for (const PlanTrial& trial : recording.plan_trials) pack.write(line({{"plan_trial", plan_trial_json(trial)}}), to);
  pack.write("", to, true);
}

Recording read_lines(JsonLines& lines) {
  const json header = lines.next();
  if (!header.is_object() || header.value("format", std::string()) != format_name) {
    throw std::invalid_argument(fmt::format("the first line is not the header of a {}", format_name));
  }
  if (const int version = header.at("version").get<int>(); version != format_version) {
    throw std::invalid_argument(fmt::format("version {} of the format; this phitune reads version {}", version, format_version));
  }
  Recording recording;
  recording.sweep = sweep_from(header.at("sweep"));
  recording.sweep.device = device_from(header.at("device"));
  const auto trials = header.at("trials").get<std::size_t>();
  const auto plan_trials = header.at("plan_trials").get<std::size_t>();
  for (std::size_t i = 0; i < trials; ++i) recording.trials.push_back(trial_from(lines.next().at("trial")));
  for (std::size_t i = 0; i < plan_trials; ++i) recording.plan_trials.push_back(plan_trial_from(lines.next().at("plan_trial")));
  if (!lines.done()) throw std::invalid_argument("there are more lines than the header says");
  return recording;
}

}  // namespace

Recording recording_of(Store& store, std::int64_t sweep) {
  Recording recording;
  recording.sweep = store.sweep(sweep);
  recording.sweep.id = 0;
  recording.sweep.device_id = 0;
  store.for_each_trial({.sweep = sweep}, [&](const StoredTrial& row) { recording.trials.push_back(row.trial); });
  store.for_each_plan_trial({.sweep = sweep}, [&](const StoredPlanTrial& row) { recording.plan_trials.push_back(row.trial); });
  sort(recording);
  return recording;
}

void write_recording(const fs::path& path, const Recording& recording) {
  if (recording.sweep.device.emulated) {
    throw Error(ExitCode::usage,
                fmt::format("sweep {} ran by CPU emulation, and a recording stands for a GPU: record a sweep of one", recording.sweep.uid));
  }
  const fs::path partial = fmt::format("{}.{}.partial", path.string(), ::getpid());
  const auto fail = [&](const std::string& why) {
    std::error_code ignored;
    fs::remove(partial, ignored);
    throw Error(ExitCode::io, fmt::format("{}: cannot write the recording: {}; see that the folder exists, can be written and is not full",
                                          path.string(), why));
  };
  Recording sorted = recording;
  sort(sorted);
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  if (!out) fail(std::generic_category().message(errno));
  write_lines(sorted, out);
  out.close();
  if (!out) fail("the disk refused some of it");
  std::error_code error;
  fs::rename(partial, path, error);
  if (error) fail(error.message());
}

Recording read_recording(const fs::path& path) {
  return read_json_lines(path, {.what = "recording", .mend = "Fetch the file again, or record the sweep anew"}, read_lines);
}

}  // namespace phitune
