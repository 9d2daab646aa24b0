// How the parts of a trial lie in a row: one list of columns per part, one function to put it, one to read it. Internal to the store.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/store/store.hpp"
#include "search/trial.hpp"

namespace phitune {

/// Binds values to a statement's parameters from the first to the last.
class Binder {
 public:
  explicit Binder(SQLite::Statement& statement) : statement_(statement) {}
  Binder& integer(std::int64_t value);
  Binder& real(double value);  // NaN becomes NULL
  Binder& text(const std::string& value);
  Binder& blob(const void* bytes, std::size_t size);
  Binder& null();

 private:
  SQLite::Statement& statement_;
  int next_ = 1;
};

/// Reads a row's columns from the first to the last. Throws std::invalid_argument naming the column when its value cannot be meant.
class Reader {
 public:
  explicit Reader(SQLite::Statement& statement) : statement_(statement) {}
  std::int64_t integer();
  double real();  // NULL becomes NaN
  bool boolean();
  std::string text();
  std::vector<char> blob();
  [[nodiscard]] bool is_null();  // of the next column
  void skip(int columns) { next_ += columns; }

 private:
  SQLite::Statement& statement_;
  int next_ = 0;
};

inline constexpr const char* timing_columns = "median_ms, iqr_ms, samples, regime, sm_clock_mhz, temperature_c, throttle_reasons, discarded, sm_clocks";
inline constexpr const char* error_columns = "relative_l2, worst_row, worst_element, tolerance, rows_checked, bitwise_repeatable";
inline constexpr const char* resource_columns = "registers, spill_bytes, static_shared_bytes, dynamic_shared_bytes, code_bytes";

void put(Binder& to, const std::optional<Timing>& timing);
void put(Binder& to, const std::optional<Errors>& errors);
void put(Binder& to, const std::optional<Resources>& resources);
[[nodiscard]] std::optional<Timing> read_timing(Reader& from);
[[nodiscard]] std::optional<Errors> read_errors(Reader& from);
[[nodiscard]] std::optional<Resources> read_resources(Reader& from);

/// outcome, reason, timing, errors, seed, verify_ms, measure_ms, board: in this order in both kinds of trial.
[[nodiscard]] std::string result_columns();
inline constexpr int result_column_count = 21;
void put(Binder& to, const Result& result);
[[nodiscard]] Result read_result(Reader& from);

/// "?, ?, ?" with `count` marks.
[[nodiscard]] std::string marks(int count);

}  // namespace phitune
