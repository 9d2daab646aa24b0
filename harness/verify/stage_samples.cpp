#include "harness/verify/stage_samples.hpp"

#include <cmath>
#include <set>

namespace phitune::stage_oracle {

std::vector<ChunkOfHead> sample_chunks(Context& c, std::int64_t heads, std::int64_t chunks) {
  if (chunks <= 0) return {};
  std::set<ChunkOfHead> out{
      {0, 0, 0}, {c.p.b - 1, heads - 1, chunks - 1}, {c.draw(c.p.b), c.draw(heads), std::min<std::int64_t>(1, chunks - 1)}};
  for (int i = 0; i < 2; ++i) out.insert({c.draw(c.p.b), c.draw(heads), c.draw(chunks)});
  return {out.begin(), out.end()};
}

std::vector<std::int64_t> sample_tokens(Context& c, std::int64_t n) {
  const std::int64_t begin = n * c.chunk, size = c.chunk_end(n) - begin;
  std::set<std::int64_t> out{begin, begin + size - 1};
  for (const std::int64_t offset : {1, 15, 16, 63, 64, 127, 128}) {
    if (offset < size) out.insert(begin + offset);
  }
  for (int i = 0; i < 3; ++i) out.insert(begin + c.draw(size));
  return {out.begin(), out.end()};
}

std::vector<std::int64_t> sample_runs(Context& c, std::int64_t rows, int drawn) {
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

tspow::Indices features_at(const Context& c, std::int64_t position) {
  if (!c.cores()) return features_of(c, position);
  return features_of(c, core_row(static_cast<int>(position), static_cast<int>(c.p.p), static_cast<int>(c.stage.shape.d_tile)));
}

std::int64_t state_element(const Context& c, std::int64_t matrix, std::int64_t position, std::int64_t column) {
  const std::int64_t columns = c.columns(), first = matrix * c.stage.rows() * columns;
  if (!c.cores()) return first + position * columns + column;
  return first + core_element(static_cast<int>(position), static_cast<int>(column), static_cast<int>(columns));
}

CheckRow state_check(const Context& c, std::int64_t matrix, std::int64_t position, std::vector<double> reference) {
  return {.offset = state_element(c, matrix, position, 0),
          .stride = c.cores() ? core_elements : 1,
          .run = c.cores() ? core_side : 1,
          .reference = std::move(reference)};
}

void state_input(const Context& c, const InputTensor& tensor, std::int64_t matrix, std::int64_t position, std::span<double> out) {
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = input_value(tensor, state_element(c, matrix, position, static_cast<std::int64_t>(i)));
}

double product(const Context& c, const tspow::Indices& indices, std::span<const double> x) {
  double value = 1;
  for (std::int64_t k = 0; k < c.p.p; ++k) value *= x[indices.i[k]];
  return value;
}

std::vector<double> token_row(const Context& c, const InputTensor& x, std::int64_t heads, std::int64_t b, std::int64_t token,
                              std::int64_t head) {
  std::vector<double> row(x.shape.width);
  input_row(x, ((b * c.p.t + token) * heads + head) * x.shape.width, row);
  return row;
}

CheckRow normalised_row(const Context& c, const ChunkOfHead& at, std::int64_t token, double decay, const std::vector<double>& sums) {
  const BufferShape y = buffer_shape(Buffer::y, c.stage);
  const std::int64_t index = (at.b * c.p.hq + at.head) * c.p.t + token;
  CheckRow row{.offset = at.b * y.strides.b + token * y.strides.t + at.head * y.strides.h, .reference = std::vector<double>(c.p.e)};
  input_row(c.input(Buffer::partial), index * c.p.e, row.reference);
  const double denominator = c.sum() ? input_value(c.input(Buffer::row_sum), index) + decay * sums[c.p.e] : 1;
  for (std::int64_t i = 0; i < c.p.e; ++i) row.reference[i] = (row.reference[i] + decay * sums[i]) / denominator;
  return row;
}

}  // namespace phitune::stage_oracle
