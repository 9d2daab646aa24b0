// Lessons from recordings and databases, and those that phitune brings along.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "harness/store/lessons.hpp"
#include "harness/store/store.hpp"

namespace phitune {

/// Gathers trials of any sweeps. Of one config of one stage problem on one model of GPU a single trial is kept: of a sweep that let the
/// device rest rather than of one that did not, then the latest, then the one added last. Where a stage problem was tried at random or
/// exhaustively, what other sweeps tried of it is left out: a sample of the promising looks average among its like, and teaches that they are.
/// So is what teaches nothing: library stages, what a recording did not know, times of another regime, CPU emulation.
class LessonCollector {
 public:
  explicit LessonCollector(Regime regime) : regime_(regime) {}

  void add(const SweepInfo& sweep, const Trial& trial);
  /// The stage problem that was tried last stands last.
  [[nodiscard]] Lessons lessons() const;

 private:
  using Age = std::pair<bool, std::string>;  // whether the device rested, and when; the greater one is kept
  struct Kept {
    Age age;
    Outcome outcome = Outcome::ok;
    double median_ms = 0;
  };
  struct Model {
    Age age;
    DeviceInfo info;
  };
  using Tried = std::map<Config, Kept>;
  struct OfStage {
    Tried blindly, by_promise;
  };
  Regime regime_;
  std::map<std::string, Model> models_;
  std::map<std::pair<std::string, StageProblem>, OfStage> stages_;  // by model
};

/// Without configs that are in no space of today's templates, and without stage problems on which nothing was right: they teach nothing.
[[nodiscard]] Lessons of_today(const Lessons& lessons);

/// Of what packed() wrote, or of a recording: of its trials those of that regime. Throws as read_recording does.
[[nodiscard]] Lessons read_lessons(const std::filesystem::path& path, Regime regime);

/// What phitune brings along (data/experience.jsonl.gz), read the first time that it is asked for. Thread-safe.
[[nodiscard]] std::shared_ptr<const Lessons> builtin_lessons();

/// Whether a sweep on this device begins with them unless told otherwise. Not where nothing is measured: a recording and a simulation would be
/// asked for what is known of them already, and emulation is no GPU.
[[nodiscard]] bool builtin_by_default(const DeviceInfo& device);

}  // namespace phitune
