// The pictures of the report, each a function from the model to inline SVG. An empty string means that there is nothing to draw.
#pragma once

#include <string>

#include "reports/model.hpp"

namespace phitune::charts {

/// Time over floor of every winner, the floor as a line at 1.
[[nodiscard]] std::string over_floor(const DeviceView& device);

/// How each winner's stage time divides into stages.
[[nodiscard]] std::string stages(const DeviceView& device);

/// Best of each fusion strategy; estimates are hollow.
[[nodiscard]] std::string fusions(const ProblemView& view, const DeviceView& device);

/// Time by chunk size, one line per strategy.
[[nodiscard]] std::string chunks(const ProblemView& view, const DeviceView& device);

/// Error against time of every plan run end to end, with the tolerance.
[[nodiscard]] std::string errors(const ProblemView& view, const DeviceView& device);

/// Throughput by context of everything that was timed on the problems of a family; empty with fewer than two contexts.
[[nodiscard]] std::string peers(const Peers& peers, const std::string& family);

/// Throughput along an axis.
[[nodiscard]] std::string axis(const AxisView& view, const DeviceView& device);

}  // namespace phitune::charts
