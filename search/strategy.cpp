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
  std::unique_ptr<Strategy> (*make)(const Space& space, std::uint64_t seed);
};

// The learner is the best at every size of space that was measured (docs/search.md); where a space is smaller than what it looks at before
// it learns, it is random search without repeats.
constexpr auto make_auto = make_forest;

constexpr std::array strategies = {
    Named{"auto", make_auto},   Named{"forest", make_forest},       Named{"genetic", make_genetic}, Named{"evolution", make_evolution},
    Named{"local", make_local}, Named{"annealing", make_annealing}, Named{"random", make_random},   Named{"exhaustive", make_exhaustive}};

constexpr auto names = [] {
  std::array<std::string_view, strategies.size()> all;
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = strategies[i].name;
  return all;
}();

}  // namespace

std::unique_ptr<Strategy> make_strategy(std::string_view name, const Space& space, std::uint64_t seed) {
  const auto named = std::ranges::find(strategies, name, &Named::name);
  if (named != strategies.end()) return named->make(space, seed);
  const auto nearest = nearest_name(name, names);
  throw std::invalid_argument(fmt::format("'{}' is not a search strategy ({}){}", name, list_names(names),
                                          nearest ? fmt::format(": did you mean '{}'?", *nearest) : ""));
}

std::vector<std::string> strategy_names() { return {names.begin(), names.end()}; }

}  // namespace phitune
