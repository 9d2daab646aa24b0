// How numbers and words look in every report.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reports/model.hpp"

namespace phitune::report_text {

/// Three significant digits: "0.0123", "1.23", "123", "12300"; "-" for what is not a positive finite number.
[[nodiscard]] std::string number(double value, int significant = 3);
/// "1.234 ms", four digits since plans often differ in the third; "-" as number().
[[nodiscard]] std::string ms(double value);
/// "1.9x"; "-" as number().
[[nodiscard]] std::string times(double value);
/// "3.1e-03"; "0" for zero.
[[nodiscard]] std::string error(double value);
/// "37 %".
[[nodiscard]] std::string percent(double share);
/// "2.0 GiB", "227 KiB".
[[nodiscard]] std::string bytes(std::int64_t value);
/// "matrix rate", "memory bandwidth", "not known".
[[nodiscard]] std::string_view bound(Bound bound);
/// "1500 ok, 20 pruned, 3 compile_failed"; "none" when empty.
[[nodiscard]] std::string outcomes(const std::map<Outcome, std::int64_t>& counts);

/// What a whole plan was checked on: "3 seeds, error 1.2e-03 to 1.5e-03; 6 adversarial inputs", and what it failed on; "-" when that is not
/// known.
[[nodiscard]] std::string checked_on(const Result& result);

/// The first line, at most `limit` bytes of it; cut at a character of UTF-8 and marked with "..." when something is left out.
[[nodiscard]] std::string first_line(std::string_view text, std::size_t limit = 160);

/// One explained term: what a reader who never saw phitune needs for the tables.
struct Explanation {
  std::string_view term;
  std::string_view text;
};
[[nodiscard]] std::span<const Explanation> explanations();

/// Problems more than this far above their floor are pointed out.
inline constexpr double far_from_floor = 3.0;

/// One sentence per finding, plain text: the problem nearest to its floor, those furthest from it and where their time goes, which
/// problems have no winner, whose winners are stale.
[[nodiscard]] std::vector<std::string> findings(const DeviceView& device);

/// What to know before believing a number of this device, plain text: replayed or impossible numbers, throttling seen, a warm cache. Empty
/// when nothing is.
[[nodiscard]] std::vector<std::string> warnings(const DeviceView& device);

}  // namespace phitune::report_text
