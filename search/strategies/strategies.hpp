// One maker per strategy. Internal to search: make_strategy chooses among them by name.
#pragma once

#include <cstdint>
#include <memory>

#include "search/strategy.hpp"

namespace phitune {

std::unique_ptr<Strategy> make_exhaustive(const Space& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_random(const Space& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_local(const Space& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_annealing(const Space& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_genetic(const Space& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_evolution(const Space& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_forest(const Space& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_informed(const Space& space, std::uint64_t seed, Prior prior);

}  // namespace phitune
