// The few shapes that the pictures need, as inline SVG. Coordinates are in user units; colours come from the page's style by class.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phitune {

/// Text for HTML and SVG, between tags and in quoted attributes.
[[nodiscard]] std::string escape_html(std::string_view text);

enum class Anchor { start, middle, end };

/// One picture. Not thread-safe.
class Svg {
 public:
  /// `description` is read out where the picture is not seen.
  Svg(double width, double height, std::string_view description);

  Svg& rect(double x, double y, double width, double height, std::string_view style, std::string_view tooltip = {});
  Svg& line(double x1, double y1, double x2, double y2, std::string_view style);
  Svg& polyline(const std::vector<std::pair<double, double>>& points, std::string_view style);
  Svg& circle(double x, double y, double radius, std::string_view style, std::string_view tooltip = {});
  Svg& text(double x, double y, std::string_view words, std::string_view style, Anchor anchor = Anchor::start);
  Svg& vertical_text(double x, double y, std::string_view words, std::string_view style);

  /// For a page with the style of html_style.
  [[nodiscard]] std::string str() const { return body_ + "</svg>\n"; }
  /// The picture as a file of its own, with that style.
  [[nodiscard]] std::string file() const;

 private:
  void close(std::string_view element, std::string_view tooltip);
  std::string body_;
};

/// Maps values to positions, linearly or by logarithm. A range of no width maps to its middle.
class Scale {
 public:
  enum class Kind { linear, log };
  Scale(Kind kind, double low, double high, double from, double to);
  [[nodiscard]] double operator()(double value) const;

 private:
  Kind kind_;
  double low_, high_, from_, to_;
};

/// Round values from 0 to at least `high`: about `count` steps of 1, 2 or 5 times a power of ten.
[[nodiscard]] std::vector<double> ticks_from_zero(double high, int count = 5);
/// The powers of `base` (10, or 2) that enclose low ... high, at most `most` of them, evenly thinned. Requires 0 < low <= high.
[[nodiscard]] std::vector<double> ticks_of_powers(double low, double high, double base, std::size_t most = 8);

}  // namespace phitune
