#include "reports/charts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "reports/plot.hpp"
#include "reports/svg.hpp"
#include "reports/text.hpp"

namespace phitune::charts {
namespace {

namespace rt = report_text;

constexpr double kNames = 170;   // room for row names at the left
constexpr double kBars = 400;    // width of the bars
constexpr double kLabels = 190;  // room for figures at the right
constexpr double kRow = 26;
constexpr double kBar = 15;
constexpr double kTextDrop = 4.5;  // from a row's middle to its text's baseline
constexpr std::size_t kNameLength = 25;

std::string short_text(const std::string& name) { return name.size() <= kNameLength ? name : rt::first_line(name, kNameLength - 3); }

std::string colour(Stage stage) { return fmt::format("c{}", static_cast<int>(stage)); }
std::string colour(Fusion fusion) { return fmt::format("c{}", static_cast<int>(fusion)); }

double sum_of(const std::vector<StageView>& stages) {
  double sum = 0;
  for (const StageView& stage : stages) sum += stage.ms;
  return sum;
}

/// Names of the stages drawn, each beside its colour, in as many lines as they need. Returns the y below it.
double stage_legend(Svg& svg, const std::set<Stage>& present) {
  double x = kNames;
  double y = 14;
  for (const Stage stage : present) {
    const double width = 28 + 7.0 * static_cast<double>(to_string(stage).size());
    if (x + width > kNames + kBars + kLabels) x = kNames, y += 20;
    svg.rect(x, y - 9, 11, 11, colour(stage)).text(x + 16, y, to_string(stage), "small");
    x += width;
  }
  return y + 12;
}

void stage_bar(Svg& svg, const ProblemView& view, double y) {
  const double sum = sum_of(view.stages);
  double x = kNames;
  svg.text(kNames - 8, y + kRow / 2 + kTextDrop, short_text(view.name), "name", Anchor::end);
  for (const StageView& stage : view.stages) {
    const double width = kBars * stage.ms / sum;
    const std::string share = rt::percent(stage.ms / sum);
    svg.rect(x, y + (kRow - kBar) / 2, width - 1, kBar, colour(stage.problem.stage),
             fmt::format("{}: {}, {}", to_string(stage.problem.stage), rt::ms(stage.ms), share));
    if (width > 40) svg.text(x + width / 2, y + kRow / 2 + 4, share, "inside", Anchor::middle);
    x += width;
  }
  svg.text(kNames + kBars + 8, y + kRow / 2 + kTextDrop, rt::ms(sum), "figure");
}

std::string chunk_name(const PlanShape& shape) { return shape.chunk == 0 ? std::string(to_string(shape.fusion)) : shape.text(); }

}  // namespace

std::string over_floor(const DeviceView& device) {
  std::vector<const ProblemView*> rows;
  double most = 1;
  for (const ProblemView& view : device.problems)
    if (view.over_floor > 0) rows.push_back(&view), most = std::max(most, view.over_floor);
  if (rows.empty()) return {};
  const auto ticks = ticks_from_zero(most);
  const double bottom = 22 + kRow * static_cast<double>(rows.size());
  const Scale x(Scale::Kind::linear, 0, ticks.back(), kNames, kNames + kBars);
  Svg svg(kNames + kBars + kLabels, bottom + 38, "time over floor of every winner");
  for (const double tick : ticks) {
    svg.line(x(tick), 18, x(tick), bottom, "grid");
    svg.text(x(tick), bottom + 15, fmt::format("{:g}x", tick), "small", Anchor::middle);
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const ProblemView& view = *rows[i];
    const double y = 22 + kRow * static_cast<double>(i);
    svg.text(kNames - 8, y + kRow / 2 + kTextDrop, short_text(view.name), "name", Anchor::end);
    svg.rect(
        x(0), y + (kRow - kBar) / 2, x(view.over_floor) - x(0), kBar, view.over_floor > rt::far_from_floor ? "far" : "near",
        fmt::format("{}: {}, floor {} set by {}", view.name, rt::ms(view.winner_ms), rt::ms(view.floor.ms), rt::bound(view.floor.bound)));
    svg.text(kNames + kBars + 8, y + kRow / 2 + kTextDrop,
             fmt::format("{}  ({} / {})", rt::times(view.over_floor), rt::number(view.winner_ms, 4), rt::ms(view.floor.ms)), "figure");
  }
  svg.line(x(1), 14, x(1), bottom, "mark").text(x(1), 11, "floor", "small", Anchor::middle);
  svg.text(kNames + kBars / 2, bottom + 32, fmt::format("time over floor ({}; orange: beyond {:g}x)", device.origin(), rt::far_from_floor),
           "small", Anchor::middle);
  return svg.str();
}

std::string stages(const DeviceView& device) {
  std::vector<const ProblemView*> rows;
  std::set<Stage> present;
  for (const ProblemView& view : device.problems) {
    if (sum_of(view.stages) <= 0) continue;
    rows.push_back(&view);
    for (const StageView& stage : view.stages) present.insert(stage.problem.stage);
  }
  if (rows.empty()) return {};
  Svg svg(kNames + kBars + kLabels, 66 + kRow * static_cast<double>(rows.size()), "share of each stage in the winners' time");
  const double top = stage_legend(svg, present);
  for (std::size_t i = 0; i < rows.size(); ++i) stage_bar(svg, *rows[i], top + kRow * static_cast<double>(i));
  svg.text(kNames + kBars / 2, top + kRow * static_cast<double>(rows.size()) + 16,
           fmt::format("share of the stages' times, each timed alone ({})", device.origin()), "small", Anchor::middle);
  return svg.str();
}

std::string fusions(const ProblemView& view, const DeviceView& device) {
  double most = 0;
  for (const FusionView& f : view.fusions) most = std::max(most, f.end_to_end_ms.value_or(f.composed_ms.value_or(0)));
  if (!(most > 0)) return {};
  constexpr double names = 100, bars = 170, width = 395;
  const double bottom = 14 + 34 * static_cast<double>(view.fusions.size());
  const auto ticks = ticks_from_zero(most, 4);
  const Scale x(Scale::Kind::linear, 0, ticks.back(), names, names + bars);
  Svg svg(width, bottom + 36, "best time of each fusion strategy for " + view.name);
  for (const double tick : ticks) {
    svg.line(x(tick), 10, x(tick), bottom, "grid");
    svg.text(x(tick), bottom + 15, fmt::format("{:g}", tick), "small", Anchor::middle);
  }
  for (std::size_t i = 0; i < view.fusions.size(); ++i) {
    const FusionView& f = view.fusions[i];
    const double y = 14 + 34 * static_cast<double>(i);
    svg.text(names - 8, y + 16, to_string(f.fusion), "name", Anchor::end);
    if (!f.end_to_end_ms && !f.composed_ms) {
      svg.text(names + 4, y + 16, rt::first_line(f.why_none, 46), "small");
      continue;
    }
    const double time = f.end_to_end_ms.value_or(f.composed_ms.value_or(0));
    const std::string style = colour(f.fusion) + (f.end_to_end_ms ? "" : " hollow");
    svg.rect(x(0), y + 3, x(time) - x(0), 18, style, chunk_name(f.shape));
    svg.text(x(time) + 6, y + 16, rt::ms(time) + (f.end_to_end_ms ? "" : " (estimate)"), "figure");
  }
  svg.text(names + bars / 2, bottom + 31, fmt::format("ms end to end ({})", device.origin()), "small", Anchor::middle);
  return svg.str();
}

std::string chunks(const ProblemView& view, const DeviceView& device) {
  Plot plot;
  plot.description = "time by chunk size for " + view.name;
  plot.x_label = "chunk, tokens";
  plot.y_label = fmt::format("ms ({}; hollow: estimate)", device.origin());
  plot.x_base = 2;
  std::set<std::int64_t> sizes;
  double most = 0;
  for (const ChunkView& c : view.chunks)
    if (c.chunk > 0) most = std::max(most, c.end_to_end_ms.value_or(c.composed_ms.value_or(0)));
  for (const ChunkView& c : view.chunks) {
    const double time = c.end_to_end_ms.value_or(c.composed_ms.value_or(0));
    if (!(time > 0)) continue;
    const std::string name(to_string(c.fusion));
    if (c.chunk == 0) {
      // A quadratic time far above would flatten the curves; the picture of the strategies shows it.
      if (time < 2 * most) plot.levels.push_back({name, colour(c.fusion), time});
      continue;
    }
    sizes.insert(c.chunk);
    if (plot.series.empty() || plot.series.back().name != name) plot.series.push_back({name, colour(c.fusion), true, {}});
    plot.series.back().points.push_back(
        {static_cast<double>(c.chunk), time, !c.end_to_end_ms, fmt::format("{} at chunk {}: {}", name, c.chunk, rt::ms(time))});
  }
  return sizes.size() < 2 ? std::string() : draw(plot);
}

std::string errors(const ProblemView& view, const DeviceView& device) {
  Plot plot;
  plot.description = "error against time for " + view.name;
  plot.x_label = fmt::format("ms end to end ({})", device.origin());
  plot.y_label = "relative L2 error";
  plot.y_base = 10;
  double tolerance = 0;
  for (const PlanView& plan : view.plans) {
    const auto time = time_of(plan.trial.result);
    const auto& e = plan.trial.result.errors;
    if (!time || !e || !(e->relative_l2 > 0)) continue;
    tolerance = e->tolerance;
    const std::string name = plan.winner ? "winner" : std::string(to_string(plan.trial.plan.shape.fusion));
    const std::string style = plan.winner ? "won" : colour(plan.trial.plan.shape.fusion);
    auto at = std::find_if(plot.series.begin(), plot.series.end(), [&](const Series& s) { return s.name == name; });
    if (at == plot.series.end()) at = plot.series.insert(plot.series.end(), {name, style, false, {}});
    at->points.push_back({*time, e->relative_l2, false,
                          fmt::format("{}: {}, error {}", plan.trial.plan.shape.text(), rt::ms(*time), rt::error(e->relative_l2))});
  }
  if (plot.series.empty()) return {};
  if (tolerance > 0) plot.levels.push_back({"tolerance", "limit", tolerance});
  return draw(plot);
}

std::string peers(const Peers& all, const std::string& family) {
  Plot plot;
  plot.description = "throughput by context of phitune and its peers for " + family;
  plot.x_label = "t, tokens";
  plot.y_label = "10\u2079 token-heads/s (measured)";
  plot.x_base = 2;
  plot.y_base = 10;
  std::vector<const PeerResult*> results;
  for (const PeerResult& result : all.results)
    if (result.family == family) results.push_back(&result);
  std::ranges::stable_sort(results, {}, &PeerResult::t);
  std::set<std::int64_t> contexts;
  for (const PeerResult* result : results) {
    contexts.insert(result->t);
    auto at = std::ranges::find(plot.series, result->peer, &Series::name);
    if (at == plot.series.end()) {
      // phitune has the colour of winners, the others follow in the order they were timed.
      const std::string style = result->kind == PeerKind::phitune ? "c0" : fmt::format("c{}", 1 + plot.series.size() % 9);
      at = plot.series.insert(plot.series.end(), {result->peer, style, true, {}});
    }
    at->points.push_back({static_cast<double>(result->t), result->token_heads_per_s * 1e-9, false,
                          fmt::format("{} at t {}: {}", result->peer, result->t, rt::ms(result->median_ms))});
  }
  return contexts.size() < 2 ? std::string() : draw(plot);
}

std::string axis(const AxisView& view, const DeviceView& device) {
  Plot plot;
  plot.description = fmt::format("throughput by {} for {}", view.axis, view.fixed);
  plot.x_label = view.axis;
  plot.y_label = fmt::format("10\u2079 token-heads/s ({})", device.origin());
  const bool wide = view.points.back().value > 8 * view.points.front().value || view.axis == "t" || view.axis == "d";
  plot.x_base = wide ? 2 : 0;
  Series reached{"winner", "c0", true, {}};
  Series possible{"at the floor", "limit", true, {}};
  for (const AxisPoint& p : view.points) {
    const double rate = p.token_heads_per_s * 1e-9;
    const auto x = static_cast<double>(p.value);
    reached.points.push_back({x, rate, false, fmt::format("{} {}: {}", view.axis, p.value, rt::ms(p.ms))});
    if (p.floor_ms > 0)
      possible.points.push_back(
          {x, rate * p.ms / p.floor_ms, false, fmt::format("{} {}: floor {}", view.axis, p.value, rt::ms(p.floor_ms))});
  }
  plot.series.push_back(std::move(reached));
  if (!possible.points.empty()) plot.series.push_back(std::move(possible));
  return draw(plot);
}

}  // namespace phitune::charts
