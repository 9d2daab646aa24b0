// Knobs and rules that come up again and again.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "search/space.hpp"

namespace phitune {

/// low, low + step, ... up to high. Throws std::invalid_argument for a step below 1 and for high below low.
[[nodiscard]] Knob whole_numbers(std::string name, std::int64_t low, std::int64_t high, std::int64_t step = 1, std::string meaning = "");
/// low, 2 low, 4 low ... up to high. Throws std::invalid_argument for low below 1 and for high below low.
[[nodiscard]] Knob powers_of_two(std::string name, std::int64_t low, std::int64_t high, std::string meaning = "");
/// One of these; which of them are alike is not known. The values are 0, 1, ...
[[nodiscard]] Knob one_of(std::string name, std::vector<std::string> labels, std::string meaning = "");

/// The product of the knobs times `factor` is at most `most`. Refuses as early as the smallest values of the knobs still unset allow, so it
/// is several constraints with one reason; put the knobs in the order of the space. Throws std::invalid_argument for knobs with a value
/// below 1.
[[nodiscard]] std::vector<Constraint> product_at_most(const std::string& reason, const std::vector<Knob>& knobs, std::int64_t most,
                                                      std::int64_t factor = 1);
/// `part` divides `whole`, whose values are not 0.
[[nodiscard]] Constraint divides(std::string reason, std::string part, std::string whole);

/// A conditional knob: where `active` does not hold it means nothing, and stays at its first value so that no two configs are the same
/// kernel. `knobs` are those that `active` reads.
[[nodiscard]] Constraint only_when(std::string reason, const Knob& knob, std::vector<std::string> knobs,
                                   std::function<bool(const Config&)> active);

}  // namespace phitune
