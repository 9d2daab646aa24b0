// Well-formed problems drawn at random, for properties that must hold for every one.
#pragma once

#include <array>
#include <initializer_list>
#include <random>

#include "search/problem.hpp"
#include "search/random.hpp"

namespace phitune {

template <typename T>
T one_of(std::initializer_list<T> choices, std::mt19937_64& rng) {
  return choices.begin()[draw_below(choices.size(), rng)];
}

inline Problem random_problem(std::mt19937_64& rng) {
  Problem problem;
  problem.b = one_of<std::int64_t>({1, 2, 8, 31}, rng);
  problem.t = 1 + static_cast<std::int64_t>(draw_below(one_of<std::uint64_t>({1, 100, 20000, 3000000}, rng), rng));
  problem.hk = one_of<std::int64_t>({1, 2, 3, 8}, rng);
  problem.hq = problem.hk * one_of<std::int64_t>({1, 1, 2, 4}, rng);
  problem.d = one_of<std::int64_t>({16, 32, 64, 128}, rng);
  problem.e = one_of<std::int64_t>({16, 32, 64, 128}, rng);
  problem.p = one_of<std::int64_t>({1, 2, 3, 4}, rng);
  problem.dtype = one_of({Dtype::bf16, Dtype::fp16}, rng);
  problem.gated = one_of({false, true}, rng);
  problem.normalisation = problem.p % 2 == 0 ? one_of({Normalisation::none, Normalisation::sum}, rng) : Normalisation::none;
  problem.layout = one_of({Layout::bthd, Layout::bhtd}, rng);
  problem.initial_state = one_of({false, true}, rng);
  problem.final_state = one_of({false, true}, rng);
  return problem;
}

/// A seed that changes from run to run and is printed by the test that uses it (SCOPED_TRACE), so that a failure can be repeated.
inline std::uint64_t fresh_seed() { return std::random_device{}(); }

}  // namespace phitune
