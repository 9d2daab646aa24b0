// Float64 references for sampled rows of real-size problems, from inputs regenerated on the CPU. DESIGN section 2; Buckman et al.,
// arXiv:2507.04239.
#pragma once

#include <cstdint>
#include <vector>

#include "harness/verify/check.hpp"
#include "harness/verify/inputs.hpp"

namespace phitune {

/// One row of the quadratic form: query head and token; filled by attend().
struct QueryRow {
  std::int64_t token = 0, head = 0;
  std::vector<double> numerator;  // e: sum_j w_ij v_j
  double denominator = 0;         // sum_j w_ij
  // Sums of exp(G_i - G_j) (s^2 sum_f q_f^2 k_f^2)^(p/2), times |v_j| and plain: the size of an expanded sum's terms, which rounding errors
  // are relative to when w itself cancels. Only when asked for.
  double numerator_condition = 0, denominator_condition = 0;
};

/// w_ij = (s <q_i, k_j>)^p exp(G_i - G_j) over the tokens begin <= j <= i of kv head `hk`. All rows belong to that head's group.
/// Cost: (last token - begin) * (d + e) * rows; on all cores.
void attend(const StageProblem& problem, std::uint64_t seed, InputKind kind, std::int64_t b, std::int64_t hk, std::int64_t begin,
            std::vector<QueryRow>& rows, bool conditions);

/// log_g of tokens begin .. end-1 of a head, summed from `begin`: element i is G of token begin + i. Zeros when ungated.
[[nodiscard]] std::vector<double> cumulative_gates(const StageProblem& problem, std::uint64_t seed, InputKind kind, std::int64_t b,
                                                   std::int64_t hk, std::int64_t begin, std::int64_t end);

/// Rows of y, and entries of the final state, of the whole problem: edges of tokens, heads and chunks always, the rest drawn by `seed`.
[[nodiscard]] std::vector<Check> plan_checks(const Problem& problem, std::uint64_t seed, InputKind kind);

/// Sampled rows of everything a stage writes, given its inputs of kind normal.
[[nodiscard]] std::vector<Check> stage_checks(const StageProblem& problem, std::uint64_t seed);

}  // namespace phitune
