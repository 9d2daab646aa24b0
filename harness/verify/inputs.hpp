// The random inputs of a verified run, as the device fills them and as the oracle reads them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness/verify/buffers.hpp"
#include "kernel_templates/common/inputs.cuh"

namespace phitune {

using InputKind = inputs::Kind;
[[nodiscard]] std::string_view to_string(InputKind kind);
/// The kinds besides normal.
[[nodiscard]] std::vector<InputKind> adversarial_kinds();

/// A tensor of random elements: what a fill needs, and a key that is equal for equal contents.
struct InputTensor {
  BufferShape shape;
  inputs::Spec spec;
  [[nodiscard]] std::string key() const;
};

/// The contents given to `buffer` when a stage (or plan) is run on random data. Gates are computed from log_g, never drawn; asking for
/// them, or for y or final_state, throws std::invalid_argument.
[[nodiscard]] InputTensor input_tensor(Buffer buffer, const StageProblem& problem, std::uint64_t seed, InputKind kind);

/// Element `index` (logical; in memory for states in cores) as stored, in double. Thread-safe.
[[nodiscard]] double input_value(const InputTensor& tensor, std::int64_t index);
/// `out.size()` consecutive elements from `index`.
void input_row(const InputTensor& tensor, std::int64_t index, std::span<double> out);

/// `value` rounded to nearest even as `dtype` stores it.
[[nodiscard]] double round_to(Dtype dtype, double value);
/// Largest finite value, and the distance from 1 to the next value.
[[nodiscard]] double largest(Dtype dtype);
[[nodiscard]] double epsilon(Dtype dtype);
/// The stored bits (2 or 4 bytes) as a double.
[[nodiscard]] double decode(Dtype dtype, const void* bits);

}  // namespace phitune
