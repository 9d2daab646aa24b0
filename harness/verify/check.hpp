// What a run's outputs are compared with: sampled rows of them, and the verdict.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "harness/verify/buffers.hpp"
#include "harness/verify/tolerance.hpp"
#include "search/trial.hpp"

namespace phitune {

/// Reference values of one sampled row. Value i is the sum of `sum_of` elements of the buffer, `sum_stride` apart, from
/// offset + (i / run) * stride + i % run: a row of core matrices has stride 64 and run 8.
struct CheckRow {
  std::int64_t offset = 0;  // in elements of the buffer as it lies in memory
  std::int64_t stride = 1;
  std::int64_t run = 1;
  int sum_of = 1;
  std::int64_t sum_stride = 1;
  std::vector<double> reference;
  double condition = 0;  // > 0: typical size of what the row was summed from, for inputs that cancel

  /// First element of value i.
  [[nodiscard]] std::int64_t element(std::size_t i) const {
    const auto n = static_cast<std::int64_t>(i);
    return offset + n / run * stride + n % run;
  }
};

struct Check {
  Buffer buffer = Buffer::y;
  Dtype dtype = Dtype::fp32;
  Tolerance tolerance;
  std::vector<CheckRow> rows;
  std::optional<Dtype> operands = std::nullopt;  // what the terms of its rows were rounded to, where that is not `dtype`
  bool cancels = false;                          // rows may be nothing but rounding errors of their terms: only each row's own bound counts
};

/// Copies `count` elements of a buffer from element `offset` to `out`.
using ReadElements = std::function<void(Buffer buffer, std::int64_t offset, std::int64_t count, void* out)>;

struct Verdict {
  bool ok = true;
  std::string reason;  // what was wrong, where: the buffer, the worst row's offset, error and bound
  Errors errors;       // of the buffer nearest to its bound; rows_checked counts all
};

/// Rows are read one by one; rows whose reference the dtype cannot hold are left out. A check without a row to compare is a failure.
[[nodiscard]] Verdict compare(const std::vector<Check>& checks, const ReadElements& read);

}  // namespace phitune
