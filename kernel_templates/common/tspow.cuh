// The order of the state's rows: the tiled symmetric power of a d-vector, of degree P with tiles W wide (Buckman et al., arXiv:2507.04239,
// section on the expanded state). One definition for kernels, oracle and tests.
//
// Row r of degree p is built recursively. For the last tile J = 0, 1, ...: the rows of degree p-1 whose tiles are all <= J (these are the
// first rows<W>(J+1, p-1) rows of degree p-1), each times the W features of tile J:
//
//     phi_p(x)[ rows(J, p) + m * W + j ] = phi_{p-1}(x)[m] * x[J * W + j]          m < rows(J + 1, p - 1),  j < W
//     rows(T, p) = C(T + p - 1, p) * W^p                                           rows of T tiles
//
// phi itself is the plain product of features. A row whose tile multi-index has several distinct orderings stands for all of them; that
// multiplicity is applied once, to S by the scan, together with scale^p, so that sum_r mult_r phi(q)_r phi(k)_r = <q,k>^p exactly.
//
// Canonical states (initial_state, final_state) are d_tile 1 moments without multiplicity: entry exact_index(i) with i sorted.
#pragma once

namespace phitune::tspow {

constexpr long long choose(long long n, long long k) {
  long long c = 1;
  for (long long i = 1; i <= k; ++i) c = c * (n - k + i) / i;
  return c;
}

constexpr long long power(long long base, int exponent) {
  long long v = 1;
  for (int i = 0; i < exponent; ++i) v *= base;
  return v;
}

/// Rows of `tiles` tiles of width w at degree p.
constexpr long long rows(long long tiles, int p, int w) { return choose(tiles + p - 1, p) * power(w, p); }

}  // namespace phitune::tspow
