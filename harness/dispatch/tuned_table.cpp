#include "harness/dispatch/tuned_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>

#include "search/names.hpp"

namespace phitune {
namespace {

constexpr Names<Why, 3> why_names{"reason of a selection",
                                  {{{Why::exact, "exact"}, {Why::nearest, "nearest"}, {Why::builtin, "built-in"}}}};

// The problem with everything that may differ inside a family set to one value.
Problem family_key(const Problem& problem) noexcept {
  Problem key = problem;
  key.b = 1;
  key.t = 1;
  key.hq = problem.hk > 0 ? problem.hq / problem.hk : 0;
  key.hk = 1;
  key.initial_state = false;
  key.final_state = false;
  return key;
}

double heads(const Problem& problem) noexcept { return static_cast<double>(problem.b) * static_cast<double>(problem.hq); }

double median_ms(const TunedPlan& plan) { return plan.result.timing ? plan.result.timing->median_ms : 0; }

// Greater is better.
auto standing(const TunedPlan& plan) {
  return std::tuple(plan.same_device, !plan.stale, !plan.device.replayed, plan.set_at, -median_ms(plan), plan.plan.text());
}

bool same_states(const Problem& a, const Problem& b) noexcept {
  return a.initial_state == b.initial_state && a.final_state == b.final_state;
}

}  // namespace

std::string_view to_string(Why why) { return why_names.text(why); }

std::size_t ProblemHash::operator()(const Problem& problem) const noexcept {
  const std::uint64_t small = static_cast<std::uint64_t>(problem.pass) | static_cast<std::uint64_t>(problem.dtype) << 8 |
                              static_cast<std::uint64_t>(problem.normalisation) << 16 | static_cast<std::uint64_t>(problem.layout) << 24 |
                              static_cast<std::uint64_t>(problem.gated) << 32 | static_cast<std::uint64_t>(problem.initial_state) << 33 |
                              static_cast<std::uint64_t>(problem.final_state) << 34 | static_cast<std::uint64_t>(problem.p) << 40;
  std::uint64_t hash = 0x9e3779b97f4a7c15ULL;
  for (const std::uint64_t word :
       {static_cast<std::uint64_t>(problem.b), static_cast<std::uint64_t>(problem.t), static_cast<std::uint64_t>(problem.hq),
        static_cast<std::uint64_t>(problem.hk), static_cast<std::uint64_t>(problem.d), static_cast<std::uint64_t>(problem.e), small}) {
    hash = std::rotl(hash ^ word, 23) * 0xff51afd7ed558ccdULL;
  }
  return static_cast<std::size_t>(hash ^ (hash >> 32));
}

TunedTable::TunedTable(std::vector<TunedPlan> plans, NearestGuard guard)
    : guard_(guard),
      log2_t_factor_(std::log2(guard.t_factor)),
      log2_heads_factor_(std::log2(guard.heads_factor)),
      log2_quadratic_t_factor_(std::log2(guard.quadratic_t_factor)) {
  std::sort(plans.begin(), plans.end(), [](const TunedPlan& a, const TunedPlan& b) {
    return a.plan.problem != b.plan.problem ? a.plan.problem < b.plan.problem : standing(a) > standing(b);
  });
  for (TunedPlan& plan : plans) {
    if (plans_.empty() || plans_.back().plan.problem != plan.plan.problem) plans_.push_back(std::move(plan));
  }
  for (const TunedPlan& plan : plans_) {
    const Problem& problem = plan.plan.problem;
    exact_.emplace(problem, &plan);
    families_[family_key(problem)].push_back({std::log2(static_cast<double>(problem.t)), std::log2(heads(problem)), &plan});
  }
}

const std::vector<TunedTable::Member>* TunedTable::family_of(const Problem& problem) const noexcept {
  const auto family = families_.find(family_key(problem));
  return family == families_.end() ? nullptr : &family->second;
}

double TunedTable::distance(const Problem& problem, double log2_t, double log2_heads, const Member& member) const noexcept {
  constexpr double refused = -1;
  const PlanShape& shape = member.plan->plan.shape;
  const double t_ratio = log2_t - member.log2_t;
  const double heads_ratio = log2_heads - member.log2_heads;
  if (std::abs(t_ratio) > log2_t_factor_ || std::abs(heads_ratio) > log2_heads_factor_) return refused;
  if (shape.fusion == Fusion::quadratic) {
    if (problem.initial_state || problem.final_state || t_ratio > log2_quadratic_t_factor_) return refused;
  } else if (static_cast<std::uint64_t>(shape.chunk) > std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(problem.t, 64)))) {
    // A chunk that holds all of t and more is only padding.
    return refused;
  }
  const bool doubtful = member.plan->stale || !member.plan->same_device;
  return std::abs(t_ratio) + std::abs(heads_ratio) + (same_states(problem, member.plan->plan.problem) ? 0 : 0.5) + (doubtful ? 1 : 0);
}

TunedTable::Found TunedTable::find(const Problem& problem) const noexcept {
  if (const auto found = exact_.find(problem); found != exact_.end()) {
    return {found->second->same_device ? Why::exact : Why::nearest, found->second};
  }
  const auto* family = family_of(problem);
  if (family == nullptr || problem.t < 1 || heads(problem) < 1) return {};
  const double log2_t = std::log2(static_cast<double>(problem.t));
  const double log2_heads = std::log2(heads(problem));
  Found best;
  double least = 0;
  for (const Member& member : *family) {
    const double here = distance(problem, log2_t, log2_heads, member);
    if (here < 0 || (best.plan != nullptr && here >= least)) continue;
    best = {Why::nearest, member.plan};
    least = here;
  }
  return best;
}

std::string TunedTable::why_none(const Problem& problem) const {
  const auto* family = family_of(problem);
  if (plans_.empty()) return "nothing is tuned for this device";
  if (family == nullptr) {
    return fmt::format("nothing is tuned for d {}, e {}, p {}, {}, {}, normalisation {}, {}, {} query heads per kv head", problem.d,
                       problem.e, problem.p, to_string(problem.dtype), problem.gated ? "gated" : "ungated",
                       to_string(problem.normalisation), to_string(problem.layout), problem.hk > 0 ? problem.hq / problem.hk : 0);
  }
  return fmt::format(
      "its {} tuned relatives are too far: within a factor of {} in t and {} in b * hq ({} in t above a quadratic one, which gives and "
      "takes no state), with a chunk no longer than t",
      family->size(), guard_.t_factor, guard_.heads_factor, guard_.quadratic_t_factor);
}

}  // namespace phitune
