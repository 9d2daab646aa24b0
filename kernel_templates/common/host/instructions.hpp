// The CPU meaning of every function of cuda/instructions.cuh, with the same fragment layouts and the same rounding. A caller's source line
// travels along as a default argument, so that a fault can name it.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <source_location>

#include "kernel_templates/common/host/runtime.hpp"
#include "kernel_templates/common/numeric.cuh"

namespace phitune {

namespace host {

using Where = std::source_location;

/// A collective of the running thread's warp: `Do`, a lambda without captures, receives the operands of all 32 lanes, once.
template <class Operands, class Do>
void warp_collective(const Site& site, Operands& mine, Do) {
  runtime->collective(Group::warp, site, &mine, [](void* const* lanes) { Do{}(reinterpret_cast<Operands* const*>(lanes)); });
}

template <int N>
void move_matrices(const char* name, u32 (&r)[N], void* row, bool transposed, Perform perform, const Where& where) {
  MatrixMove mine{r, row, N, transposed};
  const Site site{name, where};
  if (runtime->place()->lane < 8 * N) runtime->check_shared(row, 16, 16, site);
  runtime->collective(Group::warp, site, &mine, perform);
}
template <int N>
void load_matrices_in_warp(const char* name, u32 (&r)[N], const void* row, bool transposed, const Where& where) {
  move_matrices(name, r, const_cast<void*>(row), transposed, runtime->load_matrices, where);
}

template <class T>
struct Shuffle {
  T value;
  unsigned source;
  T result;
};

template <class T>
T shuffle_in_warp(const char* name, T x, unsigned source, const Where& where) {
  Shuffle<T> mine{x, source % warp_size, T{}};
  warp_collective({name, where}, mine, [](Shuffle<T>* const* lanes) {
    for (unsigned i = 0; i < warp_size; ++i) lanes[i]->result = lanes[lanes[i]->source]->value;
  });
  return mine.result;
}

}  // namespace host

// ---- where a thread is ----

inline int thread_index() { return static_cast<int>(host::runtime->place()->thread); }
inline int block_threads() { return static_cast<int>(host::runtime->place()->threads); }
inline int block_index_x() { return static_cast<int>(host::runtime->place()->block.x); }
inline int block_index_y() { return static_cast<int>(host::runtime->place()->block.y); }
inline int block_index_z() { return static_cast<int>(host::runtime->place()->block.z); }
inline int grid_size_x() { return static_cast<int>(host::runtime->place()->grid.x); }
inline int grid_size_y() { return static_cast<int>(host::runtime->place()->grid.y); }
inline int grid_size_z() { return static_cast<int>(host::runtime->place()->grid.z); }
inline int lane() { return static_cast<int>(host::runtime->place()->lane); }
// A shuffle on the GPU, so the whole warp must come here too.
inline int warp(const host::Where& where = host::Where::current()) {
  return static_cast<int>(host::shuffle_in_warp("warp", host::runtime->place()->thread / host::warp_size, 0, where));
}

inline char* shared_memory() { return host::runtime->place()->shared; }

// ---- kernels of a stream ----

// Launches run one after another here.
inline void wait_for_earlier_kernels() {}

// ---- between the blocks of a grid whose blocks all run at once ----

inline void count_up(u32* counter) { host::runtime->count_up(counter); }
inline int wait_for_counts(const u32* counters, int count, u32 target, const host::Where& where = host::Where::current()) {
  host::runtime->wait_for_count(counters, target, {"wait_for_counts", where});
  int there = 1;
  while (there < count && there < 32 && __atomic_load_n(counters + there, __ATOMIC_ACQUIRE) >= target) ++there;
  // Other blocks count on: one lane speaks for all.
  return static_cast<int>(host::shuffle_in_warp("wait_for_counts", static_cast<u32>(there), 0, where));
}

// ---- barriers ----

inline void block_barrier(const host::Where& where = host::Where::current()) {
  host::runtime->block_barrier(0, host::runtime->place()->threads, {"block_barrier", where});
}
inline void named_barrier(int id, int threads, const host::Where& where = host::Where::current()) {
  host::runtime->block_barrier(static_cast<unsigned>(id), static_cast<unsigned>(threads), {"named_barrier", where});
}
inline void warp_barrier(const host::Where& where = host::Where::current()) {
  host::runtime->collective(host::Group::warp, {"warp_barrier", where}, nullptr, nullptr);
}

// ---- asynchronous copies to shared memory ----

/// Bytes from the start of the block's shared memory.
inline u32 shared_address(const void* p) { return static_cast<u32>(static_cast<const char*>(p) - shared_memory()); }

inline void cp_async_16(void* smem, const void* gmem, bool valid, const host::Where& where = host::Where::current()) {
  host::runtime->copy(smem, gmem, 16, valid ? 16 : 0, {"cp_async_16", where});
}
inline void cp_async_4(void* smem, const void* gmem, bool valid, const host::Where& where = host::Where::current()) {
  host::runtime->copy(smem, gmem, 4, valid ? 4 : 0, {"cp_async_4", where});
}
inline void cp_async_commit() { host::runtime->copy_commit(); }
template <int N>
void cp_async_wait() {
  static_assert(N >= 0);
  host::runtime->copy_wait(N);
}

// ---- 16-byte loads and stores of global memory ----

inline U4 load_global_16(const void* p, const host::Where& where = host::Where::current()) {
  host::runtime->check_aligned(p, 16, {"load_global_16", where});
  U4 r;
  std::memcpy(&r, p, sizeof r);
  return r;
}
inline U4 load_global_16_streaming(const void* p, const host::Where& where = host::Where::current()) { return load_global_16(p, where); }
inline void store_global_16(void* p, U4 v, const host::Where& where = host::Where::current()) {
  host::runtime->check_aligned(p, 16, {"store_global_16", where});
  std::memcpy(p, &v, sizeof v);
}
inline void store_global_16_streaming(void* p, U4 v, const host::Where& where = host::Where::current()) { store_global_16(p, v, where); }

// ---- matrices from shared memory (warp) ----

inline void ldmatrix_x4(u32 (&r)[4], const void* smem_row, const host::Where& where = host::Where::current()) {
  host::load_matrices_in_warp("ldmatrix_x4", r, smem_row, false, where);
}
inline void ldmatrix_x4_trans(u32 (&r)[4], const void* smem_row, const host::Where& where = host::Where::current()) {
  host::load_matrices_in_warp("ldmatrix_x4_trans", r, smem_row, true, where);
}
inline void ldmatrix_x2(u32 (&r)[2], const void* smem_row, const host::Where& where = host::Where::current()) {
  host::load_matrices_in_warp("ldmatrix_x2", r, smem_row, false, where);
}
inline void ldmatrix_x2_trans(u32 (&r)[2], const void* smem_row, const host::Where& where = host::Where::current()) {
  host::load_matrices_in_warp("ldmatrix_x2_trans", r, smem_row, true, where);
}

// ---- matrix products (warp) ----

inline void mma_m16n8k16_bf16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], const host::Where& where = host::Where::current()) {
  host::MatrixProduct mine{c, a, b};
  host::runtime->collective(host::Group::warp, {"mma_m16n8k16_bf16", where}, &mine, host::runtime->multiply_bf16);
}
inline void mma_m16n8k16_f16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], const host::Where& where = host::Where::current()) {
  host::MatrixProduct mine{c, a, b};
  host::runtime->collective(host::Group::warp, {"mma_m16n8k16_f16", where}, &mine, host::runtime->multiply_f16);
}
inline void mma_m16n8k8_tf32(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2], const host::Where& where = host::Where::current()) {
  host::MatrixProduct mine{c, a, b};
  host::runtime->collective(host::Group::warp, {"mma_m16n8k8_tf32", where}, &mine, host::runtime->multiply_tf32);
}

// ---- packed 16-bit arithmetic and conversions ----

inline float low_bf16(u32 x) { return bits_float(x << 16); }
inline float high_bf16(u32 x) { return bits_float(x & 0xffff0000u); }
inline float half_float(u16 x) { return fp16_to_float(x); }
inline float low_f16(u32 x) { return half_float(static_cast<u16>(x)); }
inline float high_f16(u32 x) { return half_float(static_cast<u16>(x >> 16)); }

inline u32 pack_bf16x2(float lo, float hi) { return float_to_bf16(lo) | static_cast<u32>(float_to_bf16(hi)) << 16; }
inline u32 pack_f16x2(float lo, float hi) { return float_to_fp16(lo) | static_cast<u32>(float_to_fp16(hi)) << 16; }

// A product of two such values is exact in fp32 (or too small to round up to anything), so it is rounded once.
inline u32 mul_bf16x2(u32 a, u32 b) { return pack_bf16x2(low_bf16(a) * low_bf16(b), high_bf16(a) * high_bf16(b)); }
// Rounded once, although on the way through fp64 and fp32: there to the odd one of the two numbers beside the exact sum, which so never
// looks like the middle between two numbers of bf16 unless it is.
inline float fma_to_odd(double a, double b, double c) {
  const double product = a * b;  // exact
  double sum = product + c;
  const double added = sum - product, lost = (product - (sum - added)) + (c - added);
  if (lost != 0.0 && std::isfinite(sum) && std::bit_cast<u64>(sum) % 2 == 0) sum = std::nextafter(sum, lost > 0.0 ? HUGE_VAL : -HUGE_VAL);
  const float nearest = static_cast<float>(sum);
  if (static_cast<double>(nearest) == sum || std::isnan(sum) || float_bits(nearest) % 2 == 1) return nearest;
  return bits_float(float_bits(nearest) + (std::abs(sum) > std::abs(static_cast<double>(nearest)) ? 1u : ~0u));
}
inline u32 fma_bf16x2(u32 a, u32 b, u32 c) {
  return pack_bf16x2(fma_to_odd(low_bf16(a), low_bf16(b), low_bf16(c)), fma_to_odd(high_bf16(a), high_bf16(b), high_bf16(c)));
}
inline u32 mul_f16x2(u32 a, u32 b) { return pack_f16x2(low_f16(a) * low_f16(b), high_f16(a) * high_f16(b)); }

inline u32 to_tf32(float x) { return round_tf32(x); }

inline float exp2_approx(float x) {
  const float r = std::exp2(x);
  return r < 0x1p-126f ? 0.0f : r;
}

// ---- bytes and shuffles ----

// Bit 3 of a selector spreads the sign of the byte, as prmt does.
inline u32 permute_bytes(u32 a, u32 b, u32 selector) {
  const u64 bytes = a | static_cast<u64>(b) << 32;
  u32 r = 0;
  for (u32 i = 0; i < 4; ++i) {
    const u32 nibble = (selector >> (4 * i)) & 15u;
    const u32 byte = static_cast<u32>(bytes >> (8 * (nibble & 7u))) & 0xffu;
    r |= ((nibble & 8u) == 0 ? byte : (byte & 0x80u) != 0 ? 0xffu : 0u) << (8 * i);
  }
  return r;
}

inline u32 shuffle_xor(u32 x, int mask, const host::Where& where = host::Where::current()) {
  return host::shuffle_in_warp("shuffle_xor", x, host::runtime->place()->lane ^ static_cast<unsigned>(mask), where);
}
inline float shuffle_xor(float x, int mask, const host::Where& where = host::Where::current()) {
  return host::shuffle_in_warp("shuffle_xor", x, host::runtime->place()->lane ^ static_cast<unsigned>(mask), where);
}
inline u32 shuffle(u32 x, int source, const host::Where& where = host::Where::current()) {
  return host::shuffle_in_warp("shuffle", x, static_cast<unsigned>(source), where);
}
inline float shuffle(float x, int source, const host::Where& where = host::Where::current()) {
  return host::shuffle_in_warp("shuffle", x, static_cast<unsigned>(source), where);
}

}  // namespace phitune
