// Which copy of a candidate's tensors is worked on when, for regimes that need more than a flush. Pure C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "search/trial.hpp"

namespace phitune {

/// What is written before a sample, and what lies between two uses of a copy, is so much larger than the L2 cache: replacement is not
/// strictly least recently used, and large GPUs keep data of the far half twice.
inline constexpr double kEvictOverL2 = 2.5;

/// Copies of tensors of so many bytes that must take turns for each to be evicted before its next turn. Nothing when they would be more
/// than kMostCopies: so small a problem is timed by flush.
inline constexpr std::size_t kMostCopies = 1024;
[[nodiscard]] std::optional<std::size_t> rotation_copies(std::int64_t bytes, std::int64_t l2_bytes);

/// Before a timed launch that needs no flush, untimed ones keep the device busy, so that the host has the timed one queued when its turn
/// comes; they also leave the cache as the regime wants it. So many, for launches of `ms`.
[[nodiscard]] std::size_t lead_launches(Regime regime, double ms);

/// One sample's launches: copies to work on untimed, then the one that is timed.
struct Turn {
  std::vector<std::size_t> leads;
  std::size_t timed = 0;
};

/// Copies in order, again and again: between two uses of a copy all others were used.
class Turns {
 public:
  explicit Turns(std::size_t copies) : copies_(copies) {}
  [[nodiscard]] Turn next(std::size_t leads);

 private:
  std::size_t take();
  std::size_t copies_;
  std::size_t next_ = 0;
};

}  // namespace phitune
