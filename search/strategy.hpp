// Ask/tell: a strategy proposes configs of a space and is told what became of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "search/space.hpp"
#include "search/trial.hpp"

namespace phitune {

/// Not thread-safe; one strategy belongs to one search. Deterministic for a seed and a sequence of tells.
class Strategy {
 public:
  virtual ~Strategy() = default;

  /// Up to `count` indices of the space that were not asked before; empty when the strategy is done.
  virtual std::vector<std::size_t> ask(std::size_t count) = 0;

  /// Every asked index is told once, failures too. `time_ms` is meaningful only for Outcome::ok.
  virtual void tell(std::size_t index, Outcome outcome, double time_ms) = 0;
};

/// "exhaustive" or "random". Throws std::invalid_argument listing the names for any other. The space must outlive the strategy.
[[nodiscard]] std::unique_ptr<Strategy> make_strategy(std::string_view name, const Space& space, std::uint64_t seed);
[[nodiscard]] std::vector<std::string> strategy_names();

}  // namespace phitune
