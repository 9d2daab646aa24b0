// Ask/tell: a strategy proposes configs of a space and is told what became of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
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

  /// The chance that one of the next `trials` configs would be faster than the best so far by more than `share` of its time, as far as the
  /// strategy can tell: from what it expects of them and how wrong it was so far. Nothing when it expects nothing in particular, or when it
  /// was told too little to know how wrong it is.
  [[nodiscard]] virtual std::optional<double> chance_of_gain(double /*share*/, std::size_t /*trials*/) { return std::nullopt; }
};

/// When a search is not worth going on with: the strategy gives less than `chance` to one of the next `trials` configs being faster than
/// the best by more than `gain` of its time. A strategy that cannot tell goes on.
struct WorthIt {
  double chance = 0.1;
  double gain = 0.01;
  std::size_t trials = 10;
  [[nodiscard]] bool no_longer(Strategy& strategy) const;
};

/// What is expected of a config before any was tried: the logarithm of its time, up to a constant that all configs of the space share.
using Prior = std::function<double(std::size_t index)>;

/// Throws std::invalid_argument listing the names for one that is none of them. The space must outlive the strategy. `auto` and `informed`
/// heed the prior; the others do without.
[[nodiscard]] std::unique_ptr<Strategy> make_strategy(std::string_view name, const Space& space, std::uint64_t seed, Prior prior = {});
[[nodiscard]] std::vector<std::string> strategy_names();
/// Whether make_strategy would make use of a prior.
[[nodiscard]] bool heeds_prior(std::string_view name);

}  // namespace phitune
