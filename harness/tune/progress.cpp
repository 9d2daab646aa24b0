#include "harness/tune/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace phitune {
namespace {
using Clock = std::chrono::steady_clock;
constexpr auto bar_interval = std::chrono::milliseconds(100);
constexpr auto line_interval = std::chrono::seconds(5);
constexpr std::size_t bar_width = 28;
constexpr std::size_t usual_columns = 80;

// Asked anew for every line, since windows are resized.
std::size_t terminal_columns(std::FILE* out) {
  winsize size{};
  return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : usual_columns;
}
}  // namespace

std::string human_seconds(double seconds) {
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} m {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} m", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(Style style, std::FILE* out, std::size_t columns) : style_(style), out_(out), columns_(columns) {
  if (style_ == Style::automatic) style_ = isatty(fileno(out)) ? Style::bar : Style::lines;
}

Progress::~Progress() {
  if (style_ == Style::bar && !title_.empty()) std::fputc('\n', out_);
}

double Progress::elapsed_s() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }

void Progress::begin(const std::string& title, std::size_t total) {
  title_ = title;
  detail_.clear();
  total_ = total;
  done_ = 0;
  started_ = Clock::now();
  drawn_ = started_ - std::chrono::hours(1);
  draw(true);
}

void Progress::advance(const std::string& detail, std::size_t by) {
  done_ += by;
  detail_ = detail;
  draw(false);
}

void Progress::set_total(std::size_t total) { total_ = total; }

void Progress::draw(bool force) {
  if (style_ == Style::silent) return;
  const auto now = Clock::now();
  const bool bar = style_ == Style::bar;
  if (!force && now - drawn_ < (bar ? Clock::duration(bar_interval) : Clock::duration(line_interval))) return;
  drawn_ = now;
  if (bar) {
    const std::size_t filled = total_ ? std::min(bar_width, bar_width * done_ / total_) : 0;
    std::string line = fmt::format("{} [{:#<{}}{:.<{}}] {}  {}", title_, "", filled, "", bar_width - filled, counts(), detail_);
    const std::size_t columns = columns_ > 0 ? columns_ : terminal_columns(out_);
    if (line.size() >= columns) line.resize(columns - 1);
    fmt::print(out_, "\r\033[K{}", line);
  } else {
    fmt::print(out_, "{}: {}{}{}\n", title_, counts(), detail_.empty() ? "" : "  ", detail_);
  }
  std::fflush(out_);
}

std::string Progress::counts() const {
  const double seconds = elapsed_s();
  const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  std::string text = fmt::format("{}/{}", done_, total_);
  if (rate > 0) text += fmt::format(" {:.1f}/s", rate);
  if (rate > 0 && total_ > done_) text += " ETA " + human_seconds(static_cast<double>(total_ - done_) / rate);
  return text;
}

void Progress::note(const std::string& line) {
  if (style_ == Style::silent) return;
  fmt::print(out_, "{}{}\n", style_ == Style::bar ? "\r\033[K" : "", line);
  std::fflush(out_);
}

void Progress::end(const std::string& summary) {
  note(fmt::format("{}: {} ({})", title_, summary, human_seconds(elapsed_s())));
  title_.clear();
}

}  // namespace phitune
