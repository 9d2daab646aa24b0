// Plain types, storage formats and bit-level conversions, the same for NVRTC and for the host emulator. Includes nothing.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define PHITUNE_DEVICE __device__ __forceinline__
#define PHITUNE_UNROLL _Pragma("unroll")
#define PHITUNE_NO_UNROLL _Pragma("unroll 1")
#define PHITUNE_UNROLL_TWICE _Pragma("unroll 2")
#else
#define PHITUNE_DEVICE inline
#define PHITUNE_UNROLL
#define PHITUNE_NO_UNROLL
#define PHITUNE_UNROLL_TWICE
#endif

namespace phitune {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

/// 16- and 8-byte vectors: one load or store each when dereferenced through an aligned pointer.
struct alignas(16) U4 {
  u32 x, y, z, w;
};
struct alignas(8) U2 {
  u32 x, y;
};
struct alignas(16) F4 {
  float x, y, z, w;
};
struct alignas(8) F2 {
  float x, y;
};

/// How elements lie in memory.
enum class Storage { bf16, fp16, fp32 };

PHITUNE_DEVICE constexpr int storage_bytes(Storage s) { return s == Storage::fp32 ? 4 : 2; }

/// Reinterprets the bits of a float, and back.
PHITUNE_DEVICE constexpr u32 float_bits(float x) { return __builtin_bit_cast(u32, x); }
PHITUNE_DEVICE constexpr float bits_float(u32 x) { return __builtin_bit_cast(float, x); }

/// bf16 (its 16 bits) to float, exact.
PHITUNE_DEVICE constexpr float bf16_to_float(u16 x) { return bits_float(static_cast<u32>(x) << 16); }

/// Float to bf16, to nearest even; a NaN stays a NaN.
PHITUNE_DEVICE constexpr u16 float_to_bf16(float x) {
  const u32 bits = float_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<u16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// fp16 (its 16 bits) to float, exact, subnormals included.
PHITUNE_DEVICE constexpr float fp16_to_float(u16 x) {
  const u32 sign = (x & 0x8000u) << 16;
  const u32 exponent = (x >> 10) & 0x1fu;
  const u32 mantissa = x & 0x3ffu;
  if (exponent == 0x1fu) return bits_float(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return bits_float(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return bits_float(sign | float_bits(magnitude));
}

/// Float to fp16, to nearest even, overflow to infinity, subnormals kept.
PHITUNE_DEVICE constexpr u16 float_to_fp16(float x) {
  const u32 bits = float_bits(x);
  const u32 sign = (bits >> 16) & 0x8000u;
  const u32 magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<u16>(sign | 0x7fffu);
  if (magnitude >= 0x477ff000u) return static_cast<u16>(sign | 0x7c00u);
  if (magnitude >= 0x38800000u) {
    const u32 rebiased = magnitude - (112u << 23);
    return static_cast<u16>(sign | ((rebiased + 0xfffu + ((rebiased >> 13) & 1u)) >> 13));
  }
  if (magnitude < 0x33000000u) return static_cast<u16>(sign);
  // Subnormal: shift the 24-bit significand down to units of 2^-24 and round to nearest even.
  const u32 shift = 126u - (magnitude >> 23);
  const u32 significand = (magnitude & 0x7fffffu) | 0x800000u;
  const u32 floor = significand >> shift;
  const u32 rest = significand & ((1u << shift) - 1u);
  const u32 half = 1u << (shift - 1u);
  return static_cast<u16>(sign | (floor + ((rest > half || (rest == half && (floor & 1u) != 0)) ? 1u : 0u)));
}

/// Float to tf32 (10-bit mantissa), to nearest with ties away from zero, as cvt.rna.tf32.f32 does; infinities and NaNs unchanged.
PHITUNE_DEVICE constexpr u32 round_tf32(float x) {
  const u32 bits = float_bits(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
}

/// Smallest multiple of `unit` that is not below `x`.
PHITUNE_DEVICE constexpr int round_up(int x, int unit) { return (x + unit - 1) / unit * unit; }
PHITUNE_DEVICE constexpr int ceil_div(int x, int y) { return (x + y - 1) / y; }

}  // namespace phitune
