#include "harness/store/lessons.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <set>
#include <sstream>
#include <stdexcept>

#include "harness/compile/sha256.hpp"
#include "harness/store/json_lines.hpp"
#include "harness/store/trial_json.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

using nlohmann::json;
using Json = nlohmann::ordered_json;

constexpr const char* format_name = "phitune experience";
constexpr int format_version = 1;
constexpr std::size_t digits_of_hash = 12;

// What device_json writes but for what a board or a driver is: times of another one of the model teach the same.
constexpr const char* of_a_board[] = {"uuid", "driver", "runtime", "replayed", "emulated"};

Json model_json(const DeviceInfo& device) {
  Json model = device_json(device);
  for (const char* field : of_a_board) model.erase(field);
  return model;
}

DeviceInfo model_from(json from) {
  from.update({{"uuid", ""}, {"driver", ""}, {"runtime", ""}, {"replayed", false}, {"emulated", false}});
  DeviceInfo device = device_from(from);
  // What how blocks fill it is computed from.
  const bool sound = device.multiprocessors > 0 && device.shared_per_block > 0 && device.shared_per_multiprocessor > 0 &&
                     device.registers_per_multiprocessor > 0 && device.copy_tbps >= 0 && std::isfinite(device.copy_tbps);
  if (!sound) throw std::invalid_argument(fmt::format("the device '{}' is no GPU that there can be", device.name));
  return device;
}

// More digits than a second measurement would confirm are noise that does not compress.
double rounded(double ms) {
  const std::string text = fmt::format("{:.3e}", ms);
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::vector<std::string> knobs_of(const Config& config) {
  std::vector<std::string> knobs;
  for (const auto& [knob, value] : config.values()) knobs.push_back(knob);
  return knobs;
}

// A line for each set of knobs: a template that got another one has more than one.
void write_stage(const StageLessons& stage, Gzip& pack, std::ostream& to) {
  for (std::size_t first = 0; first < stage.lessons.size();) {
    const std::vector<std::string> knobs = knobs_of(stage.lessons[first].config);
    Json trials = Json::array();
    for (; first < stage.lessons.size() && knobs_of(stage.lessons[first].config) == knobs; ++first) {
      const Lesson& lesson = stage.lessons[first];
      Json trial = Json::array();
      for (const auto& [knob, value] : lesson.config.values()) trial.push_back(value);
      if (lesson.outcome == Outcome::ok)
        trial.push_back(rounded(lesson.median_ms));
      else
        trial.push_back(to_string(lesson.outcome));
      trials.push_back(std::move(trial));
    }
    Json line;
    line["device"] = stage.device;
    line["stage_problem"] = stage.stage.key();
    line["knobs"] = knobs;
    line["trials"] = std::move(trials);
    pack.write(line.dump() + "\n", to);
  }
}

Lesson lesson_from(const json& trial, const std::vector<std::string>& knobs) {
  if (!trial.is_array() || trial.size() != knobs.size() + 1)
    throw std::invalid_argument("a trial is not the values of the knobs and what came of them");
  Lesson lesson;
  for (std::size_t i = 0; i < knobs.size(); ++i) lesson.config.set(knobs[i], trial[i].get<std::int64_t>());
  const json& end = trial.back();
  if (end.is_number()) {
    lesson.median_ms = end.get<double>();
    if (!(lesson.median_ms > 0) || !std::isfinite(lesson.median_ms)) throw std::invalid_argument("a time is not above 0");
  } else {
    lesson.outcome = parse_outcome(end.get<std::string>());
    if (lesson.outcome == Outcome::ok) throw std::invalid_argument("a trial that was right has no time");
  }
  return lesson;
}

StageLessons stage_from(const json& line, std::size_t devices) {
  StageLessons stage;
  stage.device = line.at("device").get<std::size_t>();
  if (stage.device >= devices) throw std::invalid_argument(fmt::format("there is no device {}", stage.device));
  stage.stage = StageProblem::parse(line.at("stage_problem").get<std::string>());
  // They throw where nothing is tuned, and where the state cannot be tiled so.
  (void)stage_template(stage.stage.stage, stage.stage.path);
  (void)stage.stage.rows();
  const auto knobs = line.at("knobs").get<std::vector<std::string>>();
  if (std::set(knobs.begin(), knobs.end()).size() != knobs.size()) throw std::invalid_argument("a knob is named twice");
  for (const json& trial : line.at("trials")) stage.lessons.push_back(lesson_from(trial, knobs));
  return stage;
}

Lessons lessons_from(JsonLines& lines) {
  const json header = lines.next();
  if (!header.is_object() || header.value("format", std::string()) != format_name)
    throw std::invalid_argument(fmt::format("the first line is not the header of a {}", format_name));
  if (const int version = header.at("version").get<int>(); version != format_version)
    throw std::invalid_argument(fmt::format("version {} of the format; this phitune reads version {}", version, format_version));
  Lessons lessons;
  lessons.regime = parse_regime(header.at("regime").get<std::string>());
  for (const json& device : header.at("devices")) lessons.devices.push_back(model_from(device));
  const auto trials = header.at("trials").get<std::size_t>();
  while (!lines.done()) lessons.stages.push_back(stage_from(lines.next(), lessons.devices.size()));
  if (const std::size_t found = lessons.size(); found != trials)
    throw std::invalid_argument(fmt::format("it holds {} trials, and its header says {}", found, trials));
  return lessons;
}

}  // namespace

std::size_t Lessons::size() const {
  std::size_t size = 0;
  for (const StageLessons& stage : stages) size += stage.lessons.size();
  return size;
}

std::string packed(const Lessons& lessons) {
  std::ostringstream to;
  Gzip pack;
  Json header;
  header["format"] = format_name;
  header["version"] = format_version;
  header["regime"] = to_string(lessons.regime);
  header["devices"] = Json::array();
  for (const DeviceInfo& device : lessons.devices) header["devices"].push_back(model_json(device));
  header["trials"] = lessons.size();
  pack.write(header.dump() + "\n", to);
  for (const StageLessons& stage : lessons.stages) write_stage(stage, pack, to);
  pack.write("", to, true);
  return to.str();
}

std::string lessons_name(const std::string& file, const std::string& bytes) {
  return fmt::format("{} {}", file, sha256_hex(bytes).substr(0, digits_of_hash));
}

Lessons unpack_lessons(const std::string& path, const std::string& bytes) {
  const JsonLinesKind kind = {.what = "experience", .mend = "Fetch the file again, or make it anew with phitune db distill"};
  return parse_json_lines(path, bytes, kind, lessons_from);
}

}  // namespace phitune
