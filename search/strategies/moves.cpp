#include "search/strategies/moves.hpp"

#include "search/random.hpp"

namespace phitune {

Positions positions_of(const Space& space, std::size_t index) {
  Positions positions(space.knobs().size());
  space.positions(index, positions);
  return positions;
}

std::uint16_t other_position(const Knob& knob, std::uint16_t position, std::mt19937_64& rng) {
  const std::size_t values = knob.values.size();
  if (values < 2) return position;
  if (!knob.categorical && draw_below(2, rng) == 0) {
    const bool up = position == 0 || (position + 1u < values && draw_below(2, rng) == 0);
    return static_cast<std::uint16_t>(up ? position + 1 : position - 1);
  }
  const auto other = static_cast<std::uint16_t>(draw_below(values - 1, rng));
  return other < position ? other : static_cast<std::uint16_t>(other + 1);
}

std::optional<std::size_t> changed(const Space& space, const Positions& from, std::size_t knobs, std::mt19937_64& rng, int attempts) {
  if (from.empty()) return std::nullopt;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    Positions to = from;
    for (std::size_t i = 0; i < knobs; ++i) {
      const std::size_t knob = draw_below(to.size(), rng);
      to[knob] = other_position(space.knobs()[knob], to[knob], rng);
    }
    if (to == from) continue;
    if (const auto index = space.find(to)) return index;
  }
  return std::nullopt;
}

double draw_share(std::mt19937_64& rng) { return static_cast<double>(rng() >> 11) * 0x1p-53; }

}  // namespace phitune
