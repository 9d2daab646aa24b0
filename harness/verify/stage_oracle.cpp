#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <stdexcept>

#include "harness/verify/oracle.hpp"
#include "harness/verify/parallel.hpp"
#include "kernel_templates/common/state_layout.cuh"
#include "kernel_templates/common/tspow.cuh"
#include "kernel_templates/stage_template.hpp"

namespace phitune {

namespace {

constexpr std::int64_t kRun = 16;

/// What every stage's references are made from.
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
  [[nodiscard]] bool cores() const { return stage.shape.layout == StateLayout::cores; }
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
std::vector<ChunkOfHead> sample_chunks(Context& c, std::int64_t heads, std::int64_t chunks) {
  if (chunks <= 0) return {};
  std::set<ChunkOfHead> out{
      {0, 0, 0}, {c.p.b - 1, heads - 1, chunks - 1}, {c.draw(c.p.b), c.draw(heads), std::min<std::int64_t>(1, chunks - 1)}};
  for (int i = 0; i < 2; ++i) out.insert({c.draw(c.p.b), c.draw(heads), c.draw(chunks)});
  return {out.begin(), out.end()};
}

/// Tokens of a chunk where tiles begin and end, and a few others; ascending.
std::vector<std::int64_t> sample_tokens(Context& c, std::int64_t n) {
  const std::int64_t begin = n * c.chunk, size = c.chunk_end(n) - begin;
  std::set<std::int64_t> out{begin, begin + size - 1};
  for (const std::int64_t offset : {1, 15, 16, 63, 64, 127, 128}) {
    if (offset < size) out.insert(begin + offset);
  }
  for (int i = 0; i < 3; ++i) out.insert(begin + c.draw(size));
  return {out.begin(), out.end()};
}

/// Starts of runs of `kRun` rows: the first, the last and `drawn` others. In cores they start with a core matrix.
std::vector<std::int64_t> sample_runs(Context& c, std::int64_t rows, int drawn = 4) {
  std::set<std::int64_t> out{0, rows - kRun};
  for (int i = 0; i < drawn; ++i) out.insert(c.draw(rows - kRun + 1));
  if (!c.cores()) return {out.begin(), out.end()};
  std::set<std::int64_t> aligned;
  for (const std::int64_t start : out) aligned.insert(start / core_side * core_side);
  return {aligned.begin(), aligned.end()};
}

tspow::Indices features_of(const Context& c, std::int64_t row) {
  return tspow::decode(static_cast<int>(row), static_cast<int>(c.p.p), static_cast<int>(c.stage.shape.d_tile));
}

/// Features of what a state holds at a position: of core matrices, or simply a row.
tspow::Indices features_at(const Context& c, std::int64_t position) {
  if (!c.cores()) return features_of(c, position);
  return features_of(c, core_row(static_cast<int>(position), static_cast<int>(c.p.p), static_cast<int>(c.stage.shape.d_tile)));
}

/// Element of the buffers update and state that holds (position, column) of state number `matrix`.
std::int64_t state_element(const Context& c, std::int64_t matrix, std::int64_t position, std::int64_t column) {
  const std::int64_t columns = state_columns(c.p), first = matrix * c.stage.rows() * columns;
  if (!c.cores()) return first + position * columns + column;
  return first + core_element(static_cast<int>(position), static_cast<int>(column), static_cast<int>(columns));
}

/// The values of such a row, one per column, to be compared.
CheckRow state_check(const Context& c, std::int64_t matrix, std::int64_t position, std::vector<double> reference) {
  return {.offset = state_element(c, matrix, position, 0),
          .stride = c.cores() ? core_elements : 1,
          .run = c.cores() ? core_side : 1,
          .reference = std::move(reference)};
}

/// The first values of such a row of an input.
void state_input(const Context& c, const InputTensor& tensor, std::int64_t matrix, std::int64_t position, std::span<double> out) {
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = input_value(tensor, state_element(c, matrix, position, static_cast<std::int64_t>(i)));
}

double product(const Context& c, const tspow::Indices& indices, std::span<const double> x) {
  double value = 1;
  for (std::int64_t k = 0; k < c.p.p; ++k) value *= x[indices.i[k]];
  return value;
}

std::vector<double> features(const Context& c, const InputTensor& x, std::int64_t heads, std::int64_t b, std::int64_t token,
                             std::int64_t head) {
  std::vector<double> row(x.shape.width);
  input_row(x, ((b * c.p.t + token) * heads + head) * x.shape.width, row);
  return row;
}

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
  Check row_sums = c.check(Buffer::row_sum, tolerance_of(Dtype::fp32));
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

/// exp(G_end - G_j) [phi(k_j)_r v_j, phi(k_j)_r] summed over the chunk, for the positions of one run.
std::vector<std::vector<double>> update_rows(const Context& c, const ChunkOfHead& at, std::int64_t start, std::int64_t count) {
  const InputTensor k = c.input(Buffer::k), v = c.input(Buffer::v);
  const std::vector<double> gates = c.gates(at.b, at.head, at.n);
  std::vector<std::vector<double>> sums(count, std::vector<double>(c.p.e + 1, 0.0));
  for (std::int64_t j = 0; j < static_cast<std::int64_t>(gates.size()); ++j) {
    const std::vector<double> key = features(c, k, c.p.hk, at.b, at.n * c.chunk + j, at.head);
    const std::vector<double> value = features(c, v, c.p.hk, at.b, at.n * c.chunk + j, at.head);
    const double decay = std::exp(gates.back() - gates[j]);
    for (std::int64_t r = 0; r < count; ++r) {
      const double x = decay * product(c, features_at(c, start + r), key);
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
  parallel_for(runs.size(), [&](std::size_t i) { runs[i].sums = update_rows(c, runs[i].at, runs[i].start, kRun); });
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
  return {update, z};
}

/// The scan of one position: S before every chunk and after the last, [e values, z], without multiplicity and scale.
std::vector<std::vector<double>> scan_row(const Context& c, std::int64_t head, std::int64_t position, const std::vector<double>& decays) {
  const InputTensor update = c.input(Buffer::update);
  const bool z_in_update = c.stage.shape.fusion == Fusion::materialized;
  const std::int64_t width = c.p.e + (c.sum() ? 1 : 0);
  std::vector<double> state(width, 0.0), added(width);
  if (c.p.initial_state) {
    const std::int64_t entry = tspow::exact_index(features_at(c, position), static_cast<int>(c.p.p));
    const std::int64_t offset = (head * state_rows(c.p.d, c.p.p, 1) + entry) * (c.p.e + 1);
    input_row(c.input(Buffer::initial_state), offset, state);
  }
  std::vector<std::vector<double>> states{state};
  for (std::int64_t n = 0; n < c.chunks; ++n) {
    const std::int64_t matrix = head * c.chunks + n;
    state_input(c, update, matrix, position, added);
    if (c.sum() && !z_in_update) added.back() = input_value(c.input(Buffer::update_z), matrix * c.stage.rows() + position);
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

std::vector<Check> scan_checks(Context& c) {
  const bool bf16 = c.stage.shape.state == Dtype::bf16;
  Check state = c.check(Buffer::state, tolerance_of(c.stage.shape.state)), z = c.check(Buffer::state, tolerance_of(Dtype::fp32));
  Check final_state = c.check(Buffer::final_state, tolerance_of(Dtype::fp32));
  const std::int64_t rows = c.stage.rows(), heads = c.p.b * c.p.hk;
  // Denominators of a run stand below each other: in cores as far as a core matrix goes.
  const std::int64_t z_stride = c.cores() ? core_side : state_columns(c.p), z_count = c.cores() ? core_side : kRun;
  for (const std::int64_t head : std::set<std::int64_t>{0, heads - 1, c.draw(heads)}) {
    const std::vector<double> decays = chunk_decays(c, head);
    std::set<std::int64_t> chunks{0, std::min<std::int64_t>(1, c.chunks - 1), c.chunks - 1};
    for (int i = 0; i < 2; ++i) chunks.insert(c.draw(c.chunks));
    for (const std::int64_t start : sample_runs(c, rows, 2)) {
      std::vector<std::vector<std::vector<double>>> states(kRun);
      parallel_for(kRun, [&](std::size_t r) { states[r] = scan_row(c, head, start + static_cast<std::int64_t>(r), decays); });
      for (const std::int64_t n : chunks) {
        const std::int64_t matrix = head * c.chunks + n;
        for (std::int64_t r = 0; r < kRun; ++r) {
          const tspow::Indices indices = features_at(c, start + r);
          const double factor = tspow::multiplicity(indices, static_cast<int>(c.p.p), static_cast<int>(c.stage.shape.d_tile)) *
                                std::pow(c.p.scale(), static_cast<double>(c.p.p));
          std::vector<double> row = states[r][n];
          for (double& value : row) value *= factor;
          if (c.sum() && r % z_count == 0) {
            const std::int64_t first = state_element(c, matrix, start + r, c.p.e);
            z.rows.push_back({.offset = first, .stride = z_stride, .sum_of = bf16 ? 3 : 2, .reference = {}});
          }
          if (c.sum()) z.rows.back().reference.push_back(row.back());
          row.resize(c.p.e);
          state.rows.push_back(state_check(c, matrix, start + r, std::move(row)));
        }
      }
      for (std::int64_t r = 0; r < kRun; ++r) {
        const tspow::Indices indices = features_at(c, start + r);
        if (!tspow::is_sorted(indices, static_cast<int>(c.p.p))) continue;
        const std::int64_t entry = tspow::exact_index(indices, static_cast<int>(c.p.p));
        final_state.rows.push_back({.offset = (head * state_rows(c.p.d, c.p.p, 1) + entry) * (c.p.e + 1), .reference = states[r].back()});
      }
    }
  }
  std::vector<Check> checks{std::move(state)};
  if (c.sum()) checks.push_back(std::move(z));
  if (c.p.final_state) checks.push_back(std::move(final_state));
  return checks;
}

/// phi(q)_r S_r summed over all rows for several queries of one chunk, whose state is number `matrix`: [e values, z].
std::vector<std::vector<double>> query_products(const Context& c, const InputTensor& state, std::int64_t matrix,
                                                const std::vector<std::vector<double>>& queries) {
  const std::int64_t rows = c.stage.rows(), columns = state_columns(c.p);
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
  return sums;
}

/// y = (partial + decay * sums) / (row_sum + decay * sums[e]), from the drawn partial and row_sum.
CheckRow normalised_row(const Context& c, const ChunkOfHead& at, std::int64_t token, double decay, const std::vector<double>& sums) {
  const BufferShape y = buffer_shape(Buffer::y, c.stage);
  const std::int64_t index = (at.b * c.p.hq + at.head) * c.p.t + token;
  CheckRow row{.offset = at.b * y.strides.b + token * y.strides.t + at.head * y.strides.h, .reference = std::vector<double>(c.p.e)};
  input_row(c.input(Buffer::partial), index * c.p.e, row.reference);
  const double denominator = c.sum() ? input_value(c.input(Buffer::row_sum), index) + decay * sums[c.p.e] : 1;
  for (std::int64_t i = 0; i < c.p.e; ++i) row.reference[i] = (row.reference[i] + decay * sums[i]) / denominator;
  return row;
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
    for (const std::int64_t token : tokens[i]) queries.push_back(features(c, q, c.p.hq, at.b, token, at.head));
    const auto sums = query_products(c, state, kv_head * c.chunks + at.n, queries);
    for (std::size_t j = 0; j < queries.size(); ++j) {
      rows[i].push_back(normalised_row(c, at, tokens[i][j], std::exp(gates[tokens[i][j] - at.n * c.chunk]), sums[j]));
    }
  });
  for (auto& part : rows) std::ranges::move(part, std::back_inserter(check.rows));
  return {check};
}

std::vector<Check> combine_checks(Context& c) {
  Check check = c.check(Buffer::y, tolerance_of(c.p.dtype));
  const InputTensor inter = c.input(Buffer::inter);
  const std::int64_t columns = state_columns(c.p), group = c.p.hq / c.p.hk;
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

/// phi of a token's row, runs of it; zeros for tokens past the end.
void add_expanded(Context& c, Check& check, const InputTensor& x, std::int64_t heads, const ChunkOfHead& at, std::int64_t token,
                  double factor) {
  const std::int64_t base = ((at.b * heads + at.head) * c.chunks * c.chunk + token) * c.stage.rows();
  const std::vector<double> row = token < c.p.t ? features(c, x, heads, at.b, token, at.head) : std::vector<double>(c.p.d, 0.0);
  for (const std::int64_t start : sample_runs(c, c.stage.rows())) {
    CheckRow run{.offset = base + start, .reference = {}};
    for (std::int64_t r = 0; r < kRun; ++r) run.reference.push_back(factor * product(c, features_of(c, start + r), row));
    check.rows.push_back(std::move(run));
  }
}

std::vector<Check> expand_key_checks(Context& c) {
  Check phi = c.check(Buffer::phi_k, c.state_tolerance()), ones = c.check(Buffer::v_aug, tolerance_of(c.stage.shape.state));
  const InputTensor k = c.input(Buffer::k), v = c.input(Buffer::v);
  const std::int64_t columns = state_columns(c.p);
  for (const ChunkOfHead& at : sample_chunks(c, c.p.hk, c.chunks)) {
    const std::vector<double> gates = c.gates(at.b, at.head, at.n);
    std::vector<std::int64_t> tokens = sample_tokens(c, at.n);
    if (c.chunk_end(at.n) < (at.n + 1) * c.chunk) tokens.push_back((at.n + 1) * c.chunk - 1);
    for (const std::int64_t token : tokens) {
      const bool real = token < c.p.t;
      add_expanded(c, phi, k, c.p.hk, at, token, real ? std::exp(gates.back() - gates[token - at.n * c.chunk]) : 0);
      if (!real) continue;
      std::vector<double> row = features(c, v, c.p.hk, at.b, token, at.head);
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
  const std::int64_t rows = c.stage.rows(), columns = state_columns(c.p);
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
  const std::int64_t rows = c.stage.rows(), columns = state_columns(c.p), group = c.p.hq / c.p.hk;
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

}  // namespace

std::vector<Check> stage_checks(const StageProblem& stage, std::uint64_t seed) {
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
    case Stage::query_state:
      return query_state_checks(c);
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
