// Fragments of a 16x8x16 matrix product whatever the operand type, made of pair slots.
//
// With g = lane/4 and t = lane%4, a pair slot is two consecutive k of one row of A or one column of B:
//   A slot s = 0..3: row g + 8 (s & 1), k = 2t + 8 (s >> 1) and the next
//   B slot s = 0..1: column g, k = 2t + 8 s and the next
//   C: c[0], c[1] = row g, columns 2t, 2t+1; c[2], c[3] = row g + 8, the same columns
// 16-bit types pack a slot in one register. tf32 keeps two: the m16n8k8 instruction j takes slots with s>>1 == j (A) or s == j (B), and
// reads logical k = 2t as its column t and k = 2t+1 as its column t+4. A and B agree on that permutation, so the product is the same.
#pragma once

#include "kernel_templates/common/instructions.cuh"

namespace phitune {

/// Operand type of the matrix instruction.
enum class Math { bf16, fp16, tf32 };

PHITUNE_DEVICE constexpr bool is_packed(Math m) { return m != Math::tf32; }

/// Two consecutive k values, before they are rounded to the operand type. tf32 pairs are fp32 until they enter a fragment.
template <Math M>
struct Pair {
  u32 bits;
};
template <>
struct Pair<Math::tf32> {
  float lo, hi;
};

template <Math M>
PHITUNE_DEVICE Pair<M> pair_from_floats(float lo, float hi) {
  if constexpr (M == Math::bf16)
    return {pack_bf16x2(lo, hi)};
  else if constexpr (M == Math::fp16)
    return {pack_f16x2(lo, hi)};
  else
    return {lo, hi};
}

/// The low and high halves of a packed pair of 16-bit elements, as floats.
template <Storage S>
PHITUNE_DEVICE float unpack_low(u32 bits) {
  static_assert(S != Storage::fp32);
  if constexpr (S == Storage::bf16)
    return low_bf16(bits);
  else
    return low_f16(bits);
}
template <Storage S>
PHITUNE_DEVICE float unpack_high(u32 bits) {
  static_assert(S != Storage::fp32);
  if constexpr (S == Storage::bf16)
    return high_bf16(bits);
  else
    return high_f16(bits);
}

/// Whether packed elements of storage S are operands of M as they are.
PHITUNE_DEVICE constexpr bool same_type(Math m, Storage s) {
  return (m == Math::bf16 && s == Storage::bf16) || (m == Math::fp16 && s == Storage::fp16);
}

template <Math M, Storage S>
PHITUNE_DEVICE Pair<M> pair_from_packed(u32 bits) {
  if constexpr (same_type(M, S))
    return {bits};
  else
    return pair_from_floats<M>(unpack_low<S>(bits), unpack_high<S>(bits));
}

template <Math M>
PHITUNE_DEVICE float pair_low(Pair<M> p) {
  if constexpr (M == Math::bf16)
    return low_bf16(p.bits);
  else if constexpr (M == Math::fp16)
    return low_f16(p.bits);
  else
    return p.lo;
}
template <Math M>
PHITUNE_DEVICE float pair_high(Pair<M> p) {
  if constexpr (M == Math::bf16)
    return high_bf16(p.bits);
  else if constexpr (M == Math::fp16)
    return high_f16(p.bits);
  else
    return p.hi;
}

/// Elementwise product.
template <Math M>
PHITUNE_DEVICE Pair<M> mul(Pair<M> a, Pair<M> b) {
  if constexpr (M == Math::bf16)
    return {mul_bf16x2(a.bits, b.bits)};
  else if constexpr (M == Math::fp16)
    return {mul_f16x2(a.bits, b.bits)};
  else
    return {a.lo * b.lo, a.hi * b.hi};
}

template <Math M>
struct FragA {
  u32 x[4];
  PHITUNE_DEVICE void set(int slot, Pair<M> p) { x[slot] = p.bits; }
};
template <>
struct FragA<Math::tf32> {
  u32 x[4][2];
  PHITUNE_DEVICE void set(int slot, Pair<Math::tf32> p) { x[slot][0] = to_tf32(p.lo), x[slot][1] = to_tf32(p.hi); }
};

template <Math M>
struct FragB {
  u32 x[2];
  PHITUNE_DEVICE void set(int slot, Pair<M> p) { x[slot] = p.bits; }
};
template <>
struct FragB<Math::tf32> {
  u32 x[2][2];
  PHITUNE_DEVICE void set(int slot, Pair<Math::tf32> p) { x[slot][0] = to_tf32(p.lo), x[slot][1] = to_tf32(p.hi); }
};

/// Warp: c += a b for a 16x16 a and a 16x8 b.
template <Math M>
PHITUNE_DEVICE void mma(float (&c)[4], const FragA<M>& a, const FragB<M>& b) {
  if constexpr (M == Math::bf16) {
    mma_m16n8k16_bf16(c, a.x, b.x);
  } else if constexpr (M == Math::fp16) {
    mma_m16n8k16_f16(c, a.x, b.x);
  } else {
    PHITUNE_UNROLL
    for (int j = 0; j < 2; ++j) {
      const u32 a_part[4] = {a.x[2 * j][0], a.x[2 * j + 1][0], a.x[2 * j][1], a.x[2 * j + 1][1]};
      const u32 b_part[2] = {b.x[j][0], b.x[j][1]};
      mma_m16n8k8_tf32(c, a_part, b_part);
    }
  }
}

/// Among four neighbouring lanes: x[i] of lane t becomes x[t] of lane i.
PHITUNE_DEVICE void transpose_quad(u32 (&x)[4]) {
  const bool odd = (lane() & 1) != 0, upper = (lane() & 2) != 0;
  PHITUNE_UNROLL
  for (int i = 0; i < 4; i += 2) {
    const u32 got = shuffle_xor(odd ? x[i] : x[i + 1], 1);
    x[i] = odd ? got : x[i];
    x[i + 1] = odd ? x[i + 1] : got;
  }
  PHITUNE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const u32 got = shuffle_xor(upper ? x[i] : x[i + 2], 2);
    x[i] = upper ? got : x[i];
    x[i + 2] = upper ? x[i + 2] : got;
  }
}

/// Two neighbouring elements as floats; `p` is aligned to the pair.
template <Storage S>
PHITUNE_DEVICE F2 load_pair(const void* p) {
  if constexpr (S == Storage::fp32) {
    return *static_cast<const F2*>(p);
  } else {
    const u32 bits = *static_cast<const u32*>(p);
    return {unpack_low<S>(bits), unpack_high<S>(bits)};
  }
}

/// Writes two neighbouring elements, rounded to nearest even; `p` is aligned to the pair.
template <Storage S>
PHITUNE_DEVICE void store_pair(void* p, float lo, float hi) {
  if constexpr (S == Storage::fp32)
    *static_cast<F2*>(p) = F2{lo, hi};
  else if constexpr (S == Storage::bf16)
    *static_cast<u32*>(p) = pack_bf16x2(lo, hi);
  else
    *static_cast<u32*>(p) = pack_f16x2(lo, hi);
}

/// One element as a float, `index` elements after `base`; and the other way.
template <Storage S>
PHITUNE_DEVICE float load_element(const void* base, i64 index) {
  if constexpr (S == Storage::fp32)
    return static_cast<const float*>(base)[index];
  else if constexpr (S == Storage::bf16)
    return bf16_to_float(static_cast<const u16*>(base)[index]);
  else
    return low_f16(static_cast<const u16*>(base)[index]);
}
template <Storage S>
PHITUNE_DEVICE void store_element(void* base, i64 index, float x) {
  if constexpr (S == Storage::fp32)
    static_cast<float*>(base)[index] = x;
  else if constexpr (S == Storage::bf16)
    static_cast<u16*>(base)[index] = static_cast<u16>(pack_bf16x2(x, 0.0f));
  else
    static_cast<u16*>(base)[index] = static_cast<u16>(pack_f16x2(x, 0.0f));
}

/// Writes 8 neighbouring elements, rounded to nearest even; `p` is 16-byte aligned.
template <Storage S>
PHITUNE_DEVICE void store_vector_8(void* p, const float (&x)[8]) {
  if constexpr (S == Storage::fp32) {
    store_global_16(p, U4{float_bits(x[0]), float_bits(x[1]), float_bits(x[2]), float_bits(x[3])});
    store_global_16(static_cast<float*>(p) + 4, U4{float_bits(x[4]), float_bits(x[5]), float_bits(x[6]), float_bits(x[7])});
  } else if constexpr (S == Storage::bf16) {
    store_global_16(p, U4{pack_bf16x2(x[0], x[1]), pack_bf16x2(x[2], x[3]), pack_bf16x2(x[4], x[5]), pack_bf16x2(x[6], x[7])});
  } else {
    store_global_16(p, U4{pack_f16x2(x[0], x[1]), pack_f16x2(x[2], x[3]), pack_f16x2(x[4], x[5]), pack_f16x2(x[6], x[7])});
  }
}

/// Reads 8 neighbouring 16-bit elements that nobody writes; `p` is 16-byte aligned.
template <Storage S>
PHITUNE_DEVICE void load_vector_8(float (&x)[8], const void* p) {
  const U4 v = load_global_16_streaming(p);
  const u32 words[4] = {v.x, v.y, v.z, v.w};
  PHITUNE_UNROLL
  for (int i = 0; i < 4; ++i) x[2 * i] = unpack_low<S>(words[i]), x[2 * i + 1] = unpack_high<S>(words[i]);
}

}  // namespace phitune
