// From the store's rows to what reports are built from.
#pragma once

#include <string>

#include "harness/store/store.hpp"
#include "reports/records.hpp"

namespace phitune::cli {

/// Everything in the store. `suite`, when not empty, is a suite file whose names the problems get.
[[nodiscard]] Records records_of(Store& store, const std::string& suite);

/// Without what was found by CPU emulation, whose times are no GPU's; `left_out` counts those sweeps.
[[nodiscard]] Records without_emulation(Records records, std::size_t& left_out);

}  // namespace phitune::cli
