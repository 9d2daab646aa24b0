#include "search/strategy.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

#include <fmt/format.h>

#include "search/strategies/strategies.hpp"
#include "search/text.hpp"

namespace phitune {
namespace {

struct Named {
  std::string_view name;
  std::unique_ptr<Strategy> (*make)(const Space& space, std::uint64_t seed, Prior prior);
};

template <std::unique_ptr<Strategy> (*make)(const Space&, std::uint64_t)>
std::unique_ptr<Strategy> without_prior(const Space& space, std::uint64_t seed, Prior /*prior*/) {
  return make(space, seed);
}

// The learner is the best at every size of space that was measured (docs/search.md); where a space is smaller than what it looks at before
// it learns, it is random search without repeats.
std::unique_ptr<Strategy> make_auto(const Space& space, std::uint64_t seed, Prior prior) {
  return prior ? make_informed(space, seed, std::move(prior)) : make_forest(space, seed);
}

constexpr std::array strategies = {Named{"auto", make_auto},
                                   Named{"informed", make_informed},
                                   Named{"forest", without_prior<make_forest>},
                                   Named{"genetic", without_prior<make_genetic>},
                                   Named{"evolution", without_prior<make_evolution>},
                                   Named{"local", without_prior<make_local>},
                                   Named{"annealing", without_prior<make_annealing>},
                                   Named{"random", without_prior<make_random>},
                                   Named{"exhaustive", without_prior<make_exhaustive>}};

constexpr auto names = [] {
  std::array<std::string_view, strategies.size()> all;
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = strategies[i].name;
  return all;
}();

}  // namespace

bool WorthIt::no_longer(Strategy& strategy) const {
  if (chance <= 0) return false;
  const std::optional<double> left = strategy.chance_of_gain(gain, trials);
  return left && *left < chance;
}

std::unique_ptr<Strategy> make_strategy(std::string_view name, const Space& space, std::uint64_t seed, Prior prior) {
  const auto named = std::ranges::find(strategies, name, &Named::name);
  if (named != strategies.end()) return named->make(space, seed, std::move(prior));
  const auto nearest = nearest_name(name, names);
  throw std::invalid_argument(fmt::format("'{}' is not a search strategy ({}){}", name, list_names(names),
                                          nearest ? fmt::format(": did you mean '{}'?", *nearest) : ""));
}

bool heeds_prior(std::string_view name) { return name == "auto" || name == "informed"; }

std::vector<std::string> strategy_names() { return {names.begin(), names.end()}; }

}  // namespace phitune
