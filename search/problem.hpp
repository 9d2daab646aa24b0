// What the user wants computed. Every other noun in phitune (stage problem, plan, trial, tuned table) is keyed by one of these.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace phitune {

enum class Pass { forward };
enum class Dtype { bf16, fp16, fp32 };
enum class Normalisation { none, sum };
enum class Layout { bthd, bhtd };

/// One power-attention problem. Shapes: q (b, t, hq, d), k (b, t, hk, d), v (b, t, hk, e), log_g (b, t, hk) fp32, y (b, t, hq, e);
/// with `layout == bhtd` the head axis comes before the token axis in all of them. Plain value; thread-safe as such.
struct Problem {
  Pass pass = Pass::forward;
  std::int64_t b = 1;
  std::int64_t t = 1;
  std::int64_t hq = 1;
  std::int64_t hk = 1;
  std::int64_t d = 64;
  std::int64_t e = 64;
  std::int64_t p = 2;
  Dtype dtype = Dtype::bf16;
  bool gated = true;
  Normalisation normalisation = Normalisation::sum;
  Layout layout = Layout::bthd;
  bool initial_state = false;
  bool final_state = false;

  bool operator==(const Problem&) const = default;
  auto operator<=>(const Problem&) const = default;

  /// Factor on q.k; 1/sqrt(d), the paper's default.
  [[nodiscard]] double scale() const;

  /// Canonical text, e.g. "forward b1 t65536 hq8 hk8 d64 e64 p2 bf16 gated sum bthd"; with states, " initial" and " final" follow.
  [[nodiscard]] std::string key() const;

  /// Reads what key() writes, and the shorthand people type: "b1 t4096 h8 d64 p2 bf16 gated" (h sets hq and hk, e defaults to d).
  /// Separators are spaces or commas. Throws std::invalid_argument naming the word that is wrong.
  static Problem parse(std::string_view text);

  /// The reason why no plan can compute this problem, or nothing when it is well formed.
  [[nodiscard]] std::optional<std::string> invalid() const;
};

[[nodiscard]] std::string_view to_string(Pass pass);
[[nodiscard]] std::string_view to_string(Dtype dtype);
[[nodiscard]] std::string_view to_string(Normalisation normalisation);
[[nodiscard]] std::string_view to_string(Layout layout);

/// The inverse of to_string; throws std::invalid_argument that lists what is accepted.
[[nodiscard]] Dtype parse_dtype(std::string_view text);
[[nodiscard]] Normalisation parse_normalisation(std::string_view text);
[[nodiscard]] Layout parse_layout(std::string_view text);

[[nodiscard]] std::int64_t bytes(Dtype dtype);

/// Rows of the tiled symmetric power: C(d/d_tile + p - 1, p) * d_tile^p (arXiv:2507.04239). 0 for d_tile 0, which stands for
/// "no state". Throws std::invalid_argument unless d_tile divides d.
[[nodiscard]] std::int64_t state_rows(std::int64_t d, std::int64_t p, std::int64_t d_tile);

}  // namespace phitune
