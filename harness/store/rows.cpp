#include "harness/store/rows.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace phitune {
namespace {

static_assert(std::endian::native == std::endian::little, "sample blobs are little-endian float64 as they lie in memory");

std::vector<double> doubles(const std::vector<char>& bytes) {
  if (bytes.size() % sizeof(double) != 0) {
    throw std::invalid_argument(fmt::format("samples: {} bytes are not a whole number of float64", bytes.size()));
  }
  std::vector<double> values(bytes.size() / sizeof(double));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

Binder& Binder::integer(std::int64_t value) {
  statement_.bind(next_++, value);
  return *this;
}

Binder& Binder::real(double value) {
  statement_.bind(next_++, value);
  return *this;
}

Binder& Binder::text(const std::string& value) {
  statement_.bind(next_++, value);
  return *this;
}

Binder& Binder::blob(const void* bytes, std::size_t size) {
  // A null pointer would bind NULL, and an empty blob is not that.
  statement_.bind(next_++, size == 0 ? "" : bytes, static_cast<int>(size));
  return *this;
}

Binder& Binder::null() {
  statement_.bind(next_++);
  return *this;
}

std::int64_t Reader::integer() { return statement_.getColumn(next_++).getInt64(); }

double Reader::real() {
  const SQLite::Column column = statement_.getColumn(next_++);
  return column.isNull() ? std::numeric_limits<double>::quiet_NaN() : column.getDouble();
}

bool Reader::boolean() { return integer() != 0; }

std::string Reader::text() { return statement_.getColumn(next_++).getString(); }

std::vector<char> Reader::blob() {
  const SQLite::Column column = statement_.getColumn(next_++);
  const auto* bytes = static_cast<const char*>(column.getBlob());
  return bytes == nullptr ? std::vector<char>() : std::vector<char>(bytes, bytes + column.getBytes());
}

bool Reader::is_null() { return statement_.getColumn(next_).isNull(); }

void put(Binder& to, const std::optional<Timing>& timing) {
  if (!timing) {
    for (int i = 0; i < 9; ++i) to.null();
    return;
  }
  to.real(timing->median_ms).real(timing->iqr_ms);
  to.blob(timing->samples_ms.data(), timing->samples_ms.size() * sizeof(double));
  to.text(std::string(to_string(timing->regime))).real(timing->sm_clock_mhz).real(timing->temperature_c).text(timing->throttle_reasons);
  to.integer(timing->discarded).blob(timing->sm_clocks_mhz.data(), timing->sm_clocks_mhz.size() * sizeof(double));
}

std::optional<Timing> read_timing(Reader& from) {
  const double median = from.real();
  const double iqr = from.real();
  if (from.is_null()) {
    from.skip(7);
    return std::nullopt;
  }
  Timing timing;
  timing.median_ms = median;
  timing.iqr_ms = iqr;
  timing.samples_ms = doubles(from.blob());
  timing.regime = parse_regime(from.text());
  timing.sm_clock_mhz = from.real();
  timing.temperature_c = from.real();
  timing.throttle_reasons = from.text();
  // NULL in files from before these were recorded.
  timing.discarded = static_cast<int>(from.integer());
  timing.sm_clocks_mhz = doubles(from.blob());
  return timing;
}

void put(Binder& to, const std::optional<Errors>& errors) {
  if (!errors) {
    for (int i = 0; i < 6; ++i) to.null();
    return;
  }
  to.real(errors->relative_l2).real(errors->worst_row).real(errors->worst_element).real(errors->tolerance);
  to.integer(errors->rows_checked).integer(errors->bitwise_repeatable ? 1 : 0);
}

std::optional<Errors> read_errors(Reader& from) {
  Errors errors;
  errors.relative_l2 = from.real();
  errors.worst_row = from.real();
  errors.worst_element = from.real();
  errors.tolerance = from.real();
  if (from.is_null()) {
    from.skip(2);
    return std::nullopt;
  }
  errors.rows_checked = from.integer();
  errors.bitwise_repeatable = from.boolean();
  return errors;
}

void put(Binder& to, const std::optional<Resources>& resources) {
  if (!resources) {
    for (int i = 0; i < 5; ++i) to.null();
    return;
  }
  to.integer(resources->registers).integer(resources->spill_bytes).integer(resources->static_shared_bytes);
  to.integer(resources->dynamic_shared_bytes).integer(resources->code_bytes);
}

std::optional<Resources> read_resources(Reader& from) {
  if (from.is_null()) {
    from.skip(5);
    return std::nullopt;
  }
  Resources resources;
  resources.registers = from.integer();
  resources.spill_bytes = from.integer();
  resources.static_shared_bytes = from.integer();
  resources.dynamic_shared_bytes = from.integer();
  resources.code_bytes = from.integer();
  return resources;
}

std::string result_columns() { return fmt::format("outcome, reason, {}, {}, seed, verify_ms, measure_ms, board", timing_columns, error_columns); }

void put(Binder& to, const Result& result) {
  to.text(std::string(to_string(result.outcome))).text(result.reason);
  put(to, result.timing);
  put(to, result.errors);
  to.integer(static_cast<std::int64_t>(result.seed)).real(result.verify_ms).real(result.measure_ms).text(result.board);
}

Result read_result(Reader& from) {
  Result result;
  result.outcome = parse_outcome(from.text());
  result.reason = from.text();
  result.timing = read_timing(from);
  result.errors = read_errors(from);
  result.seed = static_cast<std::uint64_t>(from.integer());
  result.verify_ms = from.real();
  result.measure_ms = from.real();
  result.board = from.text();
  return result;
}

std::string marks(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += i == 0 ? "?" : ", ?";
  return text;
}

}  // namespace phitune
