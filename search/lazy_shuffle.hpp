// A random order of a huge space, of which only as much is drawn as is used. Internal to search.
#pragma once

#include <cstddef>
#include <optional>
#include <random>
#include <unordered_map>

#include "search/random.hpp"

namespace phitune {

/// Draws 0 ... size - 1 without repeats, in the very order in which shuffle_front would leave them.
class LazyShuffle {
 public:
  explicit LazyShuffle(std::size_t size) : size_(size) {}

  std::optional<std::size_t> next(std::mt19937_64& rng) {
    if (taken_ == size_) return std::nullopt;
    const std::size_t other = taken_ + draw_below(size_ - taken_, rng);
    const std::size_t drawn = at(other);
    moved_[other] = at(taken_);
    moved_.erase(taken_++);
    return drawn;
  }

 private:
  [[nodiscard]] std::size_t at(std::size_t place) const {
    const auto moved = moved_.find(place);
    return moved == moved_.end() ? place : moved->second;
  }

  std::size_t size_, taken_ = 0;
  std::unordered_map<std::size_t, std::size_t> moved_;  // places whose value is not their own number any more
};

}  // namespace phitune
