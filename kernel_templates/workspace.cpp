#include <array>
#include <utility>

#include "kernel_templates/common/state_layout.cuh"
#include "kernel_templates/sm90/half_attention_config.cuh"
#include "kernel_templates/stage_template.hpp"

namespace phitune {

namespace {

std::int64_t rounded(std::int64_t size) { return (size + 255) / 256 * 256; }

std::array<std::int64_t, 13> sizes(const Workspace& w) {
  return {w.gates, w.partial, w.row_sum, w.update, w.update_z, w.state, w.state_z, w.progress, w.weighed, w.phi_k, w.phi_q, w.v_aug, w.inter};
}

Strides contiguous(const Problem& problem, std::int64_t heads, std::int64_t width) {
  if (problem.layout == Layout::bthd) return {.b = problem.t * heads * width, .t = heads * width, .h = width};
  return {.b = heads * problem.t * width, .t = width, .h = problem.t * width};
}

}  // namespace

bool has_denominator_matrix(const Problem& problem, Path path) {
  return path == Path::sm90 &&
         denominator_matrix(static_cast<int>(problem.d), static_cast<int>(problem.p), problem.normalisation == Normalisation::sum);
}

std::int64_t state_columns(const Problem& problem, Path path) {
  const bool columns = problem.normalisation == Normalisation::sum && !has_denominator_matrix(problem, path);
  return problem.e + (columns ? 8 : 0);
}

bool has_weighed_keys(const Problem& problem, Fusion fusion, Path path) {
  return fusion == Fusion::quadratic && path == Path::sm90 && problem.dtype == Dtype::bf16 && (problem.p == 2 || problem.p == 4) &&
         problem.normalisation == Normalisation::sum && (problem.d == 16 || problem.d == 32) && (problem.e == 16 || problem.e == 32);
}

std::int64_t weighed_bytes(const Problem& problem) {
  const sm90::HalfTileLayout tile = sm90::half_tile_layout({.d = static_cast<int>(problem.d), .e = static_cast<int>(problem.e)});
  return problem.b * problem.hk * ((problem.t + sm90::half_keys - 1) / sm90::half_keys) * (tile.bytes + 4);
}

std::int64_t progress_bytes(const Problem& problem, std::int64_t chunks, std::int64_t rows) {
  return problem.b * problem.hk * chunks * ((rows + 63) / 64) * 4;
}

std::int64_t Workspace::total() const {
  std::int64_t sum = 0;
  for (const std::int64_t size : sizes(*this)) sum += rounded(size);
  return sum;
}

Workspace workspace_of(const Problem& problem, const PlanShape& shape) {
  Workspace w;
  if (problem.gated) w.gates = problem.b * problem.hk * problem.t * 2 * 4;
  if (shape.fusion == Fusion::quadratic) {
    if (has_weighed_keys(problem, shape.fusion, shape.path)) w.progress = 4, w.weighed = weighed_bytes(problem);
    return w;
  }

  const bool sum = problem.normalisation == Normalisation::sum;
  const std::int64_t chunks = (problem.t + shape.chunk - 1) / shape.chunk;
  const std::int64_t rows = state_rows(problem.d, problem.p, shape.d_tile);
  const std::int64_t columns = state_columns(problem, shape.path);
  const std::int64_t states = problem.b * problem.hk * chunks * rows;
  const std::int64_t matrices = has_denominator_matrix(problem, shape.path) ? problem.b * problem.hk * chunks * problem.d * problem.d : 0;
  if (shape.fusion != Fusion::attend_query && shape.fusion != Fusion::two_kernels) {
    w.partial = problem.b * problem.hq * problem.t * problem.e * bytes(shape.partial);
    if (sum) w.row_sum = problem.b * problem.hq * problem.t * 4;
  }

  // Updates lie where their states will, and their denominators with them, or there are none and no blocks that wait for them.
  if (shape.fusion == Fusion::update_scan || shape.fusion == Fusion::two_kernels) {
    w.state = states * columns * bytes(shape.state);
    w.state_z = matrices * 4;
    if (shape.path == Path::sm90) w.progress = progress_bytes(problem, chunks, rows);
    return w;
  }

  if (shape.fusion != Fusion::materialized) {
    w.update = states * columns * bytes(shape.state);
    if (sum) w.update_z = (matrices > 0 ? matrices : states) * 4;
    w.state_aliases_update = true;
    return w;
  }
  // materialized: the GEMM writes U in fp32, with the denominator's share in column e, so S needs memory of its own.
  const std::int64_t padded = chunks * shape.chunk;
  w.update = states * columns * 4;
  w.state = states * columns * bytes(shape.state);
  w.phi_k = problem.b * problem.hk * padded * rows * bytes(shape.state);
  w.phi_q = problem.b * problem.hq * padded * rows * bytes(shape.state);
  w.v_aug = problem.b * problem.hk * padded * columns * bytes(shape.state);
  w.inter = problem.b * problem.hq * padded * columns * 4;
  return w;
}

void bind_workspace(Args& args, const Problem& problem, const PlanShape& shape, void* base) {
  const Workspace w = workspace_of(problem, shape);
  const bool matrix = has_denominator_matrix(problem, shape.path);
  char* next = static_cast<char*>(base);
  const auto take = [&next](std::int64_t size) -> void* { return size == 0 ? nullptr : std::exchange(next, next + rounded(size)); };
  args.gates = static_cast<float*>(take(w.gates));
  args.partial = take(w.partial);
  args.row_sum = static_cast<float*>(take(w.row_sum));
  args.update = take(w.update);
  args.update_z = static_cast<float*>(take(w.update_z));
  args.state = w.state_aliases_update ? args.update : take(w.state);
  args.state_z = w.state_aliases_update && matrix ? args.update_z : take(w.state_z);
  args.progress = static_cast<unsigned*>(take(w.progress));
  args.weighed = take(w.weighed);
  args.phi_k = take(w.phi_k);
  args.phi_q = take(w.phi_q);
  args.v_aug = take(w.v_aug);
  args.inter = static_cast<float*>(take(w.inter));

  args.b = static_cast<int>(problem.b);
  args.t = static_cast<int>(problem.t);
  args.hq = static_cast<int>(problem.hq);
  args.hk = static_cast<int>(problem.hk);
  args.chunk = static_cast<int>(shape.fusion == Fusion::quadratic ? problem.t : shape.chunk);
  args.chunks = (args.t + args.chunk - 1) / args.chunk;
  args.scale = static_cast<float>(problem.scale());
  args.q_strides = contiguous(problem, problem.hq, problem.d);
  args.k_strides = contiguous(problem, problem.hk, problem.d);
  args.v_strides = contiguous(problem, problem.hk, problem.e);
  args.g_strides = contiguous(problem, problem.hk, 1);
  args.y_strides = contiguous(problem, problem.hq, problem.e);
}

}  // namespace phitune
