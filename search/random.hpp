// Draws that are the same on every machine: the standard distributions are not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace phitune {

/// Uniform in [0, bound); bound > 0. Draws that would favour small numbers are thrown away.
[[nodiscard]] inline std::uint64_t draw_below(std::uint64_t bound, std::mt19937_64& rng) {
  const std::uint64_t uneven = (0 - bound) % bound;  // 2^64 mod bound
  std::uint64_t draw = rng();
  while (draw < uneven) draw = rng();
  return draw % bound;
}

/// Puts a uniformly drawn ordered sample of `count` elements at the front (Fisher and Yates). Requires count <= values.size().
template <typename T>
void shuffle_front(std::vector<T>& values, std::size_t count, std::mt19937_64& rng) {
  for (std::size_t i = 0; i < count; ++i) std::swap(values[i], values[i + draw_below(values.size() - i, rng)]);
}

}  // namespace phitune
