// A plan that needs no tuning: correct on any device that the templates run on, and not foolish.
#pragma once

#include "search/plan.hpp"
#include "search/space.hpp"
#include "search/trial.hpp"

namespace phitune {

/// The config nearest to the middle of every knob's values, the first of equals. Throws std::out_of_range for an empty space.
[[nodiscard]] Config middle_config(const Space& space);

/// quadratic while its matrix work, t (d + e) per token and head, is no more than that of the state form, c (d + e) + 4 D e;
/// above, the state form with chunks of at most 1024 and d_tile 8 where it divides d: on Hopper, for bf16, two_kernels (sm90); elsewhere
/// expand_mma with states and partial outputs in fp32.
/// Throws Error(bad_input) with the reason when no plan computes the problem.
[[nodiscard]] Plan builtin_plan(const Problem& problem, const DeviceInfo& device);

}  // namespace phitune
