// Random tensors as pure functions of (seed, tensor, flat logical index): integer arithmetic and exact floats up to one rounding to the
// stored dtype, so that the GPU that fills a tensor and the CPU that checks a result agree bit for bit, and any element can be had alone.
#pragma once

#include "kernel_templates/common/state_layout.cuh"

namespace phitune::inputs {

/// normal: what a verified and timed run uses. The others are adversarial: gates that forget at once or never, gates that close at the end
/// of a chunk, large and tiny magnitudes, queries that are zero, keys that cancel against every query.
enum class Kind : int { normal, extreme_gates, closing_gates, large, tiny, zero_queries, near_orthogonal };

/// The stream of a tensor: equal indices of different tensors are independent.
enum class Stream : int { q, k, v, log_g, initial_state, partial, row_sum, update, update_z, state, phi_k, phi_q, v_aug, inter, state_z };

/// How the elements of a stream are distributed.
enum class Shape : int {
  normal,    // symmetric, variance 4^exponent, within 3 standard deviations
  positive,  // 24 + 2 * normal: denominators that no state can cancel
  log_gate,  // <= 0, mean -2^-(7 + h) with h in 0..5 drawn per head: memory of 128 to 4096 tokens
  moments,   // canonical state of kPseudoTokens tokens with small integer features: exact in fp32
};

/// One tensor. `width` is the innermost logical extent (features, or heads for log_g).
struct Spec {
  u64 seed = 1;
  int stream = 0;
  int shape = 0;
  int kind = 0;
  int width = 1;
  u64 tokens = 1;      // of log_g: t
  int exponent = 0;    // values are scaled by 2^exponent
  int live = 0;        // columns below it are random, the others hold `dead_bits`; 0: all are live
  u32 dead_bits = 0;   // float bits: zero, or a NaN where nobody may look
  u64 group = 0;       // > 0: elements come in groups (a chunk's state) ...
  u64 groups = 1;      // ... of which the first of every `groups` is zero
  int d = 0, p = 0;    // of `moments` and `positive`
  int positive = 0;    // column, counted from 1, of a state with tiles d_tile wide that makes phi(q) times it positive; 0: none. Of state_z: all
  int d_tile = 0;
  bool cores = false;  // the matrix of `width` columns lies in core matrices, else in rows
};

/// Tokens before the first one, whose moments are the initial state.
inline constexpr int kPseudoTokens = 8;

/// Finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
PHITUNE_DEVICE constexpr u64 mix(u64 z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

PHITUNE_DEVICE constexpr u64 hash(u64 seed, int stream, u64 index) {
  return mix(mix(seed * 64 + static_cast<u64>(stream) + 1) + (index + 1) * 0x9e3779b97f4a7c15ull);
}

/// 2^exponent, for exponents of normal floats.
PHITUNE_DEVICE constexpr float power_of_two(int exponent) { return bits_float(static_cast<u32>(127 + exponent) << 23); }

/// Sum of three uniform 21-bit parts, centred (Irwin-Hall): an odd integer below 2^23 in magnitude with standard deviation 2^21.
PHITUNE_DEVICE constexpr int centred(u64 h) {
  const int part = 0x1fffff;
  const int sum = static_cast<int>(h & 0x1fffffu) + static_cast<int>((h >> 21) & 0x1fffffu) + static_cast<int>((h >> 42) & 0x1fffffu);
  return 2 * sum - 3 * part;
}

/// Exact: 24 bits times a power of two.
PHITUNE_DEVICE constexpr float normal(u64 h, int exponent) { return static_cast<float>(centred(h)) * power_of_two(exponent - 21); }

/// closing_gates: does the gate of the token after which there are `tokens` close? Of four heads, after 128, 512, 2048, ... tokens of the
/// first, 256, 1024, 4096, ... of the second, 192, 768, 3072, ... of the third and 384, 1536, ... of the fourth. Then for every chunk size c the
/// heads of one kind close with the last token of the second chunk, with no other of it and with none of the last c / 2 before it: a state that
/// is decayed by one gate too few brings back half a chunk in the third.
PHITUNE_DEVICE constexpr bool closes(u64 tokens, u64 head) {
  const bool thirds = head % 4 >= 2;
  const u64 power = thirds ? tokens / 3 : tokens;
  if (tokens < 128 || (thirds && tokens % 3 != 0) || (power & (power - 1)) != 0) return false;
  const bool odd_power = (power & 0xaaaaaaaaaaaaaaaaull) != 0;
  return thirds ? odd_power == (head % 2 == 1) : odd_power == (head % 2 == 0);
}

/// -3 u^2 2^-length with u uniform: mean -2^-length, most tokens near 0, a few at 3 times the mean. One rounding.
PHITUNE_DEVICE constexpr float log_gate(const Spec& spec, u64 index) {
  const u64 h = hash(spec.seed, spec.stream, index);
  if (spec.kind == static_cast<int>(Kind::extreme_gates)) {
    const int draw = static_cast<int>((h >> 40) & 63u);
    if (draw == 0) return -10000.0f;
    if (draw < 4) return -30.0f;
    if (draw < 20) return 0.0f;
  }
  if (spec.kind == static_cast<int>(Kind::closing_gates)) {
    const u64 width = static_cast<u64>(spec.width), row = index / width;
    if (closes(row % spec.tokens + 1, row / spec.tokens * width + index % width)) return -10000.0f;
  }
  const u64 head = index % static_cast<u64>(spec.width);
  const int length = 7 + static_cast<int>(hash(spec.seed, spec.stream, ~head) % 6);
  const int u = static_cast<int>(h & 0xfffu);
  return static_cast<float>(-3 * u * u) * power_of_two(-24 - length);
}

/// Feature i of pseudo-token m of the state's head, in units of 1/4; width is d + e: first the key, then the value.
PHITUNE_DEVICE constexpr int pseudo_feature(const Spec& spec, u64 head, int m, int i) {
  return static_cast<int>(hash(spec.seed, spec.stream, (head * kPseudoTokens + static_cast<u64>(m)) * 4096 + static_cast<u64>(i)) % 15) - 7;
}

/// C(n, k) for k <= 4.
PHITUNE_DEVICE constexpr i64 choose(i64 n, int k) {
  i64 c = 1;
  for (int i = 1; i <= k; ++i) c = c * (n - k + i) / i;
  return c;
}

/// Entry of a canonical state: index is ((head * D1) + colex rank of the sorted features) * (e + 1) + column, width is e + 1.
PHITUNE_DEVICE constexpr float moment(const Spec& spec, u64 index) {
  const int column = static_cast<int>(index % static_cast<u64>(spec.width));
  const u64 entry = index / static_cast<u64>(spec.width);
  const u64 rows = static_cast<u64>(choose(spec.d + spec.p - 1, spec.p));
  const u64 head = entry / rows;
  i64 rank = static_cast<i64>(entry % rows);
  int feature[4] = {0, 0, 0, 0};
  int high = spec.d - 1;
  for (int k = spec.p; k > 0; --k) {
    while (choose(high + k - 1, k) > rank) --high;
    rank -= choose(high + k - 1, k);
    feature[k - 1] = high;
  }
  i64 sum = 0;
  for (int m = 0; m < kPseudoTokens; ++m) {
    // The column of ones is 4 quarters, like every other feature.
    i64 product = column == spec.width - 1 ? 4 : pseudo_feature(spec, head, m, spec.d + column);
    for (int k = 0; k < spec.p; ++k) product *= pseudo_feature(spec, head, m, feature[k]);
    sum += product;
  }
  return static_cast<float>(sum) * power_of_two(-2 * (spec.p + 1));
}

/// The adversarial shapes of q, k and v; `index` is logical.
PHITUNE_DEVICE constexpr float attention_input(const Spec& spec, u64 index) {
  const u64 width = static_cast<u64>(spec.width);
  const int column = static_cast<int>(index % width);
  const bool q = spec.stream == static_cast<int>(Stream::q), k = spec.stream == static_cast<int>(Stream::k);
  if (q && spec.kind == static_cast<int>(Kind::zero_queries) && hash(spec.seed + 1, spec.stream, index / width) % 4 == 0) return 0.0f;
  // Past the first four features, queries come in equal pairs and keys in opposite ones: only those four are left of q.k.
  if ((q || k) && spec.kind == static_cast<int>(Kind::near_orthogonal) && column >= 4 && column % 2 == 1) {
    const float pair = normal(hash(spec.seed, spec.stream, index - 1), spec.exponent);
    return q ? pair : -pair;
  }
  return normal(hash(spec.seed, spec.stream, index), spec.exponent);
}

PHITUNE_DEVICE constexpr int column_of(const Spec& spec, u64 index) {
  if (spec.cores) return core_column_at(static_cast<i64>(index), spec.width);
  return static_cast<int>(index % static_cast<u64>(spec.width));
}

/// What is added to a state's denominator at a position: 32 / d where all features of the row are one, so that phi(q) meets the sum of the
/// p-th powers of q's d features, which no state of variance 1 cancels (p is even where there are denominators). Of a denominator matrix those
/// are the rounded values on the diagonal.
PHITUNE_DEVICE constexpr float diagonal(const Spec& spec, u64 index) {
  if (spec.stream == static_cast<int>(Stream::state_z)) {
    const int row = static_cast<int>(core_position_at(static_cast<i64>(index), spec.d) % (2 * spec.d));
    const int column = core_column_at(static_cast<i64>(index), spec.d);
    return row == denominator_row(column, 0) ? 32.0f / static_cast<float>(spec.d) : 0.0f;
  }
  const i64 matrix = tspow::rows(spec.d / spec.d_tile, spec.p, spec.d_tile);
  const i64 position = (spec.cores ? core_position_at(static_cast<i64>(index), spec.width) : static_cast<i64>(index) / spec.width) % matrix;
  const int row = spec.cores ? core_row(static_cast<int>(position), spec.p, spec.d_tile) : static_cast<int>(position);
  const tspow::Indices x = tspow::decode(row, spec.p, spec.d_tile);
  for (int k = 1; k < spec.p; ++k) {
    if (x.i[k] != x.i[0]) return 0.0f;
  }
  return 32.0f / static_cast<float>(spec.d);
}

/// The element as a float, before it is rounded to the tensor's dtype.
PHITUNE_DEVICE constexpr float element(const Spec& spec, u64 index) {
  if (spec.live != 0 && column_of(spec, index) >= spec.live) return bits_float(spec.dead_bits);
  if (spec.group != 0 && (index / spec.group) % spec.groups == 0) return 0.0f;
  switch (static_cast<Shape>(spec.shape)) {
    case Shape::positive:
      return 24.0f + normal(hash(spec.seed, spec.stream, index), 1);
    case Shape::log_gate:
      return log_gate(spec, index);
    case Shape::moments:
      return moment(spec, index);
    case Shape::normal:
      break;
  }
  if (spec.stream <= static_cast<int>(Stream::v)) return attention_input(spec, index);
  const float value = normal(hash(spec.seed, spec.stream, index), spec.exponent);
  if (spec.positive == 0) return value;
  const bool denominators = spec.stream == static_cast<int>(Stream::state_z) || column_of(spec, index) == spec.positive - 1;
  return denominators ? value + diagonal(spec, index) : value;
}

}  // namespace phitune::inputs
