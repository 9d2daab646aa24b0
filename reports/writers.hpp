// One writer per format, all from the same model; docs/formats.md has their fields. Every number from a recording is marked "replayed" where it stands.
#pragma once

#include <string>

#include "reports/model.hpp"

namespace phitune {

/// For a terminal, a pull request, a README.
[[nodiscard]] std::string write_markdown(const Model& model);

/// One page without any network reference: styles and pictures are inside. Follows the reader's light or dark theme.
[[nodiscard]] std::string write_html(const Model& model);

/// "format": "phitune", "version": 1, then per device its facts, sweeps, outcomes, failures, axes, and per problem the floor, the winner
/// with its stages and configs, every plan run end to end, fusion strategies and chunk sizes. Null is "not known". Stage trials are in the
/// other formats.
[[nodiscard]] std::string write_json(const Model& model);

/// RFC 4180; the tuned table, one row per device and problem.
[[nodiscard]] std::string write_csv(const Model& model);
/// Likewise, one row per stage trial.
[[nodiscard]] std::string write_trials_csv(const Model& model);

/// The autotuning community's T4 results: every stage trial with its times, outcome and measurements.
[[nodiscard]] std::string write_t4(const Model& model);

/// A C++17 header of constexpr winners that needs nothing but itself.
[[nodiscard]] std::string write_header(const Model& model);

}  // namespace phitune
