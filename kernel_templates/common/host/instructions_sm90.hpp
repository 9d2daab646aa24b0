// The CPU meaning of every function of cuda/instructions_sm90.cuh.
#pragma once

#include "kernel_templates/common/host/instructions.hpp"

namespace phitune {

// ---- barriers in shared memory that count arrivals and bytes ----

/// Only its address counts here: the emulator keeps the state, so that stray writes cannot hide a fault.
struct alignas(8) Barrier {
  u64 state;
};

inline void barrier_init(Barrier* barrier, int arrivals, const host::Where& where = host::Where::current()) {
  host::runtime->barrier_init(barrier, static_cast<unsigned>(arrivals), {"barrier_init", where});
}
inline void barrier_init_fence() {}
inline void barrier_arrive(Barrier* barrier, const host::Where& where = host::Where::current()) {
  host::runtime->barrier_arrive(barrier, 0, {"barrier_arrive", where});
}
/// The copies land here: what waits for the barrier cannot tell.
inline void barrier_arrive_after_copies(Barrier* barrier, const host::Where& where = host::Where::current()) {
  host::runtime->copy_commit();
  host::runtime->copy_wait(0);
  host::runtime->barrier_arrive(barrier, 0, {"barrier_arrive_after_copies", where});
}
inline void barrier_arrive_expect(Barrier* barrier, int bytes, const host::Where& where = host::Where::current()) {
  host::runtime->barrier_arrive(barrier, static_cast<unsigned>(bytes), {"barrier_arrive_expect", where});
}
inline void barrier_wait(Barrier* barrier, int parity, const host::Where& where = host::Where::current()) {
  host::runtime->barrier_wait(barrier, static_cast<unsigned>(parity), {"barrier_wait", where});
}

// ---- copies ----

inline void bulk_copy(void* smem, const void* gmem, int bytes, Barrier* barrier, const host::Where& where = host::Where::current()) {
  host::runtime->bulk_copy(smem, gmem, static_cast<unsigned>(bytes), barrier, {"bulk_copy", where});
}
inline void fence_async_shared(const host::Where& where = host::Where::current()) {
  host::runtime->fence_async({"fence_async_shared", where});
}
inline void stmatrix_x4_trans(void* smem_row, const u32 (&r)[4], const host::Where& where = host::Where::current()) {
  u32 registers[4] = {r[0], r[1], r[2], r[3]};
  host::move_matrices("stmatrix_x4_trans", registers, smem_row, true, host::runtime->store_matrices, where);
}

// ---- registers of a warpgroup ----

namespace host {

template <int Registers>
void set_registers(const char* name, const Where& where) {
  static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0, "setmaxnreg takes 24 to 256 registers in steps of 8");
  runtime->collective(Group::warpgroup, {name, where}, nullptr, nullptr);
}

}  // namespace host

template <int Registers>
void registers_increase(const host::Where& where = host::Where::current()) {
  host::set_registers<Registers>("registers_increase", where);
}
template <int Registers>
void registers_decrease(const host::Where& where = host::Where::current()) {
  host::set_registers<Registers>("registers_decrease", where);
}

// ---- asynchronous matrix products (warpgroup) ----

struct SharedMatrix {
  u64 bits;
  [[nodiscard]] SharedMatrix at(int bytes) const { return {bits + static_cast<u64>(bytes >> 4)}; }
  [[nodiscard]] SharedMatrix in_all_lanes() const { return *this; }
  [[nodiscard]] SharedMatrix k_stride_plus(int bytes) const { return {bits + static_cast<u64>(static_cast<i64>(bytes >> 4) * 0x10000)}; }
};
inline SharedMatrix shared_matrix_bits(const void* smem, int leading, int stride, int swizzle_bytes) {
  const u64 mode = swizzle_bytes == 128 ? 1 : swizzle_bytes == 64 ? 2 : swizzle_bytes == 32 ? 3 : 0;
  return {static_cast<u64>((shared_address(smem) & 0x3ffffu) >> 4) | static_cast<u64>(leading >> 4) << 16 |
          static_cast<u64>(stride >> 4) << 32 | mode << 62};
}
inline SharedMatrix core_matrices(const void* smem, int k_stride, int n_stride) { return shared_matrix_bits(smem, k_stride, n_stride, 0); }
inline SharedMatrix swizzled_rows_of_k(const void* smem, int row_bytes) { return shared_matrix_bits(smem, 16, 8 * row_bytes, row_bytes); }
inline SharedMatrix swizzled_rows_of_n(const void* smem, int row_bytes, int panel_stride) {
  return shared_matrix_bits(smem, panel_stride, 8 * row_bytes, row_bytes);
}

inline void wgmma_fence(const host::Where& where = host::Where::current()) { host::runtime->product_fence({"wgmma_fence", where}); }
inline void wgmma_commit(const host::Where& where = host::Where::current()) { host::runtime->product_commit({"wgmma_commit", where}); }
template <int N>
void wgmma_wait(const host::Where& where = host::Where::current()) {
  static_assert(N >= 0 && N <= 7);
  host::runtime->product_wait(N, {"wgmma_wait", where});
}
template <int N>
void settle(float (&)[N]) {}
template <int N>
void settle(u32 (&)[N]) {}

template <int N, bool NContiguous>
void wgmma_bf16(float (&c)[N / 2], const u32 (&a)[4], SharedMatrix b, bool accumulate, const host::Where& where = host::Where::current()) {
  host::WarpgroupProduct product;
  product.c = c;
  product.a = a;
  product.b_descriptor = b.bits;
  product.n = N;
  product.n_contiguous = NContiguous;
  product.accumulate = accumulate;
  host::runtime->product(product, {"wgmma_bf16", where});
}

template <int N>
void wgmma_f16(float (&c)[N / 2], const u32 (&a)[4], SharedMatrix b, bool accumulate, const host::Where& where = host::Where::current()) {
  host::WarpgroupProduct product;
  product.c = c;
  product.a = a;
  product.b_descriptor = b.bits;
  product.n = N;
  product.half = true;
  product.accumulate = accumulate;
  host::runtime->product(product, {"wgmma_f16", where});
}
template <int N>
void wgmma_f16_packed(u32 (&c)[N / 4], const u32 (&a)[4], SharedMatrix b, bool accumulate, const host::Where& where = host::Where::current()) {
  host::WarpgroupProduct product;
  product.c = c;
  product.a = a;
  product.b_descriptor = b.bits;
  product.n = N;
  product.half = product.packed = true;
  product.accumulate = accumulate;
  host::runtime->product(product, {"wgmma_f16_packed", where});
}
// (Copies read global memory as it is.)
inline void fence_async() {}

}  // namespace phitune
