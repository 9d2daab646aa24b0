// Lines and points over two axes: the form that several pictures share.
#pragma once

#include <string>
#include <vector>

namespace phitune {

struct PlotPoint {
  double x = 0, y = 0;
  bool hollow = false;  // an estimate
  std::string tooltip;
};

/// Points by x when `connected`.
struct Series {
  std::string name;
  std::string style;  // class of its colour
  bool connected = true;
  std::vector<PlotPoint> points;
};

/// A horizontal line across the plot.
struct Level {
  std::string name, style;
  double y = 0;
};

/// An axis base of 0 is linear from 0; 2 or 10 is logarithmic, and then all values must be positive.
struct Plot {
  std::string description, x_label, y_label;
  double x_base = 0, y_base = 0;
  std::vector<Series> series;
  std::vector<Level> levels;
};

/// Inline SVG; empty when the plot has no points.
[[nodiscard]] std::string draw(const Plot& plot);

}  // namespace phitune
