#include "harness/measure/rotation.hpp"

#include <algorithm>
#include <cmath>

namespace phitune {
namespace {

// More than the host takes to queue a launch and two events.
constexpr double kLeadMs = 0.05;
constexpr double kMostLeads = 32;

}  // namespace

std::optional<std::size_t> rotation_copies(std::int64_t bytes, std::int64_t l2_bytes) {
  const double others = std::ceil(kEvictOverL2 * static_cast<double>(l2_bytes) / static_cast<double>(std::max<std::int64_t>(bytes, 1)));
  if (others + 1 > static_cast<double>(kMostCopies)) return std::nullopt;
  return static_cast<std::size_t>(others) + 1;
}

std::size_t lead_launches(Regime regime, double ms) {
  if (regime.cache == Regime::Cache::flush) return 0;  // the flush itself takes long enough
  return static_cast<std::size_t>(std::clamp(std::ceil(kLeadMs / std::max(ms, 1e-6)), 1.0, kMostLeads));
}

std::size_t Turns::take() {
  const std::size_t copy = next_;
  next_ = (next_ + 1) % copies_;
  return copy;
}

Turn Turns::next(std::size_t leads) {
  Turn turn;
  for (std::size_t i = 0; i < leads; ++i) turn.leads.push_back(take());
  turn.timed = take();
  return turn;
}

}  // namespace phitune
