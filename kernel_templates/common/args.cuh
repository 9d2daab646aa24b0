// What every stage kernel receives, by value. Shared by the host side and the kernels; plain types only.
#pragma once

namespace phitune {

/// Strides in elements; the innermost axis (d or e) is contiguous. All are multiples of 8 for 16-bit tensors.
struct Strides {
  long long b = 0, t = 0, h = 0;
};

/// U and S are row-major, or in core matrices with update_z by position (state_layout.cuh), as all stages of a plan agree.
/// Shapes: n = chunks, D = state rows, R = state row length = e + 8 with normalisation sum (columns e.. hold the denominator) else e. With a
/// denominator matrix (state_layout.cuh; core matrices of degree 2) R is e, and update_z and state_z are matrices of d x d.
struct Args {
  const void* q = nullptr;              // (b, t, hq, d) by q_strides
  const void* k = nullptr;              // (b, t, hk, d)
  const void* v = nullptr;              // (b, t, hk, e)
  const float* log_g = nullptr;         // (b, t, hk); null when ungated
  void* y = nullptr;                    // (b, t, hq, e)
  Strides q_strides, k_strides, v_strides, g_strides, y_strides;

  float* gates = nullptr;               // [b][hk][t][2]: inclusive cumulative gate since the chunk's start, as a sum hi + lo
  void* partial = nullptr;              // [b][hq][t][e], partial dtype: attention's unnormalised output
  float* row_sum = nullptr;             // [b][hq][t]: attention's denominators
  void* update = nullptr;               // U [b][hk][n][D][R], state dtype; columns >= e are written by scan alone. materialized: always
                                        // fp32, column e holds the sums of phi(k) (update_z is null), and state is other memory
  float* update_z = nullptr;            // [b][hk][n][D]: sums of phi(k), the denominator's share of U; or [b][hk][n][d][d]: of k k^T
  void* state = nullptr;                // S [b][hk][n][D][R], state dtype: the state before chunk n, times multiplicity and scale^p;
                                        // may be the same memory as update
  void* state_z = nullptr;              // Z [b][hk][n][2d][d], bf16, times scale^2; may be the same memory as update_z
  const float* initial_state = nullptr; // [b][hk][D1][e+1], D1 = state_rows(d, p, 1): plain moments, see tspow.cuh
  float* final_state = nullptr;         // likewise, after the last token

  unsigned* progress = nullptr;         // [b][hk][slices][n]: parts of U that are written, zero at first (update_scan; slices <= D / 64)

  void* weighed = nullptr;              // [b][hk][tiles of 128 keys], then their exponents (sm90/key_weigher.cuh)

  void* phi_k = nullptr;                // [b][hk][n*chunk][D]  (materialized)
  void* phi_q = nullptr;                // [b][hq][n*chunk][D]  (materialized)
  void* v_aug = nullptr;                // [b][hk][n*chunk][R]  (materialized): v with the column of ones
  float* inter = nullptr;               // [b][hq][n*chunk][R]  (materialized): phi(Q) S

  int b = 0, t = 0, hq = 0, hk = 0;
  int chunk = 0;                        // tokens per chunk; for quadratic, t
  int chunks = 0;                       // n = ceil(t / chunk)
  float scale = 1;
};

}  // namespace phitune
