#include "harness/verify/materialized_oracle.hpp"

#include <cmath>

namespace phitune::stage_oracle {
namespace {

/// phi of a token's row, runs of it; zeros for tokens past the end.
void add_expanded(Context& c, Check& check, const InputTensor& x, std::int64_t heads, const ChunkOfHead& at, std::int64_t token,
                  double factor) {
  const std::int64_t base = ((at.b * heads + at.head) * c.chunks * c.chunk + token) * c.stage.rows();
  const std::vector<double> row = token < c.p.t ? token_row(c, x, heads, at.b, token, at.head) : std::vector<double>(c.p.d, 0.0);
  for (const std::int64_t start : sample_runs(c, c.stage.rows())) {
    CheckRow run{.offset = base + start, .reference = {}};
    for (std::int64_t r = 0; r < kRun; ++r) run.reference.push_back(factor * product(c, features_of(c, start + r), row));
    check.rows.push_back(std::move(run));
  }
}

}  // namespace

std::vector<Check> expand_key_checks(Context& c) {
  Check phi = c.check(Buffer::phi_k, c.state_tolerance()), ones = c.check(Buffer::v_aug, tolerance_of(c.stage.shape.state));
  const InputTensor k = c.input(Buffer::k), v = c.input(Buffer::v);
  const std::int64_t columns = state_columns(c.p, Path::sm80);
  for (const ChunkOfHead& at : sample_chunks(c, c.p.hk, c.chunks)) {
    const std::vector<double> gates = c.gates(at.b, at.head, at.n);
    std::vector<std::int64_t> tokens = sample_tokens(c, at.n);
    if (c.chunk_end(at.n) < (at.n + 1) * c.chunk) tokens.push_back((at.n + 1) * c.chunk - 1);
    for (const std::int64_t token : tokens) {
      const bool real = token < c.p.t;
      add_expanded(c, phi, k, c.p.hk, at, token, real ? std::exp(gates.back() - gates[token - at.n * c.chunk]) : 0);
      if (!real) continue;
      std::vector<double> row = token_row(c, v, c.p.hk, at.b, token, at.head);
      row.resize(columns, 0.0);
      if (c.sum()) row[c.p.e] = 1;
      ones.rows.push_back({.offset = ((at.b * c.p.hk + at.head) * c.chunks * c.chunk + token) * columns, .reference = std::move(row)});
    }
  }
  return {phi, ones};
}

std::vector<Check> expand_query_checks(Context& c) {
  Check phi = c.check(Buffer::phi_q, c.state_tolerance());
  const InputTensor q = c.input(Buffer::q);
  for (const ChunkOfHead& at : sample_chunks(c, c.p.hq, c.chunks)) {
    for (const std::int64_t token : sample_tokens(c, at.n)) add_expanded(c, phi, q, c.p.hq, at, token, 1);
  }
  return {phi};
}

// Matrix products of drawn operands; fp32 out, so the operands' rounding to tf32 is the coarsest there can be.
std::vector<Check> update_gemm_checks(Context& c) {
  Check check = c.check(Buffer::update, tolerance_of(Dtype::fp16));
  const InputTensor phi = c.input(Buffer::phi_k), v = c.input(Buffer::v_aug);
  const std::int64_t rows = c.stage.rows(), columns = state_columns(c.p, Path::sm80);
  for (const ChunkOfHead& at : sample_chunks(c, c.p.hk, c.chunks)) {
    const std::int64_t head = at.b * c.p.hk + at.head, first = (head * c.chunks + at.n) * c.chunk;
    const std::vector<std::int64_t> sampled{0, rows - 1, c.draw(rows), c.draw(rows)};
    std::vector<std::vector<double>> sums(sampled.size(), std::vector<double>(columns, 0.0));
    std::vector<double> value(columns);
    for (std::int64_t j = 0; j < c.chunk; ++j) {
      input_row(v, (first + j) * columns, value);
      for (std::size_t r = 0; r < sampled.size(); ++r) {
        const double x = input_value(phi, (first + j) * rows + sampled[r]);
        for (std::int64_t i = 0; i < columns; ++i) sums[r][i] += x * value[i];
      }
    }
    for (std::size_t r = 0; r < sampled.size(); ++r) {
      check.rows.push_back({.offset = ((head * c.chunks + at.n) * rows + sampled[r]) * columns, .reference = std::move(sums[r])});
    }
  }
  return {check};
}

std::vector<Check> query_gemm_checks(Context& c) {
  Check check = c.check(Buffer::inter, tolerance_of(Dtype::fp16));
  const InputTensor phi = c.input(Buffer::phi_q), state = c.input(Buffer::state);
  const std::int64_t rows = c.stage.rows(), columns = state_columns(c.p, Path::sm80), group = c.p.hq / c.p.hk;
  for (const ChunkOfHead& at : sample_chunks(c, c.p.hq, c.chunks)) {
    const std::int64_t first_state = ((at.b * c.p.hk + at.head / group) * c.chunks + at.n) * rows * columns;
    const std::int64_t first_token = ((at.b * c.p.hq + at.head) * c.chunks + at.n) * c.chunk;
    const std::vector<std::int64_t> sampled{0, c.chunk - 1, c.draw(c.chunk), c.draw(c.chunk)};
    std::vector<std::vector<double>> sums(sampled.size(), std::vector<double>(columns, 0.0));
    std::vector<double> row(columns);
    for (std::int64_t r = 0; r < rows; ++r) {
      input_row(state, first_state + r * columns, row);
      for (std::size_t j = 0; j < sampled.size(); ++j) {
        const double x = input_value(phi, (first_token + sampled[j]) * rows + r);
        for (std::int64_t i = 0; i < columns; ++i) sums[j][i] += x * row[i];
      }
    }
    for (std::size_t j = 0; j < sampled.size(); ++j) {
      check.rows.push_back({.offset = (first_token + sampled[j]) * columns, .reference = std::move(sums[j])});
    }
  }
  return {check};
}

std::vector<Check> combine_checks(Context& c) {
  Check check = c.check(Buffer::y, tolerance_of(c.p.dtype));
  const InputTensor inter = c.input(Buffer::inter);
  const std::int64_t columns = state_columns(c.p, Path::sm80), group = c.p.hq / c.p.hk;
  for (const ChunkOfHead& at : sample_chunks(c, c.p.hq, c.chunks)) {
    const std::vector<double> gates = c.gates(at.b, at.head / group, at.n);
    for (const std::int64_t token : sample_tokens(c, at.n)) {
      std::vector<double> sums(columns);
      input_row(inter, ((at.b * c.p.hq + at.head) * c.chunks * c.chunk + token) * columns, sums);
      for (std::int64_t i = c.p.e + 1; i < columns; ++i) sums[c.p.e] += sums[i];
      check.rows.push_back(normalised_row(c, at, token, std::exp(gates[token - at.n * c.chunk]), sums));
    }
  }
  return {check};
}

}  // namespace phitune::stage_oracle
