#include "harness/verify/buffers.hpp"

#include <stdexcept>
#include <string>

#include "kernel_templates/common/state_layout.cuh"
#include "kernel_templates/stage_template.hpp"

namespace phitune {

namespace {

Strides contiguous(const Problem& problem, std::int64_t heads, std::int64_t width) {
  if (problem.layout == Layout::bthd) return {.b = problem.t * heads * width, .t = heads * width, .h = width};
  return {.b = heads * problem.t * width, .t = width, .h = problem.t * width};
}

BufferShape user_tensor(const Problem& problem, Dtype dtype, std::int64_t heads, std::int64_t width) {
  return {.dtype = dtype,
          .count = problem.b * problem.t * heads * width,
          .width = width,
          .t = problem.t,
          .heads = heads,
          .strides = contiguous(problem, heads, width)};
}

BufferShape intermediate(Dtype dtype, std::int64_t rows, std::int64_t width) {
  return {.dtype = dtype, .count = rows * width, .width = width, .t = rows, .heads = 1, .strides = {.b = 0, .t = width, .h = 0}};
}

bool is_sum(const StageProblem& stage) { return stage.problem.normalisation == Normalisation::sum; }
bool has_matrix(const StageProblem& stage) { return has_denominator_matrix(stage.problem, stage.shape.path); }
std::int64_t columns_of(const StageProblem& stage) { return state_columns(stage.problem, stage.shape.path); }
bool is_materialized(const StageProblem& stage) { return stage.shape.fusion == Fusion::materialized; }

/// `buffers` without gates and denominators that the problem does not have.
std::vector<Buffer> present(const StageProblem& stage, std::vector<Buffer> buffers) {
  const Problem& problem = stage.problem;
  std::erase_if(buffers, [&](Buffer buffer) {
    switch (buffer) {
      case Buffer::log_g:
      case Buffer::gates:
        return !problem.gated;
      case Buffer::row_sum:
        return !is_sum(stage);
      case Buffer::update_z:
        return !is_sum(stage) || is_materialized(stage);
      case Buffer::state_z:
        return !has_matrix(stage);
      case Buffer::initial_state:
        return !problem.initial_state;
      case Buffer::final_state:
        return !problem.final_state;
      default:
        return false;
    }
  });
  return buffers;
}

}  // namespace

std::string_view to_string(Buffer buffer) {
  switch (buffer) {
    case Buffer::q:
      return "q";
    case Buffer::k:
      return "k";
    case Buffer::v:
      return "v";
    case Buffer::log_g:
      return "log_g";
    case Buffer::y:
      return "y";
    case Buffer::gates:
      return "gates";
    case Buffer::partial:
      return "partial";
    case Buffer::row_sum:
      return "row_sum";
    case Buffer::update:
      return "update";
    case Buffer::update_z:
      return "update_z";
    case Buffer::state:
      return "state";
    case Buffer::state_z:
      return "state_z";
    case Buffer::progress:
      return "progress";
    case Buffer::weighed:
      return "weighed";
    case Buffer::initial_state:
      return "initial_state";
    case Buffer::final_state:
      return "final_state";
    case Buffer::phi_k:
      return "phi_k";
    case Buffer::phi_q:
      return "phi_q";
    case Buffer::v_aug:
      return "v_aug";
    case Buffer::inter:
      return "inter";
  }
  throw std::logic_error("unknown buffer");
}

BufferShape buffer_shape(Buffer buffer, const StageProblem& stage) {
  const Problem& p = stage.problem;
  const PlanShape& shape = stage.shape;
  const std::int64_t padded = stage.chunks() * shape.chunk;
  const std::int64_t matrices = p.b * p.hk * stage.chunks();
  const auto states = [&] { return matrices * stage.rows(); };
  switch (buffer) {
    case Buffer::q:
      return user_tensor(p, p.dtype, p.hq, p.d);
    case Buffer::k:
      return user_tensor(p, p.dtype, p.hk, p.d);
    case Buffer::v:
      return user_tensor(p, p.dtype, p.hk, p.e);
    case Buffer::y:
      return user_tensor(p, p.dtype, p.hq, p.e);
    case Buffer::log_g:
      return user_tensor(p, Dtype::fp32, p.hk, 1);
    case Buffer::gates:
      return intermediate(Dtype::fp32, p.b * p.hk * p.t, 2);
    case Buffer::partial:
      return intermediate(shape.partial, p.b * p.hq * p.t, p.e);
    case Buffer::row_sum:
      return intermediate(Dtype::fp32, p.b * p.hq * p.t, 1);
    case Buffer::update:
      return intermediate(is_materialized(stage) ? Dtype::fp32 : shape.state, states(), columns_of(stage));
    case Buffer::update_z:
      if (has_matrix(stage)) return intermediate(Dtype::fp32, matrices * p.d, p.d);
      return intermediate(Dtype::fp32, states(), 1);
    case Buffer::state:
      return intermediate(shape.state, states(), columns_of(stage));
    case Buffer::state_z:
      return intermediate(Dtype::bf16, matrices * 2 * p.d, p.d);
    case Buffer::progress:
      return intermediate(Dtype::fp32, stage.stage == Stage::attention ? 1 : progress_bytes(p, stage.chunks(), stage.rows()) / 4, 1);
    case Buffer::weighed:
      return intermediate(Dtype::fp32, weighed_bytes(p) / 4, 1);
    case Buffer::initial_state:
    case Buffer::final_state:
      return intermediate(Dtype::fp32, p.b * p.hk * state_rows(p.d, p.p, 1), p.e + 1);
    case Buffer::phi_k:
      return intermediate(shape.state, p.b * p.hk * padded, stage.rows());
    case Buffer::phi_q:
      return intermediate(shape.state, p.b * p.hq * padded, stage.rows());
    case Buffer::v_aug:
      return intermediate(shape.state, p.b * p.hk * padded, columns_of(stage));
    case Buffer::inter:
      return intermediate(Dtype::fp32, p.b * p.hq * padded, columns_of(stage));
  }
  throw std::logic_error("unknown buffer");
}

std::vector<Buffer> inputs_of(const StageProblem& stage) {
  switch (stage.stage) {
    case Stage::gates:
      return present(stage, {Buffer::log_g});
    case Stage::attention:
      return present(stage, {Buffer::q, Buffer::k, Buffer::v, Buffer::gates});
    case Stage::update_state:
    case Stage::update_scan:
      return present(stage, {Buffer::k, Buffer::v, Buffer::gates, Buffer::initial_state});
    case Stage::scan:
      return present(stage, {Buffer::update, Buffer::update_z, Buffer::gates, Buffer::initial_state});
    case Stage::query_state:
      // The kernel asks only whether there is an initial state: without one nothing precedes the first chunk.
      return present(stage, {Buffer::q, Buffer::gates, Buffer::state, Buffer::state_z, Buffer::partial, Buffer::row_sum, Buffer::initial_state});
    case Stage::attend_query:
      return present(stage, {Buffer::q, Buffer::k, Buffer::v, Buffer::gates, Buffer::state, Buffer::state_z, Buffer::initial_state});
    case Stage::expand_key:
      return present(stage, {Buffer::k, Buffer::v, Buffer::gates});
    case Stage::expand_query:
      return {Buffer::q};
    case Stage::update_gemm:
      return {Buffer::phi_k, Buffer::v_aug};
    case Stage::query_gemm:
      return {Buffer::phi_q, Buffer::state};
    case Stage::combine:
      return present(stage, {Buffer::partial, Buffer::row_sum, Buffer::inter, Buffer::gates});
  }
  throw std::logic_error("unknown stage");
}

std::vector<Buffer> outputs_of(const StageProblem& stage) {
  switch (stage.stage) {
    case Stage::gates:
      return {Buffer::gates};
    case Stage::attention:
      if (stage.shape.fusion == Fusion::quadratic) return {Buffer::y};
      return present(stage, {Buffer::partial, Buffer::row_sum});
    case Stage::update_state:
      return present(stage, {Buffer::update, Buffer::update_z});
    case Stage::scan:
    case Stage::update_scan:
      return present(stage, {Buffer::state, Buffer::state_z, Buffer::final_state});
    case Stage::query_state:
    case Stage::attend_query:
    case Stage::combine:
      return {Buffer::y};
    case Stage::expand_key:
      return {Buffer::phi_k, Buffer::v_aug};
    case Stage::expand_query:
      return {Buffer::phi_q};
    case Stage::update_gemm:
      return {Buffer::update};
    case Stage::query_gemm:
      return {Buffer::inter};
  }
  throw std::logic_error("unknown stage");
}

std::vector<Buffer> counters_of(const StageProblem& stage) {
  const bool weighs = stage.stage == Stage::attention && has_weighed_keys(stage.problem, stage.shape.fusion, stage.path);
  const bool scans = stage.stage == Stage::update_scan && stage.path == Path::sm90;
  if (!scans && !weighs) return {};
  return {Buffer::progress};
}

std::vector<Buffer> scratch_of(const StageProblem& stage) {
  if (stage.stage != Stage::attention || !has_weighed_keys(stage.problem, stage.shape.fusion, stage.path)) return {};
  return {Buffer::weighed};
}

void set_pointer(Args& args, Buffer buffer, void* data) {
  switch (buffer) {
    case Buffer::q:
      args.q = data;
      break;
    case Buffer::k:
      args.k = data;
      break;
    case Buffer::v:
      args.v = data;
      break;
    case Buffer::log_g:
      args.log_g = static_cast<const float*>(data);
      break;
    case Buffer::y:
      args.y = data;
      break;
    case Buffer::gates:
      args.gates = static_cast<float*>(data);
      break;
    case Buffer::partial:
      args.partial = data;
      break;
    case Buffer::row_sum:
      args.row_sum = static_cast<float*>(data);
      break;
    case Buffer::update:
      args.update = data;
      break;
    case Buffer::update_z:
      args.update_z = static_cast<float*>(data);
      break;
    case Buffer::state:
      args.state = data;
      break;
    case Buffer::state_z:
      args.state_z = data;
      break;
    case Buffer::progress:
      args.progress = static_cast<unsigned*>(data);
      break;
    case Buffer::weighed:
      args.weighed = data;
      break;
    case Buffer::initial_state:
      args.initial_state = static_cast<const float*>(data);
      break;
    case Buffer::final_state:
      args.final_state = static_cast<float*>(data);
      break;
    case Buffer::phi_k:
      args.phi_k = data;
      break;
    case Buffer::phi_q:
      args.phi_q = data;
      break;
    case Buffer::v_aug:
      args.v_aug = data;
      break;
    case Buffer::inter:
      args.inter = static_cast<float*>(data);
      break;
  }
}

void* pointer_of(const Args& args, Buffer buffer) {
  switch (buffer) {
    case Buffer::q:
      return const_cast<void*>(args.q);
    case Buffer::k:
      return const_cast<void*>(args.k);
    case Buffer::v:
      return const_cast<void*>(args.v);
    case Buffer::log_g:
      return const_cast<float*>(args.log_g);
    case Buffer::y:
      return args.y;
    case Buffer::gates:
      return args.gates;
    case Buffer::partial:
      return args.partial;
    case Buffer::row_sum:
      return args.row_sum;
    case Buffer::update:
      return args.update;
    case Buffer::update_z:
      return args.update_z;
    case Buffer::state:
      return args.state;
    case Buffer::state_z:
      return args.state_z;
    case Buffer::progress:
      return args.progress;
    case Buffer::weighed:
      return args.weighed;
    case Buffer::initial_state:
      return const_cast<float*>(args.initial_state);
    case Buffer::final_state:
      return args.final_state;
    case Buffer::phi_k:
      return args.phi_k;
    case Buffer::phi_q:
      return args.phi_q;
    case Buffer::v_aug:
      return args.v_aug;
    case Buffer::inter:
      return args.inter;
  }
  throw std::logic_error("unknown buffer");
}

void set_sizes(Args& args, const StageProblem& stage) {
  const Problem& p = stage.problem;
  args.b = static_cast<int>(p.b);
  args.t = static_cast<int>(p.t);
  args.hq = static_cast<int>(p.hq);
  args.hk = static_cast<int>(p.hk);
  args.chunk = static_cast<int>(stage.shape.chunk == 0 ? p.t : stage.shape.chunk);
  args.chunks = (args.t + args.chunk - 1) / args.chunk;
  args.scale = static_cast<float>(p.scale());
  args.q_strides = contiguous(p, p.hq, p.d);
  args.k_strides = contiguous(p, p.hk, p.d);
  args.v_strides = contiguous(p, p.hk, p.e);
  args.g_strides = contiguous(p, p.hk, 1);
  args.y_strides = contiguous(p, p.hq, p.e);
}

WrittenRegion written_region(Buffer buffer, const StageProblem& stage) {
  const std::int64_t count = buffer_shape(buffer, stage).count;
  const std::int64_t columns = columns_of(stage);
  // Core matrices past e follow the others of the same 8 rows.
  const std::int64_t side = stage.shape.path == Path::sm90 ? core_side : 1;
  // Without a final state nobody needs the last chunk's sums, and scan alone writes the columns past e.
  const std::int64_t written = stage.problem.final_state ? stage.chunks() : stage.chunks() - 1;
  if (buffer == Buffer::update && stage.stage == Stage::update_state)
    return {.row = side * columns,
            .columns = side * stage.problem.e,
            .group = stage.rows() * columns,
            .groups = stage.chunks(),
            .written = written};
  if (buffer == Buffer::update_z) {
    const std::int64_t entries = has_matrix(stage) ? stage.problem.d * stage.problem.d : stage.rows();
    return {.row = 1, .columns = 1, .group = entries, .groups = stage.chunks(), .written = written};
  }
  // The canonical state's last column is the denominator's moment; without one it need not be written.
  if (buffer == Buffer::final_state && !is_sum(stage))
    return {.row = stage.problem.e + 1, .columns = stage.problem.e, .group = count, .groups = 1, .written = 1};
  // Rows past the last token meet nothing but rows past the last token.
  if (buffer == Buffer::phi_q) {
    const std::int64_t padded = stage.chunks() * stage.shape.chunk;
    return {.row = 1, .columns = 1, .group = stage.rows(), .groups = padded, .written = stage.problem.t};
  }
  return {.row = 1, .columns = 1, .group = count, .groups = 1, .written = 1};
}

}  // namespace phitune
