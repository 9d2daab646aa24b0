#include "reports/model_parts.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "reports/text.hpp"

namespace phitune {
namespace {

constexpr std::array kFusions = {Fusion::quadratic, Fusion::materialized, Fusion::expand_mma, Fusion::attend_query, Fusion::update_scan, Fusion::two_kernels};
// A rate that no device has: with it, the other side of the floor is what remains.
constexpr double kUnlimited = 1e12;

void keep_least(std::optional<double>& best, double value) {
  if (!best || value < *best) best = value;
}

/// Words of a problem's short name, by the field they state.
std::vector<std::pair<std::string, std::string>> words_of(const Problem& p) {
  std::vector<std::pair<std::string, std::string>> words;
  words.emplace_back("b", fmt::format("b{}", p.b));
  words.emplace_back("t", fmt::format("t{}", p.t));
  if (p.hq == p.hk)
    words.emplace_back("h", fmt::format("h{}", p.hq));
  else
    words.emplace_back("h", fmt::format("hq{} hk{}", p.hq, p.hk));
  words.emplace_back("d", fmt::format("d{}", p.d));
  if (p.e != p.d) words.emplace_back("e", fmt::format("e{}", p.e));
  words.emplace_back("p", fmt::format("p{}", p.p));
  words.emplace_back("dtype", to_string(p.dtype));
  words.emplace_back("gated", p.gated ? "gated" : "ungated");
  if (p.normalisation != Problem{}.normalisation) words.emplace_back("normalisation", "norm-" + std::string(to_string(p.normalisation)));
  if (p.layout != Problem{}.layout) words.emplace_back("layout", to_string(p.layout));
  if (p.initial_state) words.emplace_back("initial_state", "initial");
  if (p.final_state) words.emplace_back("final_state", "final");
  return words;
}

std::string words_without(const Problem& problem, const std::string& axis) {
  std::string text;
  for (const auto& [field, word] : words_of(problem))
    if (field != axis) text += (text.empty() ? "" : " ") + word;
  return text;
}

/// A field of a problem that reports draw an axis over.
struct Axis {
  const char* name;
  std::int64_t Problem::*field;
};
constexpr std::array<Axis, 5> kAxes = {
    {{"t", &Problem::t}, {"p", &Problem::p}, {"d", &Problem::d}, {"b", &Problem::b}, {"h", &Problem::hq}}};

/// The problem with the axis taken out: equal for problems that differ in the axis alone.
Problem without_axis(Problem problem, const Axis& axis) {
  if (axis.field == &Problem::d && problem.e == problem.d) problem.e = 0;
  if (axis.field == &Problem::hq && problem.hk == problem.hq) problem.hk = 0;
  problem.*axis.field = 0;
  return problem;
}

AxisPoint point_of(const ProblemView& view, const Axis& axis) {
  const double token_heads = static_cast<double>(view.problem.b * view.problem.t * view.problem.hq);
  return {view.problem.*axis.field, view.winner_ms, view.floor.ms, token_heads / view.winner_ms * 1e3};
}

/// A reason with its figures taken out, so that the same failure at different sizes counts as one.
std::string kind_of(const std::string& reason) {
  std::string kind;
  for (const char c : reason) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit)
      kind.push_back(c);
    else if (kind.empty() || kind.back() != '#')
      kind.push_back('#');
  }
  return kind;
}

std::string why_none(Fusion fusion, const Composed& composed, const PlanShapes& shapes) {
  for (const auto* list : {&composed.impossible, &shapes.pruned})
    for (const auto& pruned : *list)
      if (pruned.shape.fusion == fusion) return pruned.reason;
  return "no plan of this strategy was tried";
}

}  // namespace

std::string short_name(const Problem& problem) { return words_without(problem, ""); }

Floor floor_of(const Problem& problem, const DeviceInfo& device) {
  Floor floor;
  if (device.matrix_tflops <= 0 || device.copy_tbps <= 0) return floor;
  floor.ms = floor_ms(problem, device.matrix_tflops, device.copy_tbps);
  floor.matrix_ms = floor_ms(problem, device.matrix_tflops, kUnlimited);
  floor.memory_ms = floor_ms(problem, kUnlimited, device.copy_tbps);
  floor.bound = floor.matrix_ms >= floor.memory_ms ? Bound::matrix : Bound::memory;
  return floor;
}

std::vector<FusionView> fusion_views(const std::vector<PlanView>& plans, const Composed& composed, const PlanShapes& shapes) {
  std::vector<FusionView> views;
  for (const Fusion fusion : kFusions) {
    FusionView view;
    view.fusion = fusion;
    // Both lists are sorted by time, so the first of each is the best.
    for (const PlanView& plan : plans) {
      const auto time = time_of(plan.trial.result);
      if (!time || plan.trial.plan.shape.fusion != fusion) continue;
      view.end_to_end_ms = time;
      view.shape = plan.trial.plan.shape;
      break;
    }
    for (const Composition& c : composed.ranked) {
      if (c.plan.shape.fusion != fusion) continue;
      view.composed_ms = c.sum_ms;
      if (!view.end_to_end_ms) view.shape = c.plan.shape;
      break;
    }
    if (!view.end_to_end_ms && !view.composed_ms) view.why_none = why_none(fusion, composed, shapes);
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<ChunkView> chunk_views(const std::vector<PlanView>& plans, const Composed& composed) {
  std::map<std::pair<Fusion, std::int64_t>, ChunkView> by_chunk;
  const auto view_of = [&](const PlanShape& shape) -> ChunkView& {
    ChunkView& view = by_chunk[{shape.fusion, shape.chunk}];
    view.fusion = shape.fusion;
    view.chunk = shape.chunk;
    return view;
  };
  for (const PlanView& plan : plans)
    if (const auto time = time_of(plan.trial.result)) keep_least(view_of(plan.trial.plan.shape).end_to_end_ms, *time);
  for (const Composition& c : composed.ranked) keep_least(view_of(c.plan.shape).composed_ms, c.sum_ms);
  std::vector<ChunkView> views;
  for (const auto& [key, view] : by_chunk) views.push_back(view);
  return views;
}

std::vector<FailureView> failure_views(const std::vector<Trial>& trials) {
  std::map<std::tuple<Stage, Outcome, std::string>, FailureView> kinds;
  for (const Trial& trial : trials) {
    if (trial.result.outcome == Outcome::ok) continue;
    const std::string line = report_text::first_line(trial.result.reason);
    auto [at, added] = kinds.try_emplace({trial.problem.stage, trial.result.outcome, kind_of(line)});
    if (added) at->second = {trial.problem.stage, trial.result.outcome, line, trial.config.text(), 0};
    ++at->second.count;
  }
  std::vector<FailureView> views;
  for (const auto& [key, view] : kinds) views.push_back(view);
  std::stable_sort(views.begin(), views.end(), [](const auto& a, const auto& b) { return a.count > b.count; });
  return views;
}

std::vector<AxisView> axis_views(const std::vector<ProblemView>& problems) {
  std::vector<AxisView> views;
  for (const Axis& axis : kAxes) {
    std::map<Problem, AxisView> groups;
    for (const ProblemView& view : problems) {
      if (view.winner_ms <= 0) continue;
      AxisView& group = groups[without_axis(view.problem, axis)];
      group.axis = axis.name;
      group.fixed = words_without(view.problem, axis.name);
      group.points.push_back(point_of(view, axis));
    }
    for (auto& [fixed, group] : groups) {
      if (group.points.size() < 2) continue;
      std::sort(group.points.begin(), group.points.end(), [](const auto& a, const auto& b) { return a.value < b.value; });
      views.push_back(std::move(group));
    }
  }
  return views;
}

}  // namespace phitune
