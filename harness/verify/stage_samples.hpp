// What the references of every stage are made from: the sampled chunks, tokens and rows, and where their values stand. Internal to the
// stage oracles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <tuple>
#include <vector>

#include "harness/verify/oracle.hpp"
#include "kernel_templates/common/state_layout.cuh"
#include "kernel_templates/common/tspow.cuh"
#include "kernel_templates/stage_template.hpp"

namespace phitune::stage_oracle {

/// Rows of a state or of phi are compared in runs of as many.
inline constexpr std::int64_t kRun = 16;

/// A stage's problem and the draws of its samples.
struct Context {
  const StageProblem& stage;
  const Problem& p;
  std::uint64_t seed;
  std::mt19937_64 rng;
  std::int64_t chunk, chunks;

  Context(const StageProblem& s, std::uint64_t input_seed)
      : stage(s),
        p(s.problem),
        seed(input_seed),
        rng(input_seed),
        chunk(s.shape.chunk == 0 ? s.problem.t : s.shape.chunk),
        chunks(s.chunks()) {}

  [[nodiscard]] InputTensor input(Buffer buffer) const { return input_tensor(buffer, stage, seed, InputKind::normal); }
  [[nodiscard]] std::int64_t draw(std::int64_t below) { return static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(below)); }
  [[nodiscard]] std::int64_t chunk_end(std::int64_t n) const { return std::min(p.t, (n + 1) * chunk); }
  [[nodiscard]] bool sum() const { return p.normalisation == Normalisation::sum; }
  /// Denominators are a matrix beside the state, not columns of it.
  [[nodiscard]] bool denominator_matrix() const { return has_denominator_matrix(p, stage.shape.path); }
  /// R.
  [[nodiscard]] std::int64_t columns() const { return state_columns(p, stage.shape.path); }
  [[nodiscard]] bool cores() const { return stage.shape.path == Path::sm90; }
  [[nodiscard]] std::vector<double> gates(std::int64_t b, std::int64_t hk, std::int64_t n) const {
    return cumulative_gates(stage, seed, InputKind::normal, b, hk, n * chunk, chunk_end(n));
  }
  [[nodiscard]] Check check(Buffer buffer, Tolerance tolerance) const {
    return {.buffer = buffer, .dtype = buffer_shape(buffer, stage).dtype, .tolerance = tolerance, .rows = {}};
  }
  /// Coarsest rounding of a product formed from phi in the state's dtype: bf16, or tf32 with fp16's significand.
  [[nodiscard]] Tolerance state_tolerance() const { return tolerance_of(stage.shape.state == Dtype::bf16 ? Dtype::bf16 : Dtype::fp16); }
};

struct ChunkOfHead {
  std::int64_t b, head, n;
  bool operator<(const ChunkOfHead& o) const { return std::tie(b, head, n) < std::tie(o.b, o.head, o.n); }
};

/// First, second, last and two drawn chunks below `chunks`, on first, last and drawn heads.
[[nodiscard]] std::vector<ChunkOfHead> sample_chunks(Context& c, std::int64_t heads, std::int64_t chunks);
/// Tokens of a chunk where tiles begin and end, and a few others; ascending.
[[nodiscard]] std::vector<std::int64_t> sample_tokens(Context& c, std::int64_t n);
/// Starts of runs of `kRun` rows: the first, the last and `drawn` others. In cores they start with a core matrix.
[[nodiscard]] std::vector<std::int64_t> sample_runs(Context& c, std::int64_t rows, int drawn = 4);

/// Features of a row of a state.
[[nodiscard]] tspow::Indices features_of(const Context& c, std::int64_t row);
/// Features of what a state holds at a position: of core matrices, or simply a row.
[[nodiscard]] tspow::Indices features_at(const Context& c, std::int64_t position);
/// Element of the buffers update and state that holds (position, column) of state number `matrix`.
[[nodiscard]] std::int64_t state_element(const Context& c, std::int64_t matrix, std::int64_t position, std::int64_t column);
/// The values of such a row, one per column, to be compared.
[[nodiscard]] CheckRow state_check(const Context& c, std::int64_t matrix, std::int64_t position, std::vector<double> reference);
/// The first values of such a row of an input.
void state_input(const Context& c, const InputTensor& tensor, std::int64_t matrix, std::int64_t position, std::span<double> out);
/// The product of x at `indices`: one value of phi(x).
[[nodiscard]] double product(const Context& c, const tspow::Indices& indices, std::span<const double> x);
/// A token's row of the input x, which has `heads` heads.
[[nodiscard]] std::vector<double> token_row(const Context& c, const InputTensor& x, std::int64_t heads, std::int64_t b, std::int64_t token,
                                            std::int64_t head);
/// y = (partial + decay * sums) / (row_sum + decay * sums[e]), from the drawn partial and row_sum.
[[nodiscard]] CheckRow normalised_row(const Context& c, const ChunkOfHead& at, std::int64_t token, double decay,
                                      const std::vector<double>& sums);

}  // namespace phitune::stage_oracle
