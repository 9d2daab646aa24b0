// Power attention by its definition, in double, one loop per sum (Buckman et al., arXiv:2507.04239).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace phitune::kernel_test {

/// Tokens of one kv head with `groups` query heads: q [token][group][d], k [token][d], v [token][e], log_g [token].
struct Sequence {
  std::int64_t tokens = 0, groups = 1, d = 0, e = 0;
  std::vector<double> q, k, v, log_g;

  /// Inclusive cumulative gate. A gate below -104 closes an fp32 weight altogether.
  [[nodiscard]] std::vector<double> cumulative_gates() const {
    std::vector<double> out(log_g.size());
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = sum += std::max(log_g[i], -104.0);
    return out;
  }
};

/// y of group `group` at token i: e values, by the quadratic definition over the tokens up to i.
inline std::vector<double> attend(const Sequence& s, const std::vector<double>& gates, std::int64_t group, std::int64_t i, int p,
                                  double scale, bool normalised) {
  std::vector<double> y(static_cast<std::size_t>(s.e));
  double denominator = 0;
  const double* q = &s.q[static_cast<std::size_t>((i * s.groups + group) * s.d)];
  for (std::int64_t j = 0; j <= i; ++j) {
    double dot = 0;
    for (std::int64_t f = 0; f < s.d; ++f) dot += q[f] * s.k[static_cast<std::size_t>(j * s.d + f)];
    const double weight = std::pow(scale * dot, p) * std::exp(gates[static_cast<std::size_t>(i)] - gates[static_cast<std::size_t>(j)]);
    denominator += weight;
    for (std::int64_t n = 0; n < s.e; ++n) y[static_cast<std::size_t>(n)] += weight * s.v[static_cast<std::size_t>(j * s.e + n)];
  }
  if (normalised) {
    for (double& x : y) x = denominator == 0 ? 0 : x / denominator;
  }
  return y;
}

/// The state after `tokens` tokens: [D1][e + 1], D1 = C(d + p - 1, p). Row of the sorted features i_1 <= ... <= i_p, which stands at
/// sum_m C(i_m + m - 1, m): sum_j exp(G_last - G_j) k_j[i_1] ... k_j[i_p] [v_j, 1].
inline std::vector<double> moments(const Sequence& s, const std::vector<double>& gates, std::int64_t tokens, int p) {
  const auto choose = [](std::int64_t n, std::int64_t k) {
    double c = 1;
    for (std::int64_t i = 1; i <= k; ++i) c = c * static_cast<double>(n - k + i) / static_cast<double>(i);
    return static_cast<std::int64_t>(std::llround(c));
  };
  const std::int64_t width = s.e + 1;
  std::vector<double> state(static_cast<std::size_t>(choose(s.d + p - 1, p) * width));
  std::vector<std::int64_t> features(static_cast<std::size_t>(p), 0);
  for (;;) {
    std::int64_t row = 0;
    for (int m = 1; m <= p; ++m) row += choose(features[static_cast<std::size_t>(m - 1)] + m - 1, m);
    double* out = &state[static_cast<std::size_t>(row * width)];
    for (std::int64_t j = 0; j < tokens; ++j) {
      double weight = std::exp(gates[static_cast<std::size_t>(tokens - 1)] - gates[static_cast<std::size_t>(j)]);
      for (const std::int64_t f : features) weight *= s.k[static_cast<std::size_t>(j * s.d + f)];
      for (std::int64_t n = 0; n < s.e; ++n) out[n] += weight * s.v[static_cast<std::size_t>(j * s.e + n)];
      out[s.e] += weight;
    }
    // The next sorted tuple: raise the first feature that is below its successor, and start over before it.
    std::size_t m = 0;
    while (m + 1 < features.size() && features[m] == features[m + 1]) ++m;
    if (features[m] + 1 == s.d) return state;
    ++features[m];
    for (std::size_t i = 0; i < m; ++i) features[i] = 0;
  }
}

}  // namespace phitune::kernel_test
