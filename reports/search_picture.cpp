#include "reports/search_picture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reports/svg.hpp"

namespace phitune {
namespace {

constexpr double kPanelWidth = 470, kPanelHeight = 300, kLeft = 54, kRight = 450, kTop = 34, kBottom = 250, kLegend = 34;
// Curves run from what the first trials found to the optimum: by logarithm of the distance, so that the last percent is seen too.
constexpr double kFloor = 1e-3;

double distance(double time, double optimum) { return std::max(time / optimum - 1, kFloor); }

void draw_panel(Svg& svg, const SearchPanel& panel, double x0, double y0) {
  double worst = 10 * kFloor;
  for (const auto& curve : panel.curves)
    for (const double time : curve) worst = std::max(worst, distance(time, panel.optimum));
  const double top = std::pow(10, std::ceil(std::log10(worst)));
  const Scale x(Scale::Kind::linear, 0, 1, x0 + kLeft, x0 + kRight);
  const Scale y(Scale::Kind::log, kFloor, top, y0 + kBottom, y0 + kTop);
  svg.text(x0 + kLeft, y0 + 20, panel.title, "name");
  for (double tick = kFloor; tick <= top * 1.001; tick *= 10) {
    svg.line(x(0), y(tick), x(1), y(tick), "grid");
    svg.text(x(0) - 6, y(tick) + 4, fmt::format("{}{:g} %", tick > kFloor * 1.5 ? "" : "<", 100 * tick), "small", Anchor::end);
  }
  for (int percent = 0; percent <= 100; percent += 25)
    svg.text(x(percent / 100.0), y0 + kBottom + 16, fmt::format("{} %", percent), "small", Anchor::middle);
  svg.line(x(0), y0 + kBottom, x(1), y0 + kBottom, "axis");
  svg.text((x(0) + x(1)) / 2, y0 + kBottom + 34, "of the budget", "small", Anchor::middle);
  for (std::size_t s = 0; s < panel.curves.size(); ++s) {
    std::vector<std::pair<double, double>> line;
    const std::vector<double>& curve = panel.curves[s];
    for (std::size_t i = 0; i < curve.size(); ++i)
      line.emplace_back(x(static_cast<double>(i + 1) / static_cast<double>(curve.size())), y(distance(curve[i], panel.optimum)));
    svg.polyline(line, fmt::format("c{} line", s % 10));
  }
}

}  // namespace

std::string draw_search(const std::vector<std::string>& names, const std::vector<SearchPanel>& panels) {
  const std::size_t columns = std::clamp<std::size_t>(panels.size(), 1, 2);
  const std::size_t rows = (panels.size() + columns - 1) / columns;
  Svg svg(kPanelWidth * static_cast<double>(columns), kLegend + kPanelHeight * static_cast<double>(rows),
          "How far above the optimum the best config found so far was, by the share of the budget spent, for each search strategy");
  double at = kLeft;
  for (std::size_t s = 0; s < names.size(); ++s) {
    svg.rect(at, 14, 10, 10, fmt::format("c{}", s % 10)).text(at + 15, 23, names[s], "small");
    at += 32 + 6.5 * static_cast<double>(names[s].size());
  }
  for (std::size_t i = 0; i < panels.size(); ++i)
    draw_panel(svg, panels[i], kPanelWidth * static_cast<double>(i % columns), kLegend + kPanelHeight * static_cast<double>(i / columns));
  return svg.file();
}

}  // namespace phitune
