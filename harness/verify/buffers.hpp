// The tensors a stage reads and writes: their shapes, where kernels find them, and which stage uses which.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernel_templates/common/args.cuh"
#include "search/plan.hpp"

namespace phitune {

/// One per pointer of Args.
enum class Buffer {
  q,
  k,
  v,
  log_g,
  y,
  gates,
  partial,
  row_sum,
  update,
  update_z,
  state,
  state_z,
  progress,
  weighed,
  initial_state,
  final_state,
  phi_k,
  phi_q,
  v_aug,
  inter
};
[[nodiscard]] std::string_view to_string(Buffer buffer);

/// `count` elements of `dtype`; logically rows of `width`. User tensors (t, heads > 0) are laid out by `strides`, the rest is contiguous,
/// states in the layout of their shape.
struct BufferShape {
  Dtype dtype = Dtype::fp32;
  std::int64_t count = 0;
  std::int64_t width = 1;
  std::int64_t t = 1, heads = 1;
  Strides strides;
  [[nodiscard]] std::int64_t size_bytes() const { return count * bytes(dtype); }
};

/// Shape as args.cuh documents it. Reads of `problem` only the fields that the buffer depends on.
[[nodiscard]] BufferShape buffer_shape(Buffer buffer, const StageProblem& problem);

/// What a stage reads and what it writes, by args.cuh and the problem's features.
[[nodiscard]] std::vector<Buffer> inputs_of(const StageProblem& problem);
[[nodiscard]] std::vector<Buffer> outputs_of(const StageProblem& problem);
/// Memory that the stage needs besides: counters, which must be zero when it begins.
[[nodiscard]] std::vector<Buffer> counters_of(const StageProblem& problem);
/// Memory besides those that may hold anything when the stage begins, and that no other stage reads.
[[nodiscard]] std::vector<Buffer> scratch_of(const StageProblem& problem);

/// Points the kernel's argument for `buffer` at `data`.
void set_pointer(Args& args, Buffer buffer, void* data);
[[nodiscard]] void* pointer_of(const Args& args, Buffer buffer);

/// Sizes, scale and strides of contiguous tensors in the problem's layout; pointers are left alone.
void set_sizes(Args& args, const StageProblem& problem);

/// Which elements of an output a stage must have written: column (index % row) below `columns` in the first `written` of every `groups`
/// groups of `group` elements. In cores a "row" is a row of core matrices.
struct WrittenRegion {
  std::int64_t row = 1, columns = 1, group = 1, groups = 1, written = 1;
};
[[nodiscard]] WrittenRegion written_region(Buffer buffer, const StageProblem& problem);

}  // namespace phitune
