// References for denominators that are a matrix beside the state (denominator_matrix in state_layout.cuh): Z, the sum of weights times k k^T.
// Internal to the stage oracles.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "harness/verify/stage_samples.hpp"

namespace phitune::stage_oracle {

/// What single chunks add: rows of sampled features.
[[nodiscard]] Check update_denominator_check(Context& c);

/// Where the shares of the chunks come from: drawn at random (scan), or from the keys (update_scan).
enum class Shares { drawn, of_keys };
/// Z before some chunks of one head, times scale^2. `decays`: of every chunk.
void add_denominator_rows(Context& c, Shares shares, std::int64_t head, std::span<const std::int64_t> chunks, const std::vector<double>& decays,
                          Check& check);

/// The drawn share of an entry in matrix number `matrix`.
[[nodiscard]] double drawn_share(const Context& c, std::int64_t matrix, int feature, int other);

/// q^T Z q for the drawn matrix number `matrix`.
[[nodiscard]] double query_denominator(const Context& c, std::int64_t matrix, std::span<const double> query);

}  // namespace phitune::stage_oracle
