// Steps from one config to another that several strategies take. Internal to search.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "search/space.hpp"

namespace phitune {

using Positions = std::vector<std::uint16_t>;

[[nodiscard]] Positions positions_of(const Space& space, std::size_t index);

/// Another position of a knob: half of the time one step away where the knob has steps, else any. The same when it has only one value.
[[nodiscard]] std::uint16_t other_position(const Knob& knob, std::uint16_t position, std::mt19937_64& rng);

/// A config that differs from `from` in up to `knobs` knobs drawn at random; nothing when none of `attempts` draws is in the space.
[[nodiscard]] std::optional<std::size_t> changed(const Space& space, const Positions& from, std::size_t knobs, std::mt19937_64& rng,
                                                 int attempts = 30);

/// Uniform in [0, 1), the same on every machine.
[[nodiscard]] double draw_share(std::mt19937_64& rng);

}  // namespace phitune
