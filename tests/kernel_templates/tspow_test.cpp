// The order of the state's rows: everything else (kernels, oracle, canonical states) trusts it.
#include "kernel_templates/common/tspow.cuh"

#include <cmath>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace phitune {
namespace {

struct Case {
  int d, p, w;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> list;
    for (const int d : {16, 32, 64, 128})
      for (int p = 1; p <= 4; ++p)
        for (const int w : {1, 2, 4, 8, 16})
          if ((p < 3 || d <= 64) && (p < 4 || d <= 32)) list.push_back({d, p, w});
    return list;
  }();
  return all;
}

// phi by the recursion as the header states it, in double, with the features of each row alongside.
void expand(const std::vector<double>& x, int p, int w, std::vector<double>& phi, std::vector<std::vector<int>>& features) {
  if (p == 0) {
    phi = {1.0}, features = {{}};
    return;
  }
  std::vector<double> lower;
  std::vector<std::vector<int>> lower_features;
  expand(x, p - 1, w, lower, lower_features);
  const int tiles = static_cast<int>(x.size()) / w;
  phi.clear(), features.clear();
  for (int tile = 0; tile < tiles; ++tile) {
    for (int m = 0; m < tspow::rows(tile + 1, p - 1, w); ++m) {
      for (int j = 0; j < w; ++j) {
        phi.push_back(lower[m] * x[tile * w + j]);
        features.push_back(lower_features[m]);
        features.back().push_back(tile * w + j);
      }
    }
  }
}

std::vector<double> random_vector(int d, std::mt19937_64& rng) {
  std::normal_distribution<double> normal;
  std::vector<double> x(d);
  for (double& value : x) value = normal(rng);
  return x;
}

TEST(Tspow, RowCountsAreTheDesignTable) {
  EXPECT_EQ(tspow::rows(64, 2, 1), 2080);
  EXPECT_EQ(tspow::rows(8, 2, 8), 2304);
  EXPECT_EQ(tspow::rows(8, 2, 16), 9216);
  EXPECT_EQ(tspow::rows(16, 4, 1), 3876);
  EXPECT_EQ(tspow::rows(1, 4, 16), 65536);
  EXPECT_EQ(tspow::rows(16, 3, 2), 6528);
}

TEST(Tspow, DecodeFollowsTheRecursion) {
  std::mt19937_64 rng(7);
  for (const auto& [d, p, w] : cases()) {
    std::vector<double> phi;
    std::vector<std::vector<int>> features;
    expand(random_vector(d, rng), p, w, phi, features);
    ASSERT_EQ(static_cast<long long>(phi.size()), tspow::rows(d / w, p, w));
    for (std::size_t row = 0; row < phi.size(); ++row) {
      const tspow::Indices x = tspow::decode(static_cast<int>(row), p, w), bounded = tspow::decode(static_cast<int>(row), p, w, d / w);
      for (int k = 0; k < p; ++k) {
        ASSERT_EQ(x.i[k], features[row][k]) << "d" << d << " p" << p << " w" << w << " row " << row << " digit " << k;
        ASSERT_EQ(bounded.i[k], features[row][k]) << "d" << d << " p" << p << " w" << w << " row " << row << " digit " << k;
      }
    }
  }
}

TEST(Tspow, InnerProductIsThePower) {
  const std::uint64_t seed = 20240711;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  for (const auto& [d, p, w] : cases()) {
    const std::vector<double> q = random_vector(d, rng), k = random_vector(d, rng);
    double dot = 0, magnitude = 0, sum = 0;
    for (int i = 0; i < d; ++i) dot += q[i] * k[i], magnitude += std::abs(q[i] * k[i]);
    for (int row = 0; row < tspow::rows(d / w, p, w); ++row) {
      const tspow::Indices x = tspow::decode(row, p, w);
      double term = tspow::multiplicity(x, p, w);
      for (int i = 0; i < p; ++i) term *= q[x.i[i]] * k[x.i[i]];
      sum += term;
    }
    EXPECT_NEAR(sum, std::pow(dot, p), 1e-10 * std::pow(magnitude, p)) << "d" << d << " p" << p << " w" << w;
  }
}

TEST(Tspow, EveryMonomialHasOneSortedRowAndOneEntry) {
  for (const auto& [d, p, w] : cases()) {
    const long long exact = tspow::rows(d, p, 1);
    std::set<int> written;
    for (int row = 0; row < tspow::rows(d / w, p, w); ++row) {
      const tspow::Indices x = tspow::decode(row, p, w);
      const int entry = tspow::exact_index(x, p);
      ASSERT_GE(entry, 0);
      ASSERT_LT(entry, exact);
      if (w == 1) {
        ASSERT_EQ(entry, row);
      }
      if (tspow::is_sorted(x, p)) {
        ASSERT_TRUE(written.insert(entry).second) << "entry " << entry << " is written twice";
      }
    }
    EXPECT_EQ(static_cast<long long>(written.size()), exact) << "d" << d << " p" << p << " w" << w;
  }
}

TEST(Tspow, UsableInConstantExpressions) {
  static_assert(tspow::rows(8, 2, 8) == 2304);
  static_assert(tspow::decode(2303, 2, 8).i[1] == 63);
  static_assert(tspow::multiplicity(tspow::decode(0, 4, 8), 4, 8) == 1);
  static_assert(tspow::multiplicity(tspow::decode(64, 2, 8), 2, 8) == 2);
}

}  // namespace
}  // namespace phitune
