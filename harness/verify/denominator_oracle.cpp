#include "harness/verify/denominator_oracle.hpp"

#include <cmath>
#include <set>

#include "harness/verify/parallel.hpp"

namespace phitune::stage_oracle {

namespace {

int width(const Context& c) { return static_cast<int>(c.p.d); }
std::int64_t entries(const Context& c) { return c.p.d * c.p.d; }

/// First, last and two drawn features.
std::vector<int> sample_features(Context& c) {
  std::set<int> out{0, width(c) - 1};
  for (int i = 0; i < 2; ++i) out.insert(static_cast<int>(c.draw(c.p.d)));
  return {out.begin(), out.end()};
}

/// Row `feature` of the sum of exp(G_end - G_j) k_j k_j^T over a chunk's tokens.
std::vector<double> share_of_keys(const Context& c, const ChunkOfHead& at, int feature) {
  const InputTensor k = c.input(Buffer::k);
  const std::vector<double> gates = c.gates(at.b, at.head, at.n);
  std::vector<double> out(c.p.d, 0.0);
  for (std::size_t j = 0; j < gates.size(); ++j) {
    const std::vector<double> key = token_row(c, k, c.p.hk, at.b, at.n * c.chunk + static_cast<std::int64_t>(j), at.head);
    const double x = std::exp(gates.back() - gates[j]) * key[feature];
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += x * key[i];
  }
  return out;
}

std::vector<double> share(const Context& c, Shares shares, std::int64_t head, std::int64_t chunk, int feature) {
  if (shares == Shares::of_keys) return share_of_keys(c, {.b = head / c.p.hk, .head = head % c.p.hk, .n = chunk}, feature);
  std::vector<double> out(c.p.d);
  for (int other = 0; other < width(c); ++other) out[other] = drawn_share(c, head * c.chunks + chunk, feature, other);
  return out;
}

std::vector<double> initial_row(const Context& c, std::int64_t head, int feature) {
  std::vector<double> out(c.p.d, 0.0);
  if (!c.p.initial_state) return out;
  const InputTensor initial = c.input(Buffer::initial_state);
  for (int other = 0; other < width(c); ++other) {
    tspow::Indices x;
    x.i[0] = feature, x.i[1] = other;
    out[other] = input_value(initial, (head * state_rows(c.p.d, 2, 1) + tspow::exact_index(x, 2)) * (c.p.e + 1) + c.p.e);
  }
  return out;
}

}  // namespace

Check update_denominator_check(Context& c) {
  Check check = c.check(Buffer::update_z, c.state_tolerance());
  struct Row {
    ChunkOfHead at;
    int feature;
    std::vector<double> values = {};
  };
  std::vector<Row> rows;
  for (const ChunkOfHead& at : sample_chunks(c, c.p.hk, c.p.final_state ? c.chunks : c.chunks - 1)) {
    for (const int feature : sample_features(c)) rows.push_back({at, feature});
  }
  parallel_for(rows.size(), [&](std::size_t i) { rows[i].values = share_of_keys(c, rows[i].at, rows[i].feature); });
  for (const Row& row : rows) {
    const std::int64_t first = ((row.at.b * c.p.hk + row.at.head) * c.chunks + row.at.n) * entries(c);
    // Four entries of every eight lie beside each other.
    for (const int half : {0, 4}) {
      CheckRow part{.offset = first + denominator_share(row.feature, half, width(c)), .stride = core_elements / 2, .run = 4, .reference = {}};
      for (int other = half; other < width(c); other += 8) part.reference.insert(part.reference.end(), &row.values[other], &row.values[other] + 4);
      check.rows.push_back(std::move(part));
    }
  }
  return check;
}

void add_denominator_rows(Context& c, Shares shares, std::int64_t head, std::span<const std::int64_t> chunks, const std::vector<double>& decays,
                          Check& check) {
  const std::vector<int> features = sample_features(c);
  std::vector<std::vector<std::vector<double>>> states(features.size());
  parallel_for(features.size(), [&](std::size_t i) {
    std::vector<double> state = initial_row(c, head, features[i]);
    for (std::int64_t n = 0; n < c.chunks; ++n) {
      states[i].push_back(state);
      if (n + 1 == c.chunks) break;
      const std::vector<double> added = share(c, shares, head, n, features[i]);
      for (std::size_t k = 0; k < state.size(); ++k) state[k] = decays[n] * state[k] + added[k];
    }
  });
  for (std::size_t i = 0; i < features.size(); ++i) {
    for (const std::int64_t n : chunks) {
      CheckRow row{.offset = (head * c.chunks + n) * 2 * entries(c) + denominator_element(features[i], 0, 0, width(c)),
                   .stride = core_elements,
                   .run = core_side,
                   .sum_of = 2,
                   .sum_stride = denominator_element(0, 0, 1, width(c)),
                   .reference = states[i][n]};
      for (double& value : row.reference) value *= std::pow(c.p.scale(), 2.0);
      check.rows.push_back(std::move(row));
    }
  }
}

double drawn_share(const Context& c, std::int64_t matrix, int feature, int other) {
  return input_value(c.input(Buffer::update_z), matrix * entries(c) + denominator_share(feature, other, width(c)));
}

double query_denominator(const Context& c, std::int64_t matrix, std::span<const double> query) {
  const InputTensor z = c.input(Buffer::state_z);
  double sum = 0;
  for (int feature = 0; feature < width(c); ++feature) {
    for (int other = 0; other < width(c); ++other) {
      for (const int part : {0, 1})
        sum += query[feature] * query[other] * input_value(z, matrix * 2 * entries(c) + denominator_element(feature, other, part, width(c)));
    }
  }
  return sum;
}

}  // namespace phitune::stage_oracle
