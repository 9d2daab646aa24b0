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

#include "kernel_templates/common/numeric.cuh"

namespace phitune::tspow {

PHITUNE_DEVICE constexpr long long choose(long long n, long long k) {
  long long c = 1;
  for (long long i = 1; i <= k; ++i) c = c * (n - k + i) / i;
  return c;
}

PHITUNE_DEVICE constexpr long long power(long long base, int exponent) {
  long long v = 1;
  for (int i = 0; i < exponent; ++i) v *= base;
  return v;
}

/// Rows of `tiles` tiles of width w at degree p.
PHITUNE_DEVICE constexpr long long rows(long long tiles, int p, int w) { return choose(tiles + p - 1, p) * power(w, p); }

inline constexpr int max_degree = 4;

/// The features whose product a row is: i[0] in its lowest tile, i[p-1] the fastest digit in its highest.
struct Indices {
  int i[max_degree] = {};
};

/// choose(j + p - 1, p) in 32 bits: the non-decreasing p-tuples of numbers below j. Enough for every state phitune allows.
PHITUNE_DEVICE constexpr int tuples(int j, int p) {
  // Spelt out, so that every division is by a constant (and unsigned, as all numbers here: signed ones are rounded to zero at a price).
  const u32 n = static_cast<u32>(j);
  if (p == 1) return j;
  const u32 pairs = n * (n + 1) / 2;
  if (p == 2) return static_cast<int>(pairs);
  const u32 triples = pairs * (n + 2) / 3;
  return static_cast<int>(p == 3 ? triples : triples * (n + 3) / 4);
}

/// Bounds of a tile whose tuples(j, p) is less than 2^16: 361 for p = 2, 73 for p = 3, 34 for p = 4.
inline constexpr int most_tiles = 512;

/// The largest j below `tiles` with tuples(j, p) <= tuple; `tuple` is less than 2^16.
PHITUNE_DEVICE constexpr int highest_tile(int tuple, int p, int tiles = most_tiles) {
  if (p == 1) return tuple;
  int first = p == 2 ? 256 : p == 3 ? 64 : 32;
  while (first > 0 && first >= tiles) first /= 2;
  int j = 0;
  PHITUNE_UNROLL
  for (int step = first; step > 0; step /= 2) {
    if (tuples(j + step, p) <= tuple) j += step;
  }
  return j;
}

/// Features of row `row` of degree p with tiles w wide; row is at least 0 (rows past the end give features past the end, unless `tiles` says
/// that there are none: it bounds the tiles, for fewer steps).
PHITUNE_DEVICE constexpr Indices decode(int row, int p, int w, int tiles = most_tiles) {
  Indices result;
  const u32 block = static_cast<u32>(power(w, p)), width = static_cast<u32>(w);
  u32 local = static_cast<u32>(row) % block;
  int tuple = static_cast<int>(static_cast<u32>(row) / block);
  PHITUNE_UNROLL
  for (int k = p - 1; k >= 0; --k) {
    const int tile = highest_tile(tuple, k + 1, tiles);
    tuple -= tuples(tile, k + 1);
    result.i[k] = tile * w + static_cast<int>(local % width);
    local /= width;
  }
  return result;
}

/// How many orderings the row's tile multi-index has: the factor by which this one row stands for all of them.
PHITUNE_DEVICE constexpr int multiplicity(const Indices& x, int p, int w) {
  int orderings = 1, run = 1;
  PHITUNE_UNROLL
  for (int k = 1; k < p; ++k) {
    run = x.i[k] / w == x.i[k - 1] / w ? run + 1 : 1;
    orderings = orderings * (k + 1) / run;
  }
  return orderings;
}

/// Whether this is the one row of its monomial whose features are in order.
PHITUNE_DEVICE constexpr bool is_sorted(const Indices& x, int p) {
  bool sorted = true;
  PHITUNE_UNROLL
  for (int k = 1; k < p; ++k) sorted = sorted && x.i[k - 1] <= x.i[k];
  return sorted;
}

/// Entry of a canonical state that holds the row's monomial: the colexicographic rank sum_k choose(i_(k) + k - 1, k) of its sorted
/// features. Equals the row number when w is 1.
PHITUNE_DEVICE constexpr int exact_index(Indices x, int p) {
  PHITUNE_UNROLL
  for (int end = p - 1; end > 0; --end) {
    PHITUNE_UNROLL
    for (int k = 0; k < end; ++k) {
      const int low = x.i[k] < x.i[k + 1] ? x.i[k] : x.i[k + 1];
      const int high = x.i[k] < x.i[k + 1] ? x.i[k + 1] : x.i[k];
      x.i[k] = low, x.i[k + 1] = high;
    }
  }
  int rank = 0;
  PHITUNE_UNROLL
  for (int k = 0; k < p; ++k) rank += tuples(x.i[k], k + 1);
  return rank;
}

}  // namespace phitune::tspow
