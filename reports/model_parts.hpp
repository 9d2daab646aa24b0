// The parts of the report model that are computed on their own. Internal to reports.
#pragma once

#include <vector>

#include "reports/model.hpp"
#include "search/compose.hpp"

namespace phitune {

[[nodiscard]] Floor floor_of(const Problem& problem, const DeviceInfo& device);
[[nodiscard]] std::vector<FusionView> fusion_views(const std::vector<PlanView>& plans, const Composed& composed, const PlanShapes& shapes);
[[nodiscard]] std::vector<ChunkView> chunk_views(const std::vector<PlanView>& plans, const Composed& composed);
[[nodiscard]] std::vector<FailureView> failure_views(const std::vector<Trial>& trials);
[[nodiscard]] std::vector<AxisView> axis_views(const std::vector<ProblemView>& problems);

}  // namespace phitune
