// Instructions that only Hopper has (sm_90a): asynchronous matrix products of a warpgroup, barriers that count bytes, bulk copies. Like
// instructions.cuh beside it: one function per instruction. "Warpgroup" functions must be reached by its 128 threads together.
// PTX ISA: https://docs.nvidia.com/cuda/parallel-thread-execution/ (wgmma, mbarrier, cp.async.bulk, setmaxnreg)
#pragma once

#include "kernel_templates/common/cuda/instructions.cuh"

namespace phitune {

// ---- barriers in shared memory that count arrivals and bytes ----

struct alignas(8) Barrier {
  u64 state;
};

/// `arrivals` per phase. By one thread, before a block_barrier that lets the others use it.
PHITUNE_DEVICE void barrier_init(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/// Makes initialised barriers known to asynchronous copies.
PHITUNE_DEVICE void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
PHITUNE_DEVICE void barrier_arrive(Barrier* barrier) {
  asm volatile("{\n.reg .b64 phase;\nmbarrier.arrive.shared::cta.b64 phase, [%0];\n}" ::"r"(shared_address(barrier)) : "memory");
}
/// Arrives when all copies that this thread has started with cp_async have landed; does not wait, and commits nothing.
PHITUNE_DEVICE void barrier_arrive_after_copies(Barrier* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}
/// Arrives, and keeps the phase open until `bytes` more have been copied.
PHITUNE_DEVICE void barrier_arrive_expect(Barrier* barrier, int bytes) {
  asm volatile("{\n.reg .b64 phase;\nmbarrier.arrive.expect_tx.shared::cta.b64 phase, [%0], %1;\n}" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
/// Waits until the phase of this parity is over; phases are numbered from 0, so waiting for parity 1 at once returns at once.
PHITUNE_DEVICE void barrier_wait(Barrier* barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(
          shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// ---- copies ----

/// One thread: copies `bytes` (a multiple of 16, both ends 16-byte aligned) and tells the barrier when they have arrived.
PHITUNE_DEVICE void bulk_copy(void* smem, const void* gmem, int bytes, Barrier* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(smem)),
               "l"(gmem), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}
/// What is visible to this thread in shared memory, its own writes and those that a barrier has made visible, is seen by matrix products
/// and bulk copies that it starts afterwards. Costs a thread with loads in flight their latency: let the thread that multiplies call it.
PHITUNE_DEVICE void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// What other blocks have written and this thread has waited for (wait_for_counts) is seen by copies and products that it starts afterwards.
PHITUNE_DEVICE void fence_async() { asm volatile("fence.proxy.async;" ::: "memory"); }

/// Stores four 8x8 matrices of 16-bit elements, transposed: lanes 8i..8i+7 give the 16-byte aligned rows of matrix i, and row c of it gets
/// column c of what the registers hold as in ldmatrix_x4 (row lane/4, columns 2(lane%4) and +1).
PHITUNE_DEVICE void stmatrix_x4_trans(void* smem_row, const u32 (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(smem_row)), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

// ---- registers of a warpgroup ----

template <int Registers>
PHITUNE_DEVICE void registers_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
PHITUNE_DEVICE void registers_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

// ---- asynchronous matrix products (warpgroup) ----

/// Where an operand B lies in shared memory: a matrix descriptor. All of its address is in the low half, so moving on is one addition.
struct SharedMatrix {
  u32 low, high;
  /// The same operand `bytes` (a multiple of 16) further on.
  PHITUNE_DEVICE SharedMatrix at(int bytes) const { return {low + static_cast<u32>(bytes >> 4), high}; }
  /// Core matrices whose `k_stride` is `bytes` more.
  PHITUNE_DEVICE SharedMatrix k_stride_plus(int bytes) const { return {low + (static_cast<u32>(bytes >> 4) << 16), high}; }
  /// The same, once more known to be so in all lanes (shared_matrix_bits): variables that change in a loop are not.
  PHITUNE_DEVICE SharedMatrix in_all_lanes() const { return {__shfl_sync(0xffffffffu, low, 0), high}; }
  PHITUNE_DEVICE u64 bits() const { return static_cast<u64>(high) << 32 | low; }
};
PHITUNE_DEVICE SharedMatrix shared_matrix_bits(const void* smem, int leading, int stride, int swizzle_bytes) {
  const u32 mode = swizzle_bytes == 128 ? 1 : swizzle_bytes == 64 ? 2 : swizzle_bytes == 32 ? 3 : 0;
  // From one lane, for the compiler to know that it is the same in all: descriptors are read from the warp's own registers.
  const u32 low = (shared_address(smem) & 0x3ffffu) >> 4 | static_cast<u32>(leading >> 4) << 16;
  return {__shfl_sync(0xffffffffu, low, 0), static_cast<u32>(stride >> 4) | mode << 30};
}
/// In core matrices, 128 consecutive bytes each: 8 k of 8 n with n contiguous, or 8 n of 8 k with k contiguous. `k_stride` bytes lead to
/// the next 8 k, `n_stride` to the next 8 n.
PHITUNE_DEVICE SharedMatrix core_matrices(const void* smem, int k_stride, int n_stride) {
  return shared_matrix_bits(smem, k_stride, n_stride, 0);
}
/// In rows of `row_bytes` (32, 64 or 128) that follow each other, 16-byte pieces permuted as by tile_offset (tile.cuh), first row aligned
/// to 8 rows. Rows are n and k is contiguous; k16 steps within a row are 32 bytes apart.
PHITUNE_DEVICE SharedMatrix swizzled_rows_of_k(const void* smem, int row_bytes) {
  return shared_matrix_bits(smem, 16, 8 * row_bytes, row_bytes);
}
/// The same with rows of k and n contiguous. Where N is wider than a row, `panel_stride` bytes lead to the next row_bytes / 2 columns.
PHITUNE_DEVICE SharedMatrix swizzled_rows_of_n(const void* smem, int row_bytes, int panel_stride) {
  return shared_matrix_bits(smem, panel_stride, 8 * row_bytes, row_bytes);
}

/// Orders earlier register writes before the products that follow.
PHITUNE_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Closes the group of the products since the last commit.
PHITUNE_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most N groups are in flight. Accumulators are read only after a wait, and after `settle`.
template <int N>
PHITUNE_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/// Keeps the compiler from moving uses of the registers across this point.
template <int N>
PHITUNE_DEVICE void settle(float (&r)[N]) {
  PHITUNE_UNROLL
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(r[i])::"memory");
}
template <int N>
PHITUNE_DEVICE void settle(u32 (&r)[N]) {
  PHITUNE_UNROLL
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(r[i])::"memory");
}

#define PHITUNE_C4(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define PHITUNE_C16(i) PHITUNE_C4(i), PHITUNE_C4(i + 4), PHITUNE_C4(i + 8), PHITUNE_C4(i + 12)
#define PHITUNE_R8(a, b, c, d, e, f, g, h) "%" #a ",%" #b ",%" #c ",%" #d ",%" #e ",%" #f ",%" #g ",%" #h
#define PHITUNE_R4(a, b, c, d) "%" #a ",%" #b ",%" #c ",%" #d
#define PHITUNE_R0_7 PHITUNE_R8(0, 1, 2, 3, 4, 5, 6, 7)
#define PHITUNE_R0_15 PHITUNE_R0_7 "," PHITUNE_R8(8, 9, 10, 11, 12, 13, 14, 15)
#define PHITUNE_R0_31 PHITUNE_R0_15 "," PHITUNE_R8(16, 17, 18, 19, 20, 21, 22, 23) "," PHITUNE_R8(24, 25, 26, 27, 28, 29, 30, 31)
#define PHITUNE_R0_63                                                                                                         \
  PHITUNE_R0_31 "," PHITUNE_R8(32, 33, 34, 35, 36, 37, 38, 39) "," PHITUNE_R8(40, 41, 42, 43, 44, 45, 46, 47) "," PHITUNE_R8( \
      48, 49, 50, 51, 52, 53, 54, 55) "," PHITUNE_R8(56, 57, 58, 59, 60, 61, 62, 63)
#define PHITUNE_R0_127                                                                                                                          \
  PHITUNE_R0_63 "," PHITUNE_R8(64, 65, 66, 67, 68, 69, 70, 71) "," PHITUNE_R8(72, 73, 74, 75, 76, 77, 78, 79) "," PHITUNE_R8(                    \
      80, 81, 82, 83, 84, 85, 86, 87) "," PHITUNE_R8(88, 89, 90, 91, 92, 93, 94, 95) "," PHITUNE_R8(96, 97, 98, 99, 100, 101, 102, 103) ","     \
      PHITUNE_R8(104, 105, 106, 107, 108, 109, 110, 111) "," PHITUNE_R8(112, 113, 114, 115, 116, 117, 118, 119) "," PHITUNE_R8(               \
          120, 121, 122, 123, 124, 125, 126, 127)
// N columns; the accumulators' registers and operands; the numbers of the operands behind them: four of A, B, whether to accumulate.
#define PHITUNE_WGMMA(N, REGISTERS, A0, A1, A2, A3, B, ACCUMULATE, MAJOR, ...) \
  PHITUNE_WGMMA_OF("bf16", N, REGISTERS, A0, A1, A2, A3, B, ACCUMULATE, MAJOR, __VA_ARGS__)
#define PHITUNE_WGMMA_OF(TYPE, N, REGISTERS, A0, A1, A2, A3, B, ACCUMULATE, MAJOR, ...)                                      \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #ACCUMULATE ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N                 \
               "k16.f32." TYPE "." TYPE " {" REGISTERS "}, {%" #A0 ",%" #A1 ",%" #A2 ",%" #A3 "}, %" #B ", p, 1, 1, %" #MAJOR ";\n}" \
               : __VA_ARGS__                                                                                                 \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits()), "r"(static_cast<int>(accumulate)), "n"(NContiguous ? 1 : 0))

/// c (64 x N, fp32) = a b, plus c when `accumulate`. A (64 x 16, bf16) in registers: warp w of the warpgroup has rows 16w to 16w+15 in the
/// fragment of mma m16n8k16, and its 16 rows of c likewise: c[4j..4j+3] is the fragment of columns 8j to 8j+7. B (16 x N, bf16) in shared
/// memory, n contiguous or k contiguous as its SharedMatrix was made. Neither c nor a may be touched before the wait.
template <int N, bool NContiguous>
PHITUNE_DEVICE void wgmma_bf16(float (&c)[N / 2], const u32 (&a)[4], SharedMatrix b, bool accumulate) {
  if constexpr (N == 16)
    PHITUNE_WGMMA(16, PHITUNE_R0_7, 8, 9, 10, 11, 12, 13, 14, PHITUNE_C4(0), PHITUNE_C4(4));
  else if constexpr (N == 24)
    PHITUNE_WGMMA(24, PHITUNE_R0_7 "," PHITUNE_R4(8, 9, 10, 11), 12, 13, 14, 15, 16, 17, 18, PHITUNE_C4(0), PHITUNE_C4(4), PHITUNE_C4(8));
  else if constexpr (N == 32)
    PHITUNE_WGMMA(32, PHITUNE_R0_15, 16, 17, 18, 19, 20, 21, 22, PHITUNE_C16(0));
  else if constexpr (N == 40)
    PHITUNE_WGMMA(40, PHITUNE_R0_15 "," PHITUNE_R4(16, 17, 18, 19), 20, 21, 22, 23, 24, 25, 26, PHITUNE_C16(0), PHITUNE_C4(16));
  else if constexpr (N == 64)
    PHITUNE_WGMMA(64, PHITUNE_R0_31, 32, 33, 34, 35, 36, 37, 38, PHITUNE_C16(0), PHITUNE_C16(16));
  else if constexpr (N == 72)
    PHITUNE_WGMMA(72, PHITUNE_R0_31 "," PHITUNE_R4(32, 33, 34, 35), 36, 37, 38, 39, 40, 41, 42, PHITUNE_C16(0), PHITUNE_C16(16),
                  PHITUNE_C4(32));
  else if constexpr (N == 128)
    PHITUNE_WGMMA(128, PHITUNE_R0_63, 64, 65, 66, 67, 68, 69, 70, PHITUNE_C16(0), PHITUNE_C16(16), PHITUNE_C16(32), PHITUNE_C16(48));
  else if constexpr (N == 136)
    PHITUNE_WGMMA(136, PHITUNE_R0_63 "," PHITUNE_R4(64, 65, 66, 67), 68, 69, 70, 71, 72, 73, 74, PHITUNE_C16(0), PHITUNE_C16(16),
                  PHITUNE_C16(32), PHITUNE_C16(48), PHITUNE_C4(64));
  else if constexpr (N == 256)
    PHITUNE_WGMMA(256, PHITUNE_R0_127, 128, 129, 130, 131, 132, 133, 134, PHITUNE_C16(0), PHITUNE_C16(16), PHITUNE_C16(32), PHITUNE_C16(48),
                  PHITUNE_C16(64), PHITUNE_C16(80), PHITUNE_C16(96), PHITUNE_C16(112));
  else
    static_assert(N == 16, "a width that no template uses");
}

/// The same of fp16 operands, B with k contiguous.
template <int N>
PHITUNE_DEVICE void wgmma_f16(float (&c)[N / 2], const u32 (&a)[4], SharedMatrix b, bool accumulate) {
  constexpr bool NContiguous = false;
  if constexpr (N == 24)
    PHITUNE_WGMMA_OF("f16", 24, PHITUNE_R0_7 "," PHITUNE_R4(8, 9, 10, 11), 12, 13, 14, 15, 16, 17, 18, PHITUNE_C4(0), PHITUNE_C4(4), PHITUNE_C4(8));
  else if constexpr (N == 40)
    PHITUNE_WGMMA_OF("f16", 40, PHITUNE_R0_15 "," PHITUNE_R4(16, 17, 18, 19), 20, 21, 22, 23, 24, 25, 26, PHITUNE_C16(0), PHITUNE_C4(16));
  else
    static_assert(N == 24, "a width that no template uses");
}
#define PHITUNE_P4(i) "+r"(c[i]), "+r"(c[i + 1]), "+r"(c[i + 2]), "+r"(c[i + 3])
/// c (64 x N, fp16) = a b, plus c when `accumulate`, of fp16 operands, B with k contiguous. c[2j] and c[2j + 1] are packed pairs of columns 8j + 2t
/// and on, of a thread's rows g and g + 8: registers 4s to 4s + 3 are the fragment of A whose k are columns 16s to 16s + 15.
template <int N>
PHITUNE_DEVICE void wgmma_f16_packed(u32 (&c)[N / 4], const u32 (&a)[4], SharedMatrix b, bool accumulate) {
  static_assert(N == 128, "a width that no template uses");
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f16.f16.f16 {" PHITUNE_R0_31
               "}, {%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}"
               : PHITUNE_P4(0), PHITUNE_P4(4), PHITUNE_P4(8), PHITUNE_P4(12), PHITUNE_P4(16), PHITUNE_P4(20), PHITUNE_P4(24), PHITUNE_P4(28)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.bits()), "r"(static_cast<int>(accumulate)));
}
#undef PHITUNE_P4
#undef PHITUNE_WGMMA_OF
#undef PHITUNE_WGMMA
#undef PHITUNE_R0_127
#undef PHITUNE_R0_63
#undef PHITUNE_R0_31
#undef PHITUNE_R0_15
#undef PHITUNE_R0_7
#undef PHITUNE_R4
#undef PHITUNE_R8
#undef PHITUNE_C16
#undef PHITUNE_C4

}  // namespace phitune
