#include "reports/svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reports/html_style.hpp"

namespace phitune {
namespace {

constexpr const char* anchor_name(Anchor anchor) { return anchor == Anchor::start ? "start" : anchor == Anchor::middle ? "middle" : "end"; }

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // Control characters other than tab and line end are not allowed in a page.
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\t' || c == '\n') out.push_back(c);
    }
  }
  return out;
}

Svg::Svg(double width, double height, std::string_view description) {
  const std::string words = escape_html(description);
  body_ = fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" style=\"max-width:{:.0f}px\" role=\"img\" aria-label=\"{}\">\n", width, height,
                      width, words);
}

std::string Svg::file() const {
  const std::size_t end_of_tag = body_.find('>') + 1;
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\"{}\n<style>{}</style>\n<rect width=\"100%\" height=\"100%\" "
      "style=\"fill:var(--back)\"/>{}</svg>\n",
      body_.substr(4, end_of_tag - 4), html_style, body_.substr(end_of_tag));
}

void Svg::close(std::string_view element, std::string_view tooltip) {
  if (tooltip.empty())
    body_ += "/>\n";
  else
    body_ += fmt::format("><title>{}</title></{}>\n", escape_html(tooltip), element);
}

Svg& Svg::rect(double x, double y, double width, double height, std::string_view style, std::string_view tooltip) {
  body_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"{}\"", x, y, std::max(width, 0.0),
                       height, style);
  close("rect", tooltip);
  return *this;
}

Svg& Svg::line(double x1, double y1, double x2, double y2, std::string_view style) {
  body_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2, y2, style);
  return *this;
}

Svg& Svg::polyline(const std::vector<std::pair<double, double>>& points, std::string_view style) {
  body_ += fmt::format("<polyline class=\"{}\" points=\"", style);
  for (const auto& [x, y] : points) body_ += fmt::format("{:.1f},{:.1f} ", x, y);
  body_ += "\"/>\n";
  return *this;
}

Svg& Svg::circle(double x, double y, double radius, std::string_view style, std::string_view tooltip) {
  body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" class=\"{}\"", x, y, radius, style);
  close("circle", tooltip);
  return *this;
}

Svg& Svg::text(double x, double y, std::string_view words, std::string_view style, Anchor anchor) {
  body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, style, anchor_name(anchor),
                       escape_html(words));
  return *this;
}

Svg& Svg::vertical_text(double x, double y, std::string_view words, std::string_view style) {
  body_ += fmt::format("<text class=\"{}\" text-anchor=\"middle\" transform=\"translate({:.1f} {:.1f}) rotate(-90)\">{}</text>\n", style, x,
                       y, escape_html(words));
  return *this;
}

Scale::Scale(Kind kind, double low, double high, double from, double to) : kind_(kind), low_(low), high_(high), from_(from), to_(to) {
  if (kind_ == Kind::log) {
    low_ = std::log(low_);
    high_ = std::log(high_);
  }
}

double Scale::operator()(double value) const {
  const double v = kind_ == Kind::log ? std::log(value) : value;
  if (!(high_ > low_)) return (from_ + to_) / 2;
  return from_ + (to_ - from_) * (v - low_) / (high_ - low_);
}

std::vector<double> ticks_from_zero(double high, int count) {
  if (!(high > 0)) return {0, 1};
  const double rough = high / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0})
    if (factor * power >= rough * (1 - 1e-9)) step = factor * power;
  std::vector<double> ticks = {0};
  // By index, so that rounding does not add up.
  for (int i = 1; ticks.back() < high * (1 - 1e-9); ++i) ticks.push_back(i * step);
  return ticks;
}

std::vector<double> ticks_of_powers(double low, double high, double base, std::size_t most) {
  const int first = static_cast<int>(std::floor(std::log(low) / std::log(base) + 1e-9));
  const int last = static_cast<int>(std::ceil(std::log(high) / std::log(base) - 1e-9));
  const auto count = static_cast<std::size_t>(last - first + 1);
  const int step = static_cast<int>((count + most - 1) / most);
  std::vector<double> ticks;
  for (int exponent = first; exponent <= last; exponent += step) ticks.push_back(std::pow(base, exponent));
  return ticks;
}

}  // namespace phitune
