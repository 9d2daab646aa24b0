// What a person sees of long work: a bar with rate and ETA on a terminal, plain lines otherwise.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>

namespace phitune {

/// One piece of work at a time; not thread-safe. Everything goes to `out` (standard error by default), so that standard output stays data.
class Progress {
 public:
  enum class Style { automatic, bar, lines, silent };
  /// `columns`: where the bar's line is cut so that it does not wrap; 0: the width of the terminal.
  explicit Progress(Style style = Style::automatic, std::FILE* out = stderr, std::size_t columns = 0);
  ~Progress();

  void begin(const std::string& title, std::size_t total);
  /// `detail` is shown beside the bar: the best time so far, say. `by` steps are added to what is done.
  void advance(const std::string& detail, std::size_t by = 1);
  /// More work turned up, or less is left than was thought.
  void set_total(std::size_t total);
  void end(const std::string& summary);
  /// A line that stays, above the bar.
  void note(const std::string& line);

 private:
  void draw(bool force);
  [[nodiscard]] double elapsed_s() const;
  [[nodiscard]] std::string counts() const;  // "17/212 3.1/s ETA 1 m 04 s"

  Style style_;
  std::FILE* out_;
  std::string title_, detail_;
  std::size_t columns_;
  std::size_t total_ = 0, done_ = 0;
  std::chrono::steady_clock::time_point started_, drawn_;
};

/// "1 m 20 s", "350 ms": for people.
[[nodiscard]] std::string human_seconds(double seconds);

}  // namespace phitune
