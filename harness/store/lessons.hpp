// What trials came to, without what is needed to doubt them: enough for a search to begin with. docs/formats.md has the file.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "search/trial.hpp"

namespace phitune {

struct Lesson {
  Config config;
  Outcome outcome = Outcome::ok;
  double median_ms = 0;  // of what is ok; 0 otherwise
  bool operator==(const Lesson&) const = default;
};

/// Of one stage problem on one device.
struct StageLessons {
  std::size_t device = 0;  // which of the Lessons' devices
  StageProblem stage;
  std::vector<Lesson> lessons;
};

struct Lessons {
  std::string name;  // by which a sweep says what it knew (lessons_name())
  Regime regime;     // of all times
  std::vector<DeviceInfo> devices;  // without what tells boards and drivers apart
  std::vector<StageLessons> stages;  // what counts for more stands later

  [[nodiscard]] std::size_t size() const;
};

/// The file's bytes; times have 4 significant digits. Equal lessons give equal bytes.
[[nodiscard]] std::string packed(const Lessons& lessons);

/// `path` is where the bytes are from, for messages. Throws Error(bad_input) that names the line when they are not what packed() makes, are
/// cut short or of another version.
[[nodiscard]] Lessons unpack_lessons(const std::string& path, const std::string& bytes);

/// What lessons from a file of these bytes are called: "h200.jsonl.gz 1f2e3d4c5b6a".
[[nodiscard]] std::string lessons_name(const std::string& file, const std::string& bytes);

}  // namespace phitune
