#include "harness/verify/check.hpp"

#include <fmt/format.h>

#include <cmath>

#include "harness/verify/inputs.hpp"

namespace phitune {

namespace {

/// Sums over the rows of one check.
struct Totals {
  double error2 = 0, reference2 = 0;
  double worst_row = 0, worst_element = 0;
  double worst_excess = 0;  // row error / its bound
  std::int64_t worst_offset = -1;
  std::int64_t rows = 0;
  bool finite = true;
};

std::vector<double> read_row(const Check& check, const CheckRow& row, const ReadElements& read) {
  const auto size = static_cast<std::size_t>(bytes(check.dtype));
  const std::int64_t span = row.element(row.reference.size() - 1) - row.offset + (row.sum_of - 1) * row.sum_stride + 1;
  std::vector<char> raw(static_cast<std::size_t>(span) * size);
  read(check.buffer, row.offset, span, raw.data());
  std::vector<double> values(row.reference.size(), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (int term = 0; term < row.sum_of; ++term) {
      values[i] += decode(check.dtype, raw.data() + static_cast<std::size_t>(row.element(i) - row.offset + term * row.sum_stride) * size);
    }
  }
  return values;
}

bool representable(const Check& check, const CheckRow& row) {
  for (const double value : row.reference) {
    if (!(std::abs(value) <= largest(check.dtype))) return false;
  }
  return true;
}

/// How far a row may be: relative to itself, or for inputs that cancel also to what it was summed from, and to the dtype's finest step.
double row_bound(const Check& check, const CheckRow& row, double norm) {
  double bound = check.tolerance.worst_row * norm;
  if (row.condition > 0) {
    const double step = check.dtype == Dtype::fp16 ? 0x1p-24 : 0x1p-126;
    bound += conditioning() * epsilon(check.operands.value_or(check.dtype)) * row.condition + step * std::sqrt(static_cast<double>(row.reference.size()));
  }
  return bound;
}

void add_row(const Check& check, const CheckRow& row, const std::vector<double>& values, Totals& totals) {
  double error2 = 0, norm2 = 0, largest_error = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double error = values[i] - row.reference[i];
    if (!std::isfinite(values[i]) && totals.finite) {
      totals.finite = false;
      totals.worst_offset = row.offset;
    }
    error2 += error * error;
    norm2 += row.reference[i] * row.reference[i];
    largest_error = std::max(largest_error, std::abs(error));
  }
  ++totals.rows;
  totals.error2 += error2;
  totals.reference2 += norm2;
  const double norm = std::sqrt(norm2), error = std::sqrt(error2), bound = row_bound(check, row, norm);
  if (norm > 0) {
    totals.worst_row = std::max(totals.worst_row, error / norm);
    const double rms = norm / std::sqrt(static_cast<double>(values.size()));
    totals.worst_element = std::max(totals.worst_element, largest_error / (epsilon(check.dtype) * rms));
  }
  // A row whose reference is zero must be zero: any error is infinitely beyond its bound.
  const double excess = error == 0 ? 0 : error / bound;
  if (totals.finite && excess > totals.worst_excess) {
    totals.worst_excess = excess;
    totals.worst_offset = row.offset;
  }
}

double relative(const Totals& totals) {
  if (totals.error2 == 0) return 0;
  return std::sqrt(totals.error2 / totals.reference2);
}

/// Empty when the check holds.
std::string complaint(const Check& check, const Totals& totals) {
  const auto where = [&] { return fmt::format("{} at element {}", to_string(check.buffer), totals.worst_offset); };
  if (totals.rows == 0) return fmt::format("no row of {} could be checked: all references are beyond its dtype", to_string(check.buffer));
  if (!totals.finite) return fmt::format("{} is NaN or infinite (or was never written)", where());
  if (!(totals.worst_excess <= 1))
    return fmt::format("row of {} is off by {:.3g} times its bound (relative l2 of the worst row {:.3g}, bound {:.3g})", where(),
                       totals.worst_excess, totals.worst_row, check.tolerance.worst_row);
  if (!check.cancels && !(relative(totals) <= check.tolerance.relative_l2))
    return fmt::format("{} has relative l2 error {:.3g} over {} rows, bound {:.3g}", to_string(check.buffer), relative(totals), totals.rows,
                       check.tolerance.relative_l2);
  return {};
}

}  // namespace

Verdict compare(const std::vector<Check>& checks, const ReadElements& read) {
  Verdict verdict;
  double nearest = -1;
  std::int64_t rows_checked = 0;
  for (const Check& check : checks) {
    Totals totals;
    for (const CheckRow& row : check.rows) {
      if (representable(check, row)) add_row(check, row, read_row(check, row, read), totals);
    }
    rows_checked += totals.rows;
    const std::string wrong = complaint(check, totals);
    const double share = !wrong.empty() ? HUGE_VAL : relative(totals) / check.tolerance.relative_l2;
    if (share > nearest) {
      nearest = share;
      verdict.errors.relative_l2 = totals.finite ? relative(totals) : HUGE_VAL;
      verdict.errors.worst_row = totals.finite ? totals.worst_row : HUGE_VAL;
      verdict.errors.worst_element = totals.finite ? totals.worst_element : HUGE_VAL;
      verdict.errors.tolerance = check.tolerance.relative_l2;
    }
    if (!wrong.empty() && verdict.ok) {
      verdict.ok = false;
      verdict.reason = wrong;
    }
  }
  verdict.errors.rows_checked = rows_checked;
  if (checks.empty()) return {.ok = false, .reason = "nothing was checked", .errors = {}};
  return verdict;
}

}  // namespace phitune
