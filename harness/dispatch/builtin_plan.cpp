#include "harness/dispatch/builtin_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <tuple>

#include "harness/error.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

constexpr std::int64_t usual_chunk = 1024;
constexpr std::int64_t usual_tile = 8;

// Steps between a config's values and the middle of each knob's list, summed.
std::int64_t steps_from_middle(const Space& space, const Config& config) {
  std::int64_t steps = 0;
  for (const Knob& knob : space.knobs()) {
    const auto place = std::find(knob.values.begin(), knob.values.end(), config.at(knob.name));
    steps += std::abs(2 * (place - knob.values.begin()) - static_cast<std::int64_t>(knob.values.size() - 1));
  }
  return steps;
}

// Hopper's own instructions where the device has them. Their states are bf16, which is what tuned plans use; elsewhere fp32 is the careful
// choice.
Path preferred_path(const DeviceInfo& device) { return device.compute_capability / 10 == 9 ? Path::sm90 : Path::sm80; }

// Smaller is tried first.
auto order_of(const Problem& problem, const PlanShape& shape, bool quadratic_pays) {
  const bool quadratic = shape.fusion == Fusion::quadratic;
  const std::int64_t chunk_off = shape.chunk > usual_chunk ? shape.chunk : usual_chunk - shape.chunk;
  const int narrow = (shape.state != Dtype::fp32 ? 1 : 0) + (shape.partial != Dtype::fp32 ? 1 : 0);
  // (Degree 3 has wide rows in tiles of 4.)
  const std::int64_t tile = shape.path == Path::sm90 && problem.p == 3 ? 4 : usual_tile;
  const bool unfused = shape.path == Path::sm90 && !quadratic && shape.fusion != Fusion::two_kernels;
  return std::tuple(quadratic != quadratic_pays, shape.path != Path::sm90, shape.fusion == Fusion::materialized, unfused, narrow, chunk_off,
                    std::abs(shape.d_tile - std::min(tile, problem.d)), shape);
}

bool does_quadratic_pay(const Problem& problem) {
  const std::int64_t width = problem.d + problem.e;
  const std::int64_t state_form = usual_chunk * width + 4 * state_rows(problem.d, problem.p, 1) * problem.e;
  return problem.t * width <= state_form;
}

std::optional<Plan> plan_of(const Problem& problem, const PlanShape& shape, const DeviceInfo& device) {
  Plan plan{problem, shape, {}};
  for (const StageProblem& stage : stages_of(problem, shape)) {
    if (stage.path == Path::library) {
      plan.stages.push_back({stage, Config{}});
      continue;
    }
    const Space space = stage_template(stage.stage, stage.path).space(stage, device);
    if (space.empty()) return std::nullopt;
    plan.stages.push_back({stage, middle_config(space)});
  }
  return plan;
}

}  // namespace

Config middle_config(const Space& space) {
  std::size_t best = 0;
  std::int64_t least = -1;
  for (std::size_t i = 0; i < space.size(); ++i) {
    const std::int64_t steps = steps_from_middle(space, space.at(i));
    if (least >= 0 && steps >= least) continue;
    best = i;
    least = steps;
  }
  return space.at(best);
}

Plan builtin_plan(const Problem& problem, const DeviceInfo& device) {
  const auto refuse = [&](const std::string& reason) {
    return Error(ExitCode::bad_input, fmt::format("no plan computes {}: {}", problem.key(), reason));
  };
  if (const auto reason = problem.invalid()) throw refuse(*reason);
  PlanShapes shapes = plan_shapes(problem);
  std::erase_if(shapes.shapes, [path = preferred_path(device)](const PlanShape& shape) { return shape.path != Path::sm80 && shape.path != path; });
  const bool quadratic_pays = does_quadratic_pay(problem);
  std::sort(shapes.shapes.begin(), shapes.shapes.end(), [&](const PlanShape& a, const PlanShape& b) {
    return order_of(problem, a, quadratic_pays) < order_of(problem, b, quadratic_pays);
  });
  for (const PlanShape& shape : shapes.shapes) {
    if (const auto plan = plan_of(problem, shape, device)) return *plan;
  }
  if (shapes.shapes.empty() && !shapes.pruned.empty()) throw refuse(shapes.pruned.back().reason);
  throw refuse(fmt::format("no template has a config that fits {}", device.name));
}

}  // namespace phitune
