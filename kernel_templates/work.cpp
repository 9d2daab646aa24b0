#include <algorithm>
#include <cmath>
#include <limits>

#include "kernel_templates/stage_template.hpp"

namespace phitune {

namespace {

/// What the formulas below need of a problem cut into chunks, as doubles.
struct Sizes {
  double b, t, hq, hk, d, e;
  double chunk;          // tokens; t when there are no states
  double update_tokens;  // tokens whose sums some state holds: the last chunk's only with a final state
  double query_tokens;   // tokens that have a state before them: the first chunk's only with an initial state
  double states;         // states written: b * hk * chunks that have one before or after
  double element;        // bytes of an input element
  double z_bytes;        // bytes per state row for the denominator
};

Sizes sizes_of(const Problem& problem, std::int64_t chunk) {
  const std::int64_t size = chunk == 0 ? problem.t : std::min(chunk, problem.t);
  const std::int64_t chunks = (problem.t + size - 1) / size;
  const std::int64_t last = problem.t - (chunks - 1) * size;
  Sizes s{};
  s.b = double(problem.b), s.t = double(problem.t), s.hq = double(problem.hq), s.hk = double(problem.hk);
  s.d = double(problem.d), s.e = double(problem.e), s.chunk = double(size);
  s.update_tokens = double(problem.final_state ? problem.t : problem.t - last);
  s.query_tokens = double(problem.initial_state ? problem.t : problem.t - size);
  s.states = s.b * s.hk * double(std::max<std::int64_t>(problem.final_state ? chunks : chunks - 1, problem.initial_state ? chunks : 0));
  s.element = double(bytes(problem.dtype));
  s.z_bytes = problem.normalisation == Normalisation::sum ? 4 : 0;
  return s;
}

/// Pairs inside chunks cost (d + e) multiply-adds each, half of them masked: DESIGN section 2, with the ragged last chunk exact.
double attention_flops(const Sizes& s) {
  const double whole = std::floor(s.t / s.chunk), rest = s.t - whole * s.chunk;
  return s.b * s.hq * (whole * s.chunk * s.chunk + rest * rest) * (s.d + s.e);
}

double state_bytes(const Sizes& s, double rows, double dtype_bytes) { return s.states * rows * (s.e * dtype_bytes + s.z_bytes); }

double query_bytes(const Sizes& s) { return s.b * s.t * s.hq * s.d * s.element; }
double key_bytes(const Sizes& s) { return s.b * s.t * s.hk * s.d * s.element; }
double value_bytes(const Sizes& s) { return s.b * s.t * s.hk * s.e * s.element; }
double output_bytes(const Sizes& s) { return s.b * s.t * s.hq * s.e * s.element; }

/// Bytes of attention's unnormalised outputs with their row sums.
double partial_bytes(const Sizes& s, const StageProblem& stage) {
  return s.b * s.t * s.hq * (s.e * double(bytes(stage.shape.partial)) + s.z_bytes);
}

Work attention_work(const StageProblem& stage, const Sizes& s, double gate_bytes) {
  const double flops = attention_flops(s);
  const double written = stage.shape.fusion == Fusion::quadratic ? output_bytes(s) : partial_bytes(s, stage);
  return {flops, flops, query_bytes(s) + key_bytes(s) + value_bytes(s) + gate_bytes + written};
}

/// The two products with the state: `columns` is e, or R where the denominator's columns are part of a GEMM.
double product_flops(double token_heads, double rows, double columns) { return 2 * token_heads * rows * columns; }

}  // namespace

Work work_of(const StageProblem& stage) {
  const Problem& problem = stage.problem;
  const Sizes s = sizes_of(problem, stage.shape.chunk);
  const bool chunked = stage.shape.fusion != Fusion::quadratic && stage.shape.d_tile > 0;
  const double rows = chunked ? double(stage.rows()) : 0;
  const double exact_rows = chunked ? double(state_rows(problem.d, problem.p, 1)) : 0;
  const double gate_bytes = problem.gated ? s.b * s.t * s.hk * 8 : 0;
  const double state_element = double(bytes(stage.shape.state));
  const double sigma = state_bytes(s, rows, state_element);
  const double columns = double(state_columns(problem, stage.shape.path));
  const double padded = chunked ? double(stage.chunks() * stage.shape.chunk) : s.t;

  switch (stage.stage) {
    case Stage::gates:
      return {0, 0, s.b * s.t * s.hk * (4 + 8)};
    case Stage::attention:
      return attention_work(stage, s, gate_bytes);
    case Stage::update_state:
    case Stage::update_scan: {
      const double tokens = s.b * s.hk * s.update_tokens;
      const double read = (key_bytes(s) + value_bytes(s) + gate_bytes) * (s.update_tokens / s.t);
      return {product_flops(tokens, rows, s.e), product_flops(tokens, exact_rows, s.e), read + sigma};
    }
    case Stage::scan: {
      // materialized keeps U in fp32 whatever the state is stored as.
      const double read = stage.shape.fusion == Fusion::materialized ? state_bytes(s, rows, 4) : sigma;
      return {0, 0, read + sigma};
    }
    case Stage::query_state: {
      const double tokens = s.b * s.hq * s.query_tokens;
      const double read = query_bytes(s) * (s.query_tokens / s.t) + partial_bytes(s, stage) + gate_bytes;
      return {product_flops(tokens, rows, s.e), product_flops(tokens, exact_rows, s.e), sigma + read + output_bytes(s)};
    }
    case Stage::attend_query: {
      const double tokens = s.b * s.hq * s.query_tokens, weights = attention_flops(s);
      return {product_flops(tokens, rows, s.e) + weights, product_flops(tokens, exact_rows, s.e) + weights,
              sigma + query_bytes(s) + key_bytes(s) + value_bytes(s) + gate_bytes + output_bytes(s)};
    }
    case Stage::expand_key:
      return {0, 0, key_bytes(s) + value_bytes(s) + gate_bytes + s.b * s.hk * padded * (rows + columns) * state_element};
    case Stage::expand_query:
      return {0, 0, query_bytes(s) + s.b * s.hq * padded * rows * state_element};
    case Stage::update_gemm: {
      const double tokens = s.b * s.hk * padded;
      const double written = s.b * s.hk * double(stage.chunks()) * rows * columns * 4;
      return {product_flops(tokens, rows, columns), product_flops(s.b * s.hk * s.update_tokens, exact_rows, s.e),
              tokens * (rows + columns) * state_element + written};
    }
    case Stage::query_gemm: {
      const double tokens = s.b * s.hq * padded;
      const double states = s.b * s.hk * double(stage.chunks()) * rows * columns * state_element;
      return {product_flops(tokens, rows, columns), product_flops(s.b * s.hq * s.query_tokens, exact_rows, s.e),
              tokens * (rows * state_element + columns * 4) + states};
    }
    case Stage::combine: {
      const double inter = s.b * s.hq * s.t * columns * 4;
      return {0, 0, inter + partial_bytes(s, stage) + gate_bytes + output_bytes(s)};
    }
  }
  return {};
}

double floor_ms(const Problem& problem, double matrix_tflops, double copy_tbps) {
  const double rows = double(state_rows(problem.d, problem.p, 1));
  const double state_element = problem.dtype == Dtype::bf16 ? 2 : 4;
  double best = std::numeric_limits<double>::infinity();
  const auto consider = [&](std::int64_t chunk) {
    const Sizes s = sizes_of(problem, chunk);
    const double products = product_flops(s.b * s.hk * s.update_tokens + s.b * s.hq * s.query_tokens, rows, s.e);
    // States are written once and read once: no scan is cheaper than one fused into the kernel that makes them.
    const double traffic = query_bytes(s) + key_bytes(s) + value_bytes(s) + output_bytes(s) + (problem.gated ? s.b * s.t * s.hk * 4 : 0) +
                           2 * state_bytes(s, rows, state_element);
    const double compute_ms = (attention_flops(s) + products) / (matrix_tflops * 1e9);
    best = std::min(best, std::max(compute_ms, traffic / (copy_tbps * 1e9)));
  };
  // A geometric grid of chunk sizes fine enough that the curve, flat at its optimum, is not missed; chunk t is the quadratic form.
  for (double chunk = 16; chunk < double(problem.t); chunk *= 1.09) consider(std::int64_t(chunk));
  consider(problem.t);
  return best;
}

}  // namespace phitune
