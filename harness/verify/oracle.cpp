#include "harness/verify/oracle.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <set>

#include "harness/verify/parallel.hpp"

namespace phitune {

namespace {

constexpr std::int64_t kTokenBlock = 512;
// A weight of e^-120 is below fp32's range and 1e-36 of double's resolution beside the row's own token, whose gate is 1.
constexpr double kForgotten = -120;

double integer_power(double x, std::int64_t p) {
  double result = 1;
  for (std::int64_t i = 0; i < p; ++i) result *= x;
  return result;
}

// Four chains, since the compiler may not reorder a sum of doubles.
double dot(std::span<const double> a, std::span<const double> b) {
  std::array<double, 4> sum{};
  std::size_t i = 0;
  for (; i + 4 <= a.size(); i += 4) {
    for (std::size_t lane = 0; lane < 4; ++lane) sum[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < a.size(); ++i) sum[0] += a[i] * b[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

std::vector<double> squared(std::span<const double> x) {
  std::vector<double> out(x.begin(), x.end());
  for (double& value : out) value *= value;
  return out;
}

/// What attend() needs of one query row beside its sums.
struct Query {
  std::vector<double> scaled, squares;
  double gate = 0;
};

struct Attention {
  const StageProblem& stage;
  InputTensor k, v;
  std::int64_t b, hk, begin;
  std::vector<double> gates;
  std::vector<Query> queries;
  bool conditions;
};

/// Adds tokens first .. last-1 to `sums`, which are parallel to `rows`.
void add_tokens(const Attention& attention, std::int64_t first, std::int64_t last, const std::vector<QueryRow>& rows,
                std::vector<QueryRow>& sums) {
  const Problem& p = attention.stage.problem;
  std::vector<double> key(p.d), value(p.e), key_squares;
  for (std::int64_t j = first; j < last; ++j) {
    const std::int64_t row = (attention.b * p.t + j) * p.hk + attention.hk;
    input_row(attention.k, row * p.d, key);
    input_row(attention.v, row * p.e, value);
    if (attention.conditions) key_squares = squared(key);
    const double value_size = attention.conditions ? std::sqrt(dot(value, value)) : 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (rows[r].token < j) continue;
      const Query& query = attention.queries[r];
      const double exponent = query.gate - attention.gates[j - attention.begin];
      if (exponent < kForgotten) continue;
      const double decay = std::exp(exponent);
      const double w = integer_power(dot(query.scaled, key), p.p) * decay;
      sums[r].denominator += w;
      for (std::int64_t i = 0; i < p.e; ++i) sums[r].numerator[i] += w * value[i];
      if (!attention.conditions) continue;
      const double size = std::pow(dot(query.squares, key_squares), static_cast<double>(p.p) / 2) * decay;
      sums[r].denominator_condition += size;
      sums[r].numerator_condition += size * value_size;
    }
  }
}

void accumulate(QueryRow& into, const QueryRow& part) {
  for (std::size_t i = 0; i < into.numerator.size(); ++i) into.numerator[i] += part.numerator[i];
  into.denominator += part.denominator;
  into.numerator_condition += part.numerator_condition;
  into.denominator_condition += part.denominator_condition;
}

/// The initial state's share, straight from the pseudo-tokens whose moments it holds: as if they stood before token 0 with gate 0.
void add_initial_state(const StageProblem& stage, std::uint64_t seed, InputKind kind, std::int64_t b, std::int64_t hk,
                       const std::vector<double>& gates, std::vector<QueryRow>& rows) {
  const Problem& p = stage.problem;
  const InputTensor state = input_tensor(Buffer::initial_state, stage, seed, kind);
  const InputTensor q = input_tensor(Buffer::q, stage, seed, kind);
  const u64 head = static_cast<u64>(b * p.hk + hk);
  std::vector<double> query(p.d), key(p.d), value(p.e);
  for (QueryRow& row : rows) {
    input_row(q, ((b * p.t + row.token) * p.hq + row.head) * p.d, query);
    for (int m = 0; m < inputs::kPseudoTokens; ++m) {
      for (std::int64_t i = 0; i < p.d; ++i) key[i] = inputs::pseudo_feature(state.spec, head, m, static_cast<int>(i)) / 4.0;
      for (std::int64_t i = 0; i < p.e; ++i) value[i] = inputs::pseudo_feature(state.spec, head, m, static_cast<int>(p.d + i)) / 4.0;
      const double decay = std::exp(gates[row.token]);
      const double w = integer_power(p.scale() * dot(query, key), p.p) * decay;
      row.denominator += w;
      for (std::int64_t i = 0; i < p.e; ++i) row.numerator[i] += w * value[i];
      const double size = std::pow(p.scale() * p.scale() * dot(squared(query), squared(key)), static_cast<double>(p.p) / 2) * decay;
      row.denominator_condition += size;
      row.numerator_condition += size * std::sqrt(dot(value, value));
    }
  }
}

}  // namespace

std::vector<double> cumulative_gates(const StageProblem& stage, std::uint64_t seed, InputKind kind, std::int64_t b, std::int64_t hk,
                                     std::int64_t begin, std::int64_t end) {
  const Problem& p = stage.problem;
  std::vector<double> gates(end - begin, 0.0);
  if (!p.gated) return gates;
  const InputTensor log_g = input_tensor(Buffer::log_g, stage, seed, kind);
  double sum = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    sum += input_value(log_g, (b * p.t + i) * p.hk + hk);
    gates[i - begin] = sum;
  }
  return gates;
}

void attend(const StageProblem& stage, std::uint64_t seed, InputKind kind, std::int64_t b, std::int64_t hk, std::int64_t begin,
            std::vector<QueryRow>& rows, bool conditions) {
  const Problem& p = stage.problem;
  if (rows.empty()) return;
  const std::int64_t end = 1 + std::ranges::max_element(rows, {}, &QueryRow::token)->token;
  Attention attention{.stage = stage,
                      .k = input_tensor(Buffer::k, stage, seed, kind),
                      .v = input_tensor(Buffer::v, stage, seed, kind),
                      .b = b,
                      .hk = hk,
                      .begin = begin,
                      .gates = cumulative_gates(stage, seed, kind, b, hk, begin, end),
                      .queries = {},
                      .conditions = conditions};
  const InputTensor q = input_tensor(Buffer::q, stage, seed, kind);
  for (QueryRow& row : rows) {
    row.numerator.assign(p.e, 0.0);
    row.denominator = row.numerator_condition = row.denominator_condition = 0;
    Query query{.scaled = std::vector<double>(p.d), .squares = {}, .gate = attention.gates[row.token - begin]};
    input_row(q, ((b * p.t + row.token) * p.hq + row.head) * p.d, query.scaled);
    for (double& x : query.scaled) x *= p.scale();
    query.squares = squared(query.scaled);
    attention.queries.push_back(std::move(query));
  }
  // The pieces, and the order in which they are added up, do not depend on the number of cores.
  const std::size_t pieces = (end - begin + kTokenBlock - 1) / kTokenBlock;
  std::vector<std::vector<QueryRow>> parts(pieces, rows);
  parallel_for(pieces, [&](std::size_t piece) {
    const std::int64_t first = begin + static_cast<std::int64_t>(piece) * kTokenBlock;
    add_tokens(attention, first, std::min(end, first + kTokenBlock), rows, parts[piece]);
  });
  for (const auto& part : parts) {
    for (std::size_t r = 0; r < rows.size(); ++r) accumulate(rows[r], part[r]);
  }
}

namespace {

/// Tokens where something begins or ends for some chunk or tile size, and a few others.
std::vector<std::int64_t> sample_tokens(std::int64_t t, std::mt19937_64& rng) {
  std::set<std::int64_t> tokens;
  for (const std::int64_t token : {0, 1, 15, 16, 63, 64, 65, 127, 128, 255, 256, 511, 512, 1023, 1024, 2047, 2048, 4095, 4096, 4097}) {
    if (token < t) tokens.insert(token);
  }
  tokens.insert(t - 1);
  tokens.insert((t - 1) / 64 * 64);
  for (int i = 0; i < 10; ++i) tokens.insert(static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(t)));
  return {tokens.begin(), tokens.end()};
}

/// First, last and one drawn kv head.
std::vector<std::pair<std::int64_t, std::int64_t>> sample_heads(const Problem& p, std::mt19937_64& rng) {
  const std::int64_t heads = p.b * p.hk;
  const std::set<std::int64_t> chosen{0, heads - 1, static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(heads))};
  std::vector<std::pair<std::int64_t, std::int64_t>> out;
  for (const std::int64_t head : chosen) out.emplace_back(head / p.hk, head % p.hk);
  return out;
}

CheckRow output_row(const Problem& p, const BufferShape& y, std::int64_t b, const QueryRow& row, bool conditions) {
  CheckRow out{.offset = b * y.strides.b + row.token * y.strides.t + row.head * y.strides.h, .reference = row.numerator};
  double condition = row.numerator_condition;
  if (p.normalisation == Normalisation::sum) {
    for (double& value : out.reference) value = row.denominator == 0 ? 0 : value / row.denominator;
    const double size = std::sqrt(dot(out.reference, out.reference));
    condition = row.denominator == 0 ? 0 : (condition + size * row.denominator_condition) / row.denominator;
  }
  if (conditions) out.condition = condition;
  return out;
}

/// Canonical moments after the last token: sum_j exp(G_t - G_j) prod_f k_j[f] [v_j, 1], plus the initial state decayed by exp(G_t).
Check final_state_check(const StageProblem& stage, std::uint64_t seed, InputKind kind, std::mt19937_64& rng) {
  const Problem& p = stage.problem;
  const std::int64_t rows = state_rows(p.d, p.p, 1), width = p.e + 1;
  const InputTensor k = input_tensor(Buffer::k, stage, seed, kind), v = input_tensor(Buffer::v, stage, seed, kind);
  Check check{.buffer = Buffer::final_state, .dtype = Dtype::fp32, .tolerance = tolerance_of(p.dtype), .rows = {}};
  check.operands = p.dtype;
  for (const auto& [b, hk] : sample_heads(p, rng)) {
    const std::vector<double> gates = cumulative_gates(stage, seed, kind, b, hk, 0, p.t);
    std::vector<std::vector<std::int64_t>> features;
    for (int i = 0; i < 12; ++i) {
      std::vector<std::int64_t> sorted(p.p, i == 0 ? 0 : p.d - 1);
      if (i > 1) std::ranges::generate(sorted, [&] { return static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(p.d)); });
      std::ranges::sort(sorted);
      features.push_back(std::move(sorted));
    }
    std::vector<std::vector<double>> sums(features.size(), std::vector<double>(width, 0.0));
    // Terms of either sign: their rounding errors add up as their squares do, and a row that is mostly its denominator may cancel.
    std::vector<double> squares(features.size(), 0.0);
    parallel_for(features.size(), [&](std::size_t f) {
      std::vector<double> value(p.e);
      for (std::int64_t j = 0; j < p.t; ++j) {
        const double decay = std::exp(gates[p.t - 1] - gates[j]);
        if (decay == 0) continue;
        const std::int64_t token = (b * p.t + j) * p.hk + hk;
        double product = decay;
        for (const std::int64_t feature : features[f]) product *= input_value(k, token * p.d + feature);
        input_row(v, token * p.e, value);
        for (std::int64_t i = 0; i < p.e; ++i) sums[f][i] += product * value[i];
        sums[f][p.e] += product;
        squares[f] += product * product * (dot(value, value) + (p.normalisation == Normalisation::none ? 0 : 1));
      }
    });
    for (std::size_t f = 0; f < features.size(); ++f) {
      std::int64_t rank = 0;
      for (std::int64_t i = 0; i < p.p; ++i) rank += inputs::choose(features[f][i] + i, static_cast<int>(i + 1));
      const std::int64_t offset = ((b * p.hk + hk) * rows + rank) * width;
      if (p.initial_state) {
        const InputTensor initial = input_tensor(Buffer::initial_state, stage, seed, kind);
        for (std::int64_t i = 0; i < width; ++i) sums[f][i] += std::exp(gates[p.t - 1]) * input_value(initial, offset + i);
      }
      if (p.normalisation == Normalisation::none) sums[f].pop_back();
      check.rows.push_back({.offset = offset, .reference = std::move(sums[f]), .condition = std::sqrt(squares[f])});
    }
  }
  return check;
}

}  // namespace

std::vector<Check> plan_checks(const Problem& problem, std::uint64_t seed, InputKind kind) {
  const StageProblem stage{.problem = problem, .shape = {.fusion = Fusion::quadratic}, .stage = Stage::attention};
  const bool conditions = kind != InputKind::normal;
  const BufferShape y = buffer_shape(Buffer::y, stage);
  const std::int64_t group = problem.hq / problem.hk;
  std::mt19937_64 rng(seed);
  Check check{.buffer = Buffer::y, .dtype = problem.dtype, .tolerance = tolerance_of(problem.dtype), .rows = {}};
  check.cancels = conditions;
  for (const auto& [b, hk] : sample_heads(problem, rng)) {
    std::vector<QueryRow> rows;
    for (const std::int64_t token : sample_tokens(problem.t, rng)) {
      const auto member = static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(group));
      rows.push_back({.token = token, .head = hk * group + member, .numerator = {}});
    }
    attend(stage, seed, kind, b, hk, 0, rows, conditions);
    if (problem.initial_state) {
      add_initial_state(stage, seed, kind, b, hk, cumulative_gates(stage, seed, kind, b, hk, 0, problem.t), rows);
    }
    for (const QueryRow& row : rows) check.rows.push_back(output_row(problem, y, b, row, conditions));
  }
  std::vector<Check> checks{std::move(check)};
  if (problem.final_state) checks.push_back(final_state_check(stage, seed, kind, rng));
  return checks;
}

}  // namespace phitune
