#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <span>
#include <stdexcept>

#include "harness/verify/denominator_oracle.hpp"
#include "harness/verify/materialized_oracle.hpp"
#include "harness/verify/oracle.hpp"
#include "harness/verify/parallel.hpp"
#include "harness/verify/stage_samples.hpp"

namespace phitune {
namespace stage_oracle {
namespace {

std::vector<Check> gates_checks(Context& c) {
  Check check = c.check(Buffer::gates, gate_tolerance());
  for (const auto& [b, head, n] : sample_chunks(c, c.p.hk, c.chunks)) {
    const std::vector<double> gates = c.gates(b, head, n);
    const std::int64_t run = std::min<std::int64_t>(kRun, static_cast<std::int64_t>(gates.size()));
    for (const std::int64_t start : {std::int64_t{0}, c.draw(gates.size() - run + 1), static_cast<std::int64_t>(gates.size()) - run}) {
      const std::int64_t token = (b * c.p.hk + head) * c.p.t + n * c.chunk + start;
      check.rows.push_back({.offset = 2 * token, .stride = 2, .sum_of = 2, .reference = {&gates[start], &gates[start] + run}});
    }
  }
  return {check};
}

std::vector<Check> attention_checks(Context& c) {
  const bool whole = c.stage.shape.fusion == Fusion::quadratic;
  const BufferShape y = buffer_shape(Buffer::y, c.stage);
  Check out = c.check(whole ? Buffer::y : Buffer::partial, tolerance_of(c.p.dtype));
  // The path sm90 sums the weights as they are multiplied, rounded to the operands' dtype.
  Check row_sums = c.check(Buffer::row_sum, tolerance_of(c.stage.path == Path::sm90 ? c.p.dtype : Dtype::fp32));
  const std::int64_t group = c.p.hq / c.p.hk;
  for (const auto& [b, hk, n] : sample_chunks(c, c.p.hk, c.chunks)) {
    std::vector<QueryRow> rows;
    for (const std::int64_t token : sample_tokens(c, n))
      rows.push_back({.token = token, .head = hk * group + c.draw(group), .numerator = {}});
    attend(c.stage, c.seed, InputKind::normal, b, hk, n * c.chunk, rows, !whole && c.sum());
    for (QueryRow& row : rows) {
      if (!whole) {
        const std::int64_t index = (b * c.p.hq + row.head) * c.p.t + row.token;
        out.rows.push_back({.offset = index * c.p.e, .reference = row.numerator});
        // The only score of a chunk's first token may happen to be near zero: rounding is relative to what it was summed from.
        row_sums.rows.push_back({.offset = index, .reference = {row.denominator}, .condition = row.denominator_condition});
        continue;
      }
      for (double& value : row.numerator) value = c.sum() ? (row.denominator == 0 ? 0 : value / row.denominator) : value;
      out.rows.push_back({.offset = b * y.strides.b + row.token * y.strides.t + row.head * y.strides.h, .reference = row.numerator});
    }
  }
  if (whole || !c.sum()) return {out};
  return {out, row_sums};
}

/// exp(G_end - G_j) [phi(k_j)_r v_j, phi(k_j)_r] summed over the chunk, for runs of positions, one run after another.
std::vector<std::vector<double>> update_rows(const Context& c, const ChunkOfHead& at, std::span<const std::int64_t> starts) {
  const auto count = static_cast<std::int64_t>(starts.size()) * kRun;
  const InputTensor k = c.input(Buffer::k), v = c.input(Buffer::v);
  const std::vector<double> gates = c.gates(at.b, at.head, at.n);
  std::vector<std::vector<double>> sums(count, std::vector<double>(c.p.e + 1, 0.0));
  std::vector<tspow::Indices> features;
  for (const std::int64_t start : starts)
    for (std::int64_t r = 0; r < kRun; ++r) features.push_back(features_at(c, start + r));
  for (std::int64_t j = 0; j < static_cast<std::int64_t>(gates.size()); ++j) {
    const std::vector<double> key = token_row(c, k, c.p.hk, at.b, at.n * c.chunk + j, at.head);
    const std::vector<double> value = token_row(c, v, c.p.hk, at.b, at.n * c.chunk + j, at.head);
    const double decay = std::exp(gates.back() - gates[j]);
    for (std::int64_t r = 0; r < count; ++r) {
      const double x = decay * product(c, features[static_cast<std::size_t>(r)], key);
      for (std::int64_t i = 0; i < c.p.e; ++i) sums[r][i] += x * value[i];
      sums[r][c.p.e] += x;
    }
  }
  return sums;
}

std::vector<Check> update_state_checks(Context& c) {
  Check update = c.check(Buffer::update, c.state_tolerance()), z = c.check(Buffer::update_z, c.state_tolerance());
  const std::int64_t rows = c.stage.rows();
  struct Run {
    ChunkOfHead at;
    std::int64_t start;
    std::vector<std::vector<double>> sums = {};
  };
  std::vector<Run> runs;
  for (const ChunkOfHead& at : sample_chunks(c, c.p.hk, c.p.final_state ? c.chunks : c.chunks - 1)) {
    for (const std::int64_t start : sample_runs(c, rows)) runs.push_back({at, start});
  }
  if (runs.empty()) return {};
  parallel_for(runs.size(), [&](std::size_t i) { runs[i].sums = update_rows(c, runs[i].at, std::span(&runs[i].start, 1)); });
  for (Run& run : runs) {
    const std::int64_t matrix = (run.at.b * c.p.hk + run.at.head) * c.chunks + run.at.n;
    CheckRow z_row{.offset = matrix * rows + run.start, .reference = {}};
    for (std::int64_t r = 0; r < kRun; ++r) {
      z_row.reference.push_back(run.sums[r].back());
      run.sums[r].pop_back();
      update.rows.push_back(state_check(c, matrix, run.start + r, std::move(run.sums[r])));
    }
    z.rows.push_back(std::move(z_row));
  }
  if (!c.sum()) return {update};
  if (c.denominator_matrix()) return {update, update_denominator_check(c)};
  return {update, z};
}

/// Of one position: S before every chunk and after the last, [e values, z], without multiplicity and scale, from what each chunk adds.
std::vector<std::vector<double>> scan_row(const Context& c, std::int64_t head, std::int64_t position, const std::vector<double>& decays,
                                          const std::function<void(std::int64_t chunk, std::span<double> out)>& update) {
  const std::int64_t width = c.p.e + (c.sum() ? 1 : 0);
  std::vector<double> state(width, 0.0), added(width);
  if (c.p.initial_state) {
    const std::int64_t entry = tspow::exact_index(features_at(c, position), static_cast<int>(c.p.p));
    const std::int64_t offset = (head * state_rows(c.p.d, c.p.p, 1) + entry) * (c.p.e + 1);
    input_row(c.input(Buffer::initial_state), offset, state);
  }
  std::vector<std::vector<double>> states{state};
  for (std::int64_t n = 0; n < c.chunks; ++n) {
    update(n, added);
    for (std::int64_t i = 0; i < width; ++i) state[i] = decays[n] * state[i] + added[i];
    states.push_back(state);
  }
  return states;
}

std::vector<double> chunk_decays(const Context& c, std::int64_t head) {
  std::vector<double> decays(c.chunks, 1.0);
  if (!c.p.gated) return decays;
  parallel_for(decays.size(),
               [&](std::size_t n) { decays[n] = std::exp(c.gates(head / c.p.hk, head % c.p.hk, static_cast<std::int64_t>(n)).back()); });
  return decays;
}

/// Scanned rows of runs of positions of one head, one run after another.
using ScannedRows = std::vector<std::vector<std::vector<double>>>;

/// From the updates that scan is given.
ScannedRows scan_of_inputs(const Context& c, std::int64_t head, const std::vector<std::int64_t>& starts, const std::vector<double>& decays) {
  const InputTensor update = c.input(Buffer::update);
  const bool z_in_update = c.stage.shape.fusion == Fusion::materialized;
  ScannedRows rows(starts.size() * kRun);
  parallel_for(rows.size(), [&](std::size_t i) {
    const std::int64_t position = starts[i / kRun] + static_cast<std::int64_t>(i % kRun);
    rows[i] = scan_row(c, head, position, decays, [&](std::int64_t n, std::span<double> out) {
      const std::int64_t matrix = head * c.chunks + n;
      state_input(c, update, matrix, position, c.sum() && !z_in_update ? out.first(c.p.e) : out);
      if (!c.sum() || z_in_update) return;
      const tspow::Indices x = features_at(c, position);
      out.back() = c.denominator_matrix() ? drawn_share(c, matrix, x.i[0], x.i[1])
                                          : input_value(c.input(Buffer::update_z), matrix * c.stage.rows() + position);
    });
  });
  return rows;
}

/// From keys and values.
ScannedRows scan_of_tokens(const Context& c, std::int64_t head, const std::vector<std::int64_t>& starts, const std::vector<double>& decays) {
  std::vector<std::vector<std::vector<double>>> updates(c.chunks);
  parallel_for(updates.size(), [&](std::size_t n) {
    updates[n] = update_rows(c, {.b = head / c.p.hk, .head = head % c.p.hk, .n = static_cast<std::int64_t>(n)}, starts);
  });
  ScannedRows rows(starts.size() * kRun);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::int64_t position = starts[i / kRun] + static_cast<std::int64_t>(i % kRun);
    rows[i] = scan_row(c, head, position, decays, [&](std::int64_t n, std::span<double> out) {
      std::copy_n(updates[n][i].begin(), out.size(), out.begin());
    });
  }
  return rows;
}

/// `values`: how far S's values may be off; `sums`: its denominators, which are two or three terms each, and the final state.
std::vector<Check> states_checks(Context& c, Tolerance values, Tolerance sums, decltype(scan_of_inputs)& scanned, Shares shares) {
  const bool bf16 = c.stage.shape.state == Dtype::bf16, in_columns = c.sum() && !c.denominator_matrix();
  Check state = c.check(Buffer::state, values), z = c.check(in_columns ? Buffer::state : Buffer::state_z, sums);
  Check final_state = c.check(Buffer::final_state, sums);
  const std::int64_t rows = c.stage.rows(), heads = c.p.b * c.p.hk;
  // Denominators of a run stand below each other: in cores as far as a core matrix goes.
  const std::int64_t z_stride = c.cores() ? core_side : c.columns(), z_count = c.cores() ? core_side : kRun;
  for (const std::int64_t head : std::set<std::int64_t>{0, heads - 1, c.draw(heads)}) {
    std::set<std::int64_t> chunks{0, std::min<std::int64_t>(1, c.chunks - 1), c.chunks - 1};
    for (int i = 0; i < 2; ++i) chunks.insert(c.draw(c.chunks));
    const std::vector<std::int64_t> starts = sample_runs(c, rows, 2);
    const std::vector<double> decays = chunk_decays(c, head);
    const ScannedRows states = scanned(c, head, starts, decays);
    if (c.denominator_matrix()) add_denominator_rows(c, shares, head, std::vector(chunks.begin(), chunks.end()), decays, z);
    for (std::size_t run = 0; run < starts.size(); ++run) {
      for (const std::int64_t n : chunks) {
        const std::int64_t matrix = head * c.chunks + n;
        for (std::int64_t r = 0; r < kRun; ++r) {
          const std::int64_t position = starts[run] + r;
          const tspow::Indices indices = features_at(c, position);
          const double factor = tspow::multiplicity(indices, static_cast<int>(c.p.p), static_cast<int>(c.stage.shape.d_tile)) *
                                std::pow(c.p.scale(), static_cast<double>(c.p.p));
          std::vector<double> row = states[run * kRun + r][n];
          for (double& value : row) value *= factor;
          if (in_columns && r % z_count == 0) {
            const std::int64_t first = state_element(c, matrix, position, c.p.e);
            z.rows.push_back({.offset = first, .stride = z_stride, .sum_of = bf16 ? 3 : 2, .reference = {}});
          }
          if (in_columns) z.rows.back().reference.push_back(row.back());
          row.resize(c.p.e);
          state.rows.push_back(state_check(c, matrix, position, std::move(row)));
        }
      }
      for (std::int64_t r = 0; r < kRun; ++r) {
        const tspow::Indices indices = features_at(c, starts[run] + r);
        if (!tspow::is_sorted(indices, static_cast<int>(c.p.p))) continue;
        const std::int64_t entry = tspow::exact_index(indices, static_cast<int>(c.p.p));
        final_state.rows.push_back(
            {.offset = (head * state_rows(c.p.d, c.p.p, 1) + entry) * (c.p.e + 1), .reference = states[run * kRun + r].back()});
      }
    }
  }
  std::vector<Check> checks{std::move(state)};
  if (c.sum()) checks.push_back(std::move(z));
  if (c.p.final_state) checks.push_back(std::move(final_state));
  return checks;
}

std::vector<Check> scan_checks(Context& c) {
  return states_checks(c, tolerance_of(c.stage.shape.state), tolerance_of(Dtype::fp32), scan_of_inputs, Shares::drawn);
}

std::vector<Check> update_scan_checks(Context& c) {
  return states_checks(c, c.state_tolerance(), c.state_tolerance(), scan_of_tokens, Shares::of_keys);
}

/// phi(q)_r S_r summed over all rows for several queries of one chunk, whose state is number `matrix`: [e values, z].
std::vector<std::vector<double>> query_products(const Context& c, const InputTensor& state, std::int64_t matrix,
                                                const std::vector<std::vector<double>>& queries) {
  const std::int64_t rows = c.stage.rows(), columns = c.columns();
  std::vector<std::vector<double>> sums(queries.size(), std::vector<double>(c.p.e + 1, 0.0));
  std::vector<double> row(columns);
  for (std::int64_t r = 0; r < rows; ++r) {
    state_input(c, state, matrix, r, row);
    for (std::int64_t i = c.p.e + 1; i < columns; ++i) row[c.p.e] += row[i];
    const tspow::Indices indices = features_at(c, r);
    for (std::size_t query = 0; query < queries.size(); ++query) {
      const double x = product(c, indices, queries[query]);
      for (std::int64_t i = 0; i < std::min(columns, c.p.e + 1); ++i) sums[query][i] += x * row[i];
    }
  }
  if (c.denominator_matrix()) {
    for (std::size_t query = 0; query < queries.size(); ++query) sums[query][c.p.e] = query_denominator(c, matrix, queries[query]);
  }
  return sums;
}

std::vector<Check> query_state_checks(Context& c) {
  Check check = c.check(Buffer::y, tolerance_of(c.p.dtype));
  const std::int64_t group = c.p.hq / c.p.hk;
  const InputTensor q = c.input(Buffer::q), state = c.input(Buffer::state);
  const std::vector<ChunkOfHead> chunks = sample_chunks(c, c.p.hq, c.chunks);
  std::vector<std::vector<std::int64_t>> tokens;
  for (const ChunkOfHead& at : chunks) tokens.push_back(sample_tokens(c, at.n));
  std::vector<std::vector<CheckRow>> rows(chunks.size());
  parallel_for(chunks.size(), [&](std::size_t i) {
    const ChunkOfHead& at = chunks[i];
    const std::int64_t kv_head = at.b * c.p.hk + at.head / group;
    const std::vector<double> gates = c.gates(at.b, at.head / group, at.n);
    std::vector<std::vector<double>> queries;
    for (const std::int64_t token : tokens[i]) queries.push_back(token_row(c, q, c.p.hq, at.b, token, at.head));
    const auto sums = query_products(c, state, kv_head * c.chunks + at.n, queries);
    for (std::size_t j = 0; j < queries.size(); ++j) {
      rows[i].push_back(normalised_row(c, at, tokens[i][j], std::exp(gates[tokens[i][j] - at.n * c.chunk]), sums[j]));
    }
  });
  for (auto& part : rows) std::ranges::move(part, std::back_inserter(check.rows));
  return {check};
}

std::vector<Check> attend_query_checks(Context& c) {
  Check check = c.check(Buffer::y, tolerance_of(c.p.dtype));
  const BufferShape y = buffer_shape(Buffer::y, c.stage);
  const std::int64_t group = c.p.hq / c.p.hk;
  const InputTensor q = c.input(Buffer::q), state = c.input(Buffer::state);
  const std::vector<ChunkOfHead> chunks = sample_chunks(c, c.p.hk, c.chunks);
  std::vector<std::vector<QueryRow>> rows(chunks.size());
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    for (const std::int64_t token : sample_tokens(c, chunks[i].n))
      rows[i].push_back({.token = token, .head = chunks[i].head * group + c.draw(group), .numerator = {}});
    attend(c.stage, c.seed, InputKind::normal, chunks[i].b, chunks[i].head, chunks[i].n * c.chunk, rows[i], false);
  }
  // y = (sum_j w_ij v_j + exp(G_i) phi(q_i) S) / (sum_j w_ij + exp(G_i) phi(q_i) z)
  parallel_for(chunks.size(), [&](std::size_t i) {
    const ChunkOfHead& at = chunks[i];
    const std::vector<double> gates = c.gates(at.b, at.head, at.n);
    std::vector<std::vector<double>> queries;
    for (const QueryRow& row : rows[i]) queries.push_back(token_row(c, q, c.p.hq, at.b, row.token, row.head));
    const auto sums = query_products(c, state, (at.b * c.p.hk + at.head) * c.chunks + at.n, queries);
    for (std::size_t r = 0; r < rows[i].size(); ++r) {
      QueryRow& row = rows[i][r];
      const double decay = std::exp(gates[row.token - at.n * c.chunk]);
      const double denominator = c.sum() ? row.denominator + decay * sums[r][c.p.e] : 1;
      for (std::int64_t n = 0; n < c.p.e; ++n) row.numerator[n] = (row.numerator[n] + decay * sums[r][n]) / denominator;
    }
  });
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    for (QueryRow& row : rows[i])
      check.rows.push_back({.offset = chunks[i].b * y.strides.b + row.token * y.strides.t + row.head * y.strides.h,
                            .reference = std::move(row.numerator)});
  }
  return {check};
}

}  // namespace
}  // namespace stage_oracle

std::vector<Check> stage_checks(const StageProblem& stage, std::uint64_t seed) {
  using namespace stage_oracle;
  Context c(stage, seed);
  switch (stage.stage) {
    case Stage::gates:
      return gates_checks(c);
    case Stage::attention:
      return attention_checks(c);
    case Stage::update_state:
      return update_state_checks(c);
    case Stage::scan:
      return scan_checks(c);
    case Stage::update_scan:
      return update_scan_checks(c);
    case Stage::query_state:
      return query_state_checks(c);
    case Stage::attend_query:
      return attend_query_checks(c);
    case Stage::expand_key:
      return expand_key_checks(c);
    case Stage::expand_query:
      return expand_query_checks(c);
    case Stage::update_gemm:
      return update_gemm_checks(c);
    case Stage::query_gemm:
      return query_gemm_checks(c);
    case Stage::combine:
      return combine_checks(c);
  }
  throw std::logic_error("unknown stage");
}

}  // namespace phitune
