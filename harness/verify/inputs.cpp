#include "harness/verify/inputs.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "kernel_templates/stage_template.hpp"

namespace phitune {

namespace {

/// Scale of q, k and v (powers of two) that keeps every result of the problem within its dtype: fp16 outputs are narrow, and without a
/// denominator they grow with the 2p-th power of q and k.
int magnitude(const Problem& problem, InputKind kind, Buffer buffer) {
  if (kind != InputKind::large && kind != InputKind::tiny) return 0;
  const int sign = kind == InputKind::large ? 1 : -1;
  if (problem.dtype != Dtype::fp16) return 6 * sign;
  if (problem.normalisation == Normalisation::sum) return (buffer == Buffer::v ? 2 : 3) * sign;
  return buffer == Buffer::v || problem.p > 2 ? 0 : sign;
}

inputs::Stream stream_of(Buffer buffer) {
  switch (buffer) {
    case Buffer::q:
      return inputs::Stream::q;
    case Buffer::k:
      return inputs::Stream::k;
    case Buffer::v:
      return inputs::Stream::v;
    case Buffer::log_g:
      return inputs::Stream::log_g;
    case Buffer::initial_state:
      return inputs::Stream::initial_state;
    case Buffer::partial:
      return inputs::Stream::partial;
    case Buffer::row_sum:
      return inputs::Stream::row_sum;
    case Buffer::update:
      return inputs::Stream::update;
    case Buffer::update_z:
      return inputs::Stream::update_z;
    case Buffer::state:
      return inputs::Stream::state;
    case Buffer::state_z:
      return inputs::Stream::state_z;
    case Buffer::phi_k:
      return inputs::Stream::phi_k;
    case Buffer::phi_q:
      return inputs::Stream::phi_q;
    case Buffer::v_aug:
      return inputs::Stream::v_aug;
    case Buffer::inter:
      return inputs::Stream::inter;
    case Buffer::y:
    case Buffer::gates:
    case Buffer::progress:
    case Buffer::weighed:
    case Buffer::final_state:
      break;
  }
  throw std::invalid_argument(fmt::format("{} is not an input that is drawn at random", to_string(buffer)));
}

float element(const InputTensor& tensor, std::int64_t index) { return inputs::element(tensor.spec, static_cast<u64>(index)); }

/// Terms of the denominator beside the e values of a state row: hi, lo and the rest in bf16, hi and lo in fp32.
int denominator_columns(const StageProblem& stage) {
  if (state_columns(stage.problem, stage.shape.path) == stage.problem.e) return 0;
  return stage.shape.state == Dtype::bf16 ? 3 : 2;
}

constexpr u32 kQuietNan = 0x7fc00000u;

}  // namespace

std::string_view to_string(InputKind kind) {
  switch (kind) {
    case InputKind::normal:
      return "normal";
    case InputKind::extreme_gates:
      return "extreme gates";
    case InputKind::closing_gates:
      return "gates that close chunks";
    case InputKind::large:
      return "large magnitudes";
    case InputKind::tiny:
      return "tiny magnitudes";
    case InputKind::zero_queries:
      return "zero queries";
    case InputKind::near_orthogonal:
      return "near-orthogonal keys";
  }
  throw std::logic_error("unknown kind of input");
}

std::vector<InputKind> adversarial_kinds() {
  return {InputKind::extreme_gates, InputKind::closing_gates, InputKind::large,
          InputKind::tiny,          InputKind::zero_queries,  InputKind::near_orthogonal};
}

std::string InputTensor::key() const {
  return fmt::format("{} {} {} {} | {} {} {} {} {} {} {} {:x} {} {} {} {} {} {} {} | {} {} {} {}", to_string(shape.dtype), shape.count,
                     shape.width, shape.heads, spec.seed, spec.stream, spec.shape, spec.kind, spec.width, spec.exponent, spec.live,
                     spec.dead_bits, spec.group, spec.groups, spec.d, spec.p, spec.cores, spec.positive, spec.d_tile, shape.t, shape.strides.b, shape.strides.t,
                     shape.strides.h);
}

InputTensor input_tensor(Buffer buffer, const StageProblem& stage, std::uint64_t seed, InputKind kind) {
  const Problem& problem = stage.problem;
  InputTensor tensor{.shape = buffer_shape(buffer, stage), .spec = {}};
  inputs::Spec& spec = tensor.spec;
  spec.seed = seed;
  spec.stream = static_cast<int>(stream_of(buffer));
  spec.kind = static_cast<int>(kind);
  spec.width = static_cast<int>(tensor.shape.width);
  const bool sum = problem.normalisation == Normalisation::sum;
  spec.cores = stage.shape.path == Path::sm90 && (buffer == Buffer::update || buffer == Buffer::state || buffer == Buffer::state_z);
  switch (buffer) {
    case Buffer::q:
    case Buffer::k:
    case Buffer::v:
      spec.exponent = magnitude(problem, kind, buffer);
      break;
    case Buffer::log_g:
      spec.shape = static_cast<int>(inputs::Shape::log_gate);
      spec.width = static_cast<int>(problem.hk);
      spec.tokens = static_cast<u64>(problem.t);
      break;
    case Buffer::row_sum:
      spec.shape = static_cast<int>(inputs::Shape::positive);
      break;
    case Buffer::initial_state:
      spec.shape = static_cast<int>(inputs::Shape::moments);
      spec.d = static_cast<int>(problem.d), spec.p = static_cast<int>(problem.p);
      break;
    case Buffer::update:
      // Columns past e: nothing, for expand_mma's scan must not read them; one sum and zeros, as the GEMM leaves them, for materialized.
      spec.live = static_cast<int>(problem.e) + (stage.shape.fusion == Fusion::materialized && sum ? 1 : 0);
      spec.dead_bits = stage.shape.fusion == Fusion::materialized ? 0 : kQuietNan;
      break;
    case Buffer::state:
      // phi(q) S then has variance about 1. The denominator's columns are terms of a sum, zeros follow; before the first chunk is nothing.
      spec.exponent = -static_cast<int>(std::lround(std::log2(static_cast<double>(stage.rows())) / 2));
      spec.live = static_cast<int>(problem.e) + denominator_columns(stage);
      if (!problem.initial_state) {
        spec.group = static_cast<u64>(stage.rows() * tensor.shape.width);
        spec.groups = static_cast<u64>(stage.chunks());
      }
      // The weights of a chunk's first keys may be next to nothing: there is no row_sum that no state can cancel.
      if (stage.stage == Stage::attend_query && denominator_columns(stage) > 0) {
        spec.positive = static_cast<int>(problem.e) + 1;
        spec.d = static_cast<int>(problem.d), spec.p = static_cast<int>(problem.p), spec.d_tile = static_cast<int>(stage.shape.d_tile);
      }
      break;
    case Buffer::state_z:
      // q^T Z q then has variance about 2: both parts of an entry are drawn alike, so that none can be left out unseen.
      spec.exponent = -static_cast<int>(std::lround(std::log2(static_cast<double>(problem.d))));
      if (!problem.initial_state) {
        spec.group = static_cast<u64>(2 * problem.d * problem.d);
        spec.groups = static_cast<u64>(stage.chunks());
      }
      if (stage.stage == Stage::attend_query) spec.positive = 1, spec.d = static_cast<int>(problem.d);
      break;
    case Buffer::inter:
      spec.live = static_cast<int>(problem.e) + denominator_columns(stage);
      if (!problem.initial_state) {
        spec.group = static_cast<u64>(stage.shape.chunk * tensor.shape.width);
        spec.groups = static_cast<u64>(stage.chunks());
      }
      break;
    default:
      break;
  }
  return tensor;
}

double round_to(Dtype dtype, double value) {
  const float x = static_cast<float>(value);
  switch (dtype) {
    case Dtype::bf16:
      return bf16_to_float(float_to_bf16(x));
    case Dtype::fp16:
      return fp16_to_float(float_to_fp16(x));
    case Dtype::fp32:
      return x;
  }
  throw std::logic_error("unknown dtype");
}

double largest(Dtype dtype) { return dtype == Dtype::fp16 ? 65504.0 : dtype == Dtype::bf16 ? 0x1.fep127 : 0x1.fffffep127; }

double epsilon(Dtype dtype) { return dtype == Dtype::fp16 ? 0x1p-10 : dtype == Dtype::bf16 ? 0x1p-7 : 0x1p-23; }

double decode(Dtype dtype, const void* bits) {
  u16 half = 0;
  float single = 0;
  if (dtype == Dtype::fp32)
    std::memcpy(&single, bits, sizeof single);
  else
    std::memcpy(&half, bits, sizeof half);
  return dtype == Dtype::bf16 ? bf16_to_float(half) : dtype == Dtype::fp16 ? fp16_to_float(half) : single;
}

double input_value(const InputTensor& tensor, std::int64_t index) { return round_to(tensor.shape.dtype, element(tensor, index)); }

void input_row(const InputTensor& tensor, std::int64_t index, std::span<double> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = input_value(tensor, index + static_cast<std::int64_t>(i));
}

}  // namespace phitune
