// References of the stages that only the materialized strategy has: phi written out, the library's products of it, and their sum. Internal
// to the stage oracles.
#pragma once

#include "harness/verify/stage_samples.hpp"

namespace phitune::stage_oracle {

[[nodiscard]] std::vector<Check> expand_key_checks(Context& c);
[[nodiscard]] std::vector<Check> expand_query_checks(Context& c);
[[nodiscard]] std::vector<Check> update_gemm_checks(Context& c);
[[nodiscard]] std::vector<Check> query_gemm_checks(Context& c);
[[nodiscard]] std::vector<Check> combine_checks(Context& c);

}  // namespace phitune::stage_oracle
