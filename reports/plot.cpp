#include "reports/plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "reports/svg.hpp"

namespace phitune {
namespace {

constexpr double kWidth = 395, kHeight = 270;
constexpr double kLeft = 62, kRight = 290, kTop = 14, kBottom = 218;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

std::vector<double> ticks(const Range& range, double base) {
  return base > 0 ? ticks_of_powers(range.low, range.high, base) : ticks_from_zero(range.high);
}

Scale scale(const std::vector<double>& ticks, const Range& range, double base, double from, double to) {
  // A thinned list of powers may end inside the range, so the range itself decides then.
  if (base > 0) return {Scale::Kind::log, std::min(ticks.front(), range.low), std::max(ticks.back(), range.high), from, to};
  return {Scale::Kind::linear, 0, ticks.back(), from, to};
}

std::string tick_text(double value, double base) {
  if (base == 10) return fmt::format("{:.0e}", value);
  if (value >= 1024 && std::fmod(value, 1024) == 0) return fmt::format("{:g}k", value / 1024);
  return fmt::format("{:g}", value);
}

/// Names at the right end of lines, moved down where they would overlap.
class EndLabels {
 public:
  void add(double y, std::string name, std::string style) { labels_.push_back({y, std::move(name), std::move(style)}); }
  void draw(Svg& svg) {
    std::sort(labels_.begin(), labels_.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
    double free = kTop;
    for (const Label& label : labels_) {
      const double y = std::max(label.y, free);
      svg.rect(kRight + 8, y - 4, 8, 8, label.style).text(kRight + 20, y + 4, label.name, "small");
      free = y + 16;
    }
  }

 private:
  struct Label {
    double y;
    std::string name, style;
  };
  std::vector<Label> labels_;
};

void draw_axes(Svg& svg, const Plot& plot, const std::vector<double>& xs, const std::vector<double>& ys, const Scale& x, const Scale& y) {
  for (const double tick : ys) {
    svg.line(kLeft, y(tick), kRight, y(tick), "grid");
    svg.text(kLeft - 6, y(tick) + 4, tick_text(tick, plot.y_base), "small", Anchor::end);
  }
  for (const double tick : xs) {
    svg.line(x(tick), kBottom, x(tick), kBottom + 4, "axis");
    svg.text(x(tick), kBottom + 17, tick_text(tick, plot.x_base), "small", Anchor::middle);
  }
  svg.line(kLeft, kBottom, kRight, kBottom, "axis");
  svg.text((kLeft + kRight) / 2, kBottom + 38, plot.x_label, "small", Anchor::middle);
  svg.vertical_text(13, (kTop + kBottom) / 2, plot.y_label, "small");
}

void draw_series(Svg& svg, const Series& series, const Scale& x, const Scale& y) {
  std::vector<std::pair<double, double>> line;
  for (const PlotPoint& p : series.points) line.emplace_back(x(p.x), y(p.y));
  if (series.connected && line.size() > 1) svg.polyline(line, series.style + " line");
  for (std::size_t i = 0; i < line.size(); ++i)
    svg.circle(line[i].first, line[i].second, 4, series.style + (series.points[i].hollow ? " hollow" : ""), series.points[i].tooltip);
}

}  // namespace

std::string draw(const Plot& plot) {
  Range xs, ys;
  for (const Series& series : plot.series)
    for (const PlotPoint& p : series.points) xs.take(p.x), ys.take(p.y);
  if (xs.low > xs.high) return {};
  for (const Level& level : plot.levels) ys.take(level.y);

  const auto x_ticks = ticks(xs, plot.x_base);
  const auto y_ticks = ticks(ys, plot.y_base);
  const Scale x = scale(x_ticks, xs, plot.x_base, kLeft, kRight);
  const Scale y = scale(y_ticks, ys, plot.y_base, kBottom, kTop);
  Svg svg(kWidth, kHeight, plot.description);
  draw_axes(svg, plot, x_ticks, y_ticks, x, y);
  EndLabels labels;
  for (const Level& level : plot.levels) {
    svg.line(kLeft, y(level.y), kRight, y(level.y), level.style + " level");
    labels.add(y(level.y), level.name, level.style);
  }
  for (const Series& series : plot.series) {
    draw_series(svg, series, x, y);
    if (!series.points.empty()) labels.add(y(series.points.back().y), series.name, series.style);
  }
  labels.draw(svg);
  return svg.str();
}

}  // namespace phitune
