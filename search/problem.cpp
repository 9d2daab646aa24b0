#include "search/problem.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>

#include <fmt/format.h>

#include "search/names.hpp"

namespace phitune {
namespace {

constexpr Names<Pass, 1> pass_names{"pass", {{{Pass::forward, "forward"}}}};
constexpr Names<Dtype, 3> dtype_names{"dtype", {{{Dtype::bf16, "bf16"}, {Dtype::fp16, "fp16"}, {Dtype::fp32, "fp32"}}}};
constexpr Names<Normalisation, 2> normalisation_names{"normalisation", {{{Normalisation::none, "none"}, {Normalisation::sum, "sum"}}}};
constexpr Names<Layout, 2> layout_names{"layout", {{{Layout::bthd, "bthd"}, {Layout::bhtd, "bhtd"}}}};

constexpr std::array<std::int64_t, 4> widths{16, 32, 64, 128};
// Kernels put batch x heads in a grid dimension of at most 65535 blocks, and sizes in 32-bit integers.
constexpr std::int64_t max_grid = 65535;
constexpr std::int64_t max_tokens = std::int64_t{1} << 30;
// One tensor of more elements than this (4 TiB at 16 bits) is a mistyped number, and sizes computed from it could overflow.
constexpr std::int64_t max_elements = std::int64_t{1} << 41;

struct SizeField {
  std::string_view name;
  std::int64_t Problem::*member;
};
constexpr std::array<SizeField, 7> size_fields{{{"b", &Problem::b},
                                                {"t", &Problem::t},
                                                {"hq", &Problem::hq},
                                                {"hk", &Problem::hk},
                                                {"d", &Problem::d},
                                                {"e", &Problem::e},
                                                {"p", &Problem::p}}};

// Reads the words of a problem one by one, refusing a thing said twice.
class ProblemReader {
 public:
  void read(std::string_view word) {
    if (read_flag(word) || read_size(word)) return;
    static constexpr std::array<std::string_view, 21> known{"forward", "bf16", "fp16", "fp32",    "gated", "ungated", "sum",
                                                            "none",    "bthd", "bhtd", "initial", "final", "b1",      "t4096",
                                                            "h8",      "hq8",  "hk8",  "d64",     "e64",   "p2",      "p3"};
    const auto nearest = nearest_name(word, known);
    throw std::invalid_argument(fmt::format("'{}' is no part of a problem{}; a problem reads like \"b1 t4096 h8 d64 p2 bf16 gated\"", word,
                                            nearest ? fmt::format(" (did you mean '{}'?)", *nearest) : ""));
  }

  Problem finish() {
    if (!seen_.contains("e")) problem_.e = problem_.d;
    if (seen_.contains("hq") != seen_.contains("hk")) {
      throw std::invalid_argument("hq and hk go together: give both, or h for as many query heads as key-value heads");
    }
    return problem_;
  }

 private:
  void once(std::string_view what, std::string_view word) {
    if (!seen_.insert(std::string(what)).second) throw std::invalid_argument(fmt::format("'{}' sets {} a second time", word, what));
  }

  bool read_flag(std::string_view word) {
    if (const auto pass = pass_names.find(word)) {
      once("pass", word);
      problem_.pass = *pass;
    } else if (const auto dtype = dtype_names.find(word)) {
      once("dtype", word);
      problem_.dtype = *dtype;
    } else if (const auto normalisation = normalisation_names.find(word)) {
      once("normalisation", word);
      problem_.normalisation = *normalisation;
    } else if (const auto layout = layout_names.find(word)) {
      once("layout", word);
      problem_.layout = *layout;
    } else if (word == "gated" || word == "ungated") {
      once("gated", word);
      problem_.gated = word == "gated";
    } else if (word == "initial") {
      once("initial", word);
      problem_.initial_state = true;
    } else if (word == "final") {
      once("final", word);
      problem_.final_state = true;
    } else {
      return false;
    }
    return true;
  }

  bool read_size(std::string_view word) {
    const std::size_t digits = word.find_first_of("-0123456789");
    if (digits == std::string_view::npos || digits == 0) return false;
    const std::string_view name = word.substr(0, digits);
    const auto field = std::ranges::find(size_fields, name, &SizeField::name);
    if (name != "h" && field == size_fields.end()) return false;
    const auto value = whole_number(word.substr(digits));
    if (!value) throw std::invalid_argument(fmt::format("'{}': '{}' is not a whole number", word, word.substr(digits)));
    if (name == "h") {
      once("hq", word);
      once("hk", word);
      problem_.hq = problem_.hk = *value;
    } else {
      once(name, word);
      problem_.*(field->member) = *value;
    }
    return true;
  }

  Problem problem_;
  std::set<std::string> seen_;
};

std::optional<std::string> invalid_size(const Problem& problem) {
  for (const auto& [name, member] : size_fields) {
    if (problem.*member < 1) return fmt::format("{} must be at least 1, not {}", name, problem.*member);
  }
  if (problem.t > max_tokens) return fmt::format("t is {}: at most {} tokens", problem.t, max_tokens);
  if (problem.hq > max_grid || problem.b > max_grid || problem.b * problem.hq > max_grid) {
    return fmt::format("b x hq is {} x {}: at most {} (blocks of one grid dimension)", problem.b, problem.hq, max_grid);
  }
  const std::int64_t width = std::max(problem.d, problem.e);
  if (width <= widths.back() && problem.b * problem.hq > max_elements / problem.t / width) {
    return fmt::format("b x t x hq x {} elements are more than 2^41: no device holds such a tensor", width);
  }
  return std::nullopt;
}

}  // namespace

double Problem::scale() const { return 1.0 / std::sqrt(static_cast<double>(d)); }

std::string Problem::key() const {
  return fmt::format("{} b{} t{} hq{} hk{} d{} e{} p{} {} {} {} {}{}{}", to_string(pass), b, t, hq, hk, d, e, p, to_string(dtype),
                     gated ? "gated" : "ungated", to_string(normalisation), to_string(layout), initial_state ? " initial" : "",
                     final_state ? " final" : "");
}

Problem Problem::parse(std::string_view text) {
  ProblemReader reader;
  const auto words = words_of(text, " \t\r\n,");
  if (words.empty()) throw std::invalid_argument("an empty problem; one reads like \"b1 t4096 h8 d64 p2 bf16 gated\"");
  for (const std::string_view word : words) reader.read(word);
  return reader.finish();
}

std::optional<std::string> Problem::invalid() const {
  if (auto reason = invalid_size(*this)) return reason;
  if (hq % hk != 0)
    return fmt::format("hq {} is not a multiple of hk {}: every key-value head serves the same number of query heads", hq, hk);
  if (std::ranges::find(widths, d) == widths.end()) return fmt::format("d is {}: the kernels are made for 16, 32, 64 and 128", d);
  if (std::ranges::find(widths, e) == widths.end()) return fmt::format("e is {}: the kernels are made for 16, 32, 64 and 128", e);
  if (p > 4) return fmt::format("p is {}: degrees 1 to 4 are supported", p);
  if (dtype == Dtype::fp32) return "dtype is fp32: q, k and v are bf16 or fp16";
  if (normalisation == Normalisation::sum && p % 2 != 0) {
    return fmt::format("normalisation sum needs an even p, not {}: the weights of an odd power change sign; use normalisation none", p);
  }
  return std::nullopt;
}

std::string_view to_string(Pass pass) { return pass_names.text(pass); }
std::string_view to_string(Dtype dtype) { return dtype_names.text(dtype); }
std::string_view to_string(Normalisation normalisation) { return normalisation_names.text(normalisation); }
std::string_view to_string(Layout layout) { return layout_names.text(layout); }

Dtype parse_dtype(std::string_view text) { return dtype_names.parse(text); }
Normalisation parse_normalisation(std::string_view text) { return normalisation_names.parse(text); }
Layout parse_layout(std::string_view text) { return layout_names.parse(text); }

std::int64_t bytes(Dtype dtype) { return dtype == Dtype::fp32 ? 4 : 2; }

std::int64_t state_rows(std::int64_t d, std::int64_t p, std::int64_t d_tile) {
  if (d_tile == 0) return 0;
  if (d_tile < 0 || p < 1 || d < 1 || d % d_tile != 0) {
    throw std::invalid_argument(
        fmt::format("no tiled symmetric power of d {} with p {} and d_tile {}: d_tile must divide d", d, p, d_tile));
  }
  const std::int64_t tiles = d / d_tile;
  std::int64_t rows = 1;
  for (std::int64_t i = 1; i <= p; ++i) rows = rows * (tiles - 1 + i) / i;  // C(tiles + p - 1, p), whole at every step
  for (std::int64_t i = 0; i < p; ++i) rows *= d_tile;
  return rows;
}

}  // namespace phitune
