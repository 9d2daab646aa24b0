#include "harness/tune/distill.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "harness/store/json_lines.hpp"
#include "harness/store/recording.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {

// The bytes of data/experience.jsonl.gz; generated (cmake/EmbedFile.cmake).
std::string_view experience_file();

namespace {

// Sweeps from before devices could rest do not say that they did not.
bool rested(const SweepInfo& sweep) {
  const nlohmann::json policy = nlohmann::json::parse(sweep.policy, nullptr, false);
  const auto rest = policy.is_object() ? policy.find("rest") : policy.end();
  return policy.is_object() && rest != policy.end() && rest->is_number() && rest->get<double>() > 0;
}

// Not by what was expected of configs.
bool chose_blindly(const SweepInfo& sweep) { return sweep.strategy == "random" || sweep.strategy == "exhaustive"; }

// Two partitions of one GPU are two models.
std::string model_of(const DeviceInfo& device) {
  return fmt::format("{} {} {} {}", device.name, device.architecture, device.multiprocessors, device.shared_per_block);
}

// Its header says which sweep it is of; experience is of many.
bool is_recording(const std::string& path, const std::string& bytes) {
  const JsonLinesKind kind = {.what = "recording or experience", .mend = "Fetch the file again, or make it anew"};
  const nlohmann::json header = parse_json_lines(path, bytes, kind, [](JsonLines& lines) { return lines.next(); });
  return header.is_object() && header.contains("sweep");
}

}  // namespace

void LessonCollector::add(const SweepInfo& sweep, const Trial& trial) {
  const Result& result = trial.result;
  const bool unknown = result.outcome == Outcome::pruned && trial.source_hash.empty();
  const bool other_regime = result.timing && result.timing->regime != regime_;
  const bool untimed = result.outcome == Outcome::ok && !result.timing;
  if (trial.problem.path == Path::library || sweep.device.emulated || unknown || other_regime || untimed) return;
  const Age age = {rested(sweep), trial.created_at};
  const std::string name = model_of(sweep.device);
  Model& model = models_[name];
  if (age >= model.age) model = {age, sweep.device};
  OfStage& stage = stages_[{name, trial.problem}];
  Kept& kept = (chose_blindly(sweep) ? stage.blindly : stage.by_promise)[trial.config];
  if (age >= kept.age) kept = {age, result.outcome, result.outcome == Outcome::ok ? result.timing->median_ms : 0};
}

Lessons LessonCollector::lessons() const {
  Lessons lessons;
  lessons.regime = regime_;
  std::map<std::string, std::size_t> numbers;
  for (const auto& [name, model] : models_) {
    numbers[name] = lessons.devices.size();
    lessons.devices.push_back(model.info);
  }
  std::vector<std::pair<std::string, StageLessons>> dated;
  for (const auto& [key, tried] : stages_) {
    auto& [date, stage] = dated.emplace_back("", StageLessons{numbers[key.first], key.second, {}});
    for (const auto& [config, kept] : tried.blindly.empty() ? tried.by_promise : tried.blindly) {
      date = std::max(date, kept.age.second);
      stage.lessons.push_back({config, kept.outcome, kept.median_ms});
    }
  }
  std::ranges::stable_sort(dated, {}, [](const auto& stage) { return stage.first; });
  for (auto& [date, stage] : dated) lessons.stages.push_back(std::move(stage));
  return lessons;
}

Lessons of_today(const Lessons& lessons) {
  Lessons today = lessons;
  for (StageLessons& stage : today.stages) {
    const Space space = stage_template(stage.stage.stage, stage.stage.path).space(stage.stage, today.devices[stage.device]);
    for (Lesson& lesson : stage.lessons) lesson.config = space.completed(std::move(lesson.config));
    std::erase_if(stage.lessons, [&](const Lesson& lesson) { return !space.find(lesson.config); });
  }
  std::erase_if(today.stages, [](const StageLessons& stage) {
    return std::ranges::none_of(stage.lessons, [](const Lesson& lesson) { return lesson.outcome == Outcome::ok; });
  });
  return today;
}

Lessons read_lessons(const std::filesystem::path& path, Regime regime) {
  const std::string bytes = read_bytes(path, "recording or experience");
  Lessons lessons;
  if (is_recording(path.string(), bytes)) {
    const Recording recording = read_recording(path);
    LessonCollector collector(regime);
    for (const Trial& trial : recording.trials) collector.add(recording.sweep, trial);
    lessons = collector.lessons();
  } else {
    lessons = unpack_lessons(path.string(), bytes);
  }
  lessons.name = lessons_name(path.filename().string(), bytes);
  return lessons;
}

std::shared_ptr<const Lessons> builtin_lessons() {
  static const std::shared_ptr<const Lessons> builtin = [] {
    const std::string bytes(experience_file());
    auto lessons = std::make_shared<Lessons>(unpack_lessons("the built-in experience", bytes));
    lessons->name = lessons_name("builtin", bytes);
    return lessons;
  }();
  return builtin;
}

bool builtin_by_default(const DeviceInfo& device) { return !device.replayed && !device.emulated; }

}  // namespace phitune
