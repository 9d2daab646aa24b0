#include "kernel_templates/library/gemm.hpp"

#include <stdexcept>

#include "kernel_templates/stage_template.hpp"

namespace phitune {

namespace {

Gemm update_gemm(const StageProblem& stage) {
  const Problem& problem = stage.problem;
  const std::int64_t rows = stage.rows(), columns = state_columns(problem, stage.shape.path), chunk = stage.shape.chunk, chunks = stage.chunks();
  // Chunks of all heads lie one after another, so one strided batch covers everything.
  return {.m = rows,
          .n = columns,
          .k = chunk,
          .a_transposed = true,
          .batch = problem.b * problem.hk * chunks,
          .outer = {1, 1},
          .a = {.dtype = stage.shape.state, .leading = rows, .batch = chunk * rows},
          .b = {.dtype = stage.shape.state, .leading = columns, .batch = chunk * columns},
          .c = {.dtype = Dtype::fp32, .leading = columns, .batch = rows * columns}};
}

Gemm query_gemm(const StageProblem& stage) {
  const Problem& problem = stage.problem;
  const std::int64_t rows = stage.rows(), columns = state_columns(problem, stage.shape.path), chunk = stage.shape.chunk, chunks = stage.chunks();
  Gemm gemm{.m = chunk,
            .n = columns,
            .k = rows,
            .a_transposed = false,
            .batch = problem.b * problem.hk * chunks,
            .outer = {1, 1},
            .a = {.dtype = stage.shape.state, .leading = rows, .batch = chunk * rows},
            .b = {.dtype = stage.shape.state, .leading = columns, .batch = rows * columns},
            .c = {.dtype = Dtype::fp32, .leading = columns, .batch = chunk * columns}};
  const std::int64_t group = problem.hq / problem.hk;
  if (group == 1) return gemm;
  // The query heads of a kv head share its states, which no single batch stride can express: repeat over kv heads and over the group.
  gemm.batch = chunks;
  gemm.outer[0] = problem.b * problem.hk;
  gemm.outer[1] = group;
  gemm.a.outer[0] = group * chunks * gemm.a.batch;
  gemm.a.outer[1] = chunks * gemm.a.batch;
  gemm.b.outer[0] = chunks * gemm.b.batch;
  gemm.c.outer[0] = group * chunks * gemm.c.batch;
  gemm.c.outer[1] = chunks * gemm.c.batch;
  return gemm;
}

}  // namespace

Gemm gemm_of(const StageProblem& problem) {
  if (problem.stage == Stage::update_gemm) return update_gemm(problem);
  if (problem.stage == Stage::query_gemm) return query_gemm(problem);
  throw std::invalid_argument("stage " + std::string(to_string(problem.stage)) + " is not a matrix product");
}

GemmPointers gemm_pointers(const StageProblem& problem, const Args& args) {
  if (problem.stage == Stage::update_gemm) return {.a = args.phi_k, .b = args.v_aug, .c = args.update};
  if (problem.stage == Stage::query_gemm) return {.a = args.phi_q, .b = args.state, .c = args.inter};
  throw std::invalid_argument("stage " + std::string(to_string(problem.stage)) + " is not a matrix product");
}

}  // namespace phitune
