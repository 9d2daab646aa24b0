// The only inline PTX of phitune, one function per instruction, for sm_80 and later. Collective functions (marked "warp" or "block") must
// be reached by all threads they name. PTX ISA: https://docs.nvidia.com/cuda/parallel-thread-execution/
#pragma once

#include "kernel_templates/common/numeric.cuh"

namespace phitune {

// ---- where a thread is ----

/// Linear index of the thread in its block; blocks are one-dimensional.
PHITUNE_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
PHITUNE_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
PHITUNE_DEVICE int block_index_x() { return static_cast<int>(blockIdx.x); }
PHITUNE_DEVICE int block_index_y() { return static_cast<int>(blockIdx.y); }
PHITUNE_DEVICE int block_index_z() { return static_cast<int>(blockIdx.z); }
PHITUNE_DEVICE int grid_size_x() { return static_cast<int>(gridDim.x); }
PHITUNE_DEVICE int grid_size_y() { return static_cast<int>(gridDim.y); }
PHITUNE_DEVICE int grid_size_z() { return static_cast<int>(gridDim.z); }
PHITUNE_DEVICE int lane() { return static_cast<int>(threadIdx.x & 31u); }
/// Index of the warp in its block, known to the compiler as the same for the whole warp.
PHITUNE_DEVICE int warp() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x >> 5), 0); }

/// The block's dynamic shared memory, 128-byte aligned.
PHITUNE_DEVICE char* shared_memory() {
  extern __shared__ __align__(128) char phitune_shared_memory[];
  return phitune_shared_memory;
}

// ---- kernels of a stream ----

#if __CUDA_ARCH__ >= 900
/// A cubin that has this waits, so that it may be launched while the kernel before it ends (harness/device/cuda.hpp).
extern "C" __device__ const int phitune_waits_for_earlier_kernels = 1;
#endif
/// Waits until all that earlier kernels of the stream have written is there, and lets the next kernel take the places of this one's blocks
/// as they end. In every block, by all threads that read or write what another kernel of the plan has to do with, or by others that these then wait
/// for. Not needed for the plan's inputs: its first kernel starts when all before it has ended. (sm_90 and later, for kernels launched with
/// programmatic stream serialisation; else kernels start when the one before has ended.)
PHITUNE_DEVICE void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;  // %0" ::"l"(&phitune_waits_for_earlier_kernels) : "memory");
#endif
}

// ---- between the blocks of a grid whose blocks all run at once ----

/// Adds one to a counter in global memory, after all that this warp has written before (its lanes, before a warp_barrier). By one thread.
PHITUNE_DEVICE void count_up(u32* counter) { asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory"); }
/// Warp: waits until the first of `counters` has reached `target`, and gives how many of the first `count`, at most 32, have without a
/// gap. What was written before they were counted up can then be read.
PHITUNE_DEVICE int wait_for_counts(const u32* counters, int count, u32 target) {
  const bool mine = lane() < count;
  for (;;) {
    u32 value = 0;
    if (mine) asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counters + lane()) : "memory");
    const u32 missing = __ballot_sync(0xffffffffu, !mine || value < target);
    const int there = missing == 0 ? 32 : __ffs(static_cast<int>(missing)) - 1;
    if (there > 0) {
      // (Acquired once, not each time it looks: that invalidates L1. A fence would wait for this thread's own writes, too.)
      if (mine) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counters + lane()) : "memory");
      __syncwarp();  // what one lane has acquired, all have
      return there;
    }
    __nanosleep(200);
  }
}

// ---- barriers ----

/// Block: waits for all threads; orders global and shared memory among them.
PHITUNE_DEVICE void block_barrier() { __syncthreads(); }
/// Barrier `id` (1 to 15) among `threads` threads (a multiple of 32) of the block.
PHITUNE_DEVICE void named_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
/// Warp: orders shared memory among its lanes.
PHITUNE_DEVICE void warp_barrier() { __syncwarp(); }

// ---- asynchronous copies to shared memory ----

PHITUNE_DEVICE u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

/// Copies 16 bytes (both 16-byte aligned) past L1; writes zeros when not valid (gmem is then not read, wherever it points).
PHITUNE_DEVICE void cp_async_16(void* smem, const void* gmem, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(smem)), "l"(gmem), "r"(valid ? 16 : 0)
               : "memory");
}
/// Copies 4 bytes, or writes a zero word.
PHITUNE_DEVICE void cp_async_4(void* smem, const void* gmem, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(smem)), "l"(gmem), "r"(valid ? 4 : 0) : "memory");
}
/// Closes the group of this thread's copies since the last commit.
PHITUNE_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most N of this thread's groups are in flight; other threads see the data after a barrier.
template <int N>
PHITUNE_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// ---- 16-byte loads and stores of global memory ----

PHITUNE_DEVICE U4 load_global_16(const void* p) {
  U4 r;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p) : "memory");
  return r;
}
/// For data that nobody writes during the kernel and that this block reads once.
PHITUNE_DEVICE U4 load_global_16_streaming(const void* p) {
  U4 r;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p));
  return r;
}
PHITUNE_DEVICE void store_global_16(void* p, U4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

/// For data that is not read again before much else is: the first to leave the L2 cache.
PHITUNE_DEVICE void store_global_16_streaming(void* p, U4 v) {
  u64 policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  asm volatile("st.global.L2::cache_hint.v4.u32 [%0], {%1, %2, %3, %4}, %5;" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "l"(policy)
               : "memory");
}

// ---- matrices from shared memory (warp) ----

/// Loads N 8x8 matrices of 16-bit elements. Lanes 8i..8i+7 give the 16-byte aligned rows of matrix i (for x2 lanes 0..15 count). Register i
/// holds, of matrix i, row lane/4, columns 2(lane%4) and +1; with _trans, rows 2(lane%4) and +1 of column lane/4. The low half is the
/// first.
PHITUNE_DEVICE void ldmatrix_x4(u32 (&r)[4], const void* smem_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(smem_row)));
}
PHITUNE_DEVICE void ldmatrix_x4_trans(u32 (&r)[4], const void* smem_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(smem_row)));
}
PHITUNE_DEVICE void ldmatrix_x2(u32 (&r)[2], const void* smem_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(smem_row)));
}
PHITUNE_DEVICE void ldmatrix_x2_trans(u32 (&r)[2], const void* smem_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(smem_row)));
}

// ---- matrix products (warp): c += a b, fp32 accumulators; fragments as in the PTX ISA ----

PHITUNE_DEVICE void mma_m16n8k16_bf16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
PHITUNE_DEVICE void mma_m16n8k16_f16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
PHITUNE_DEVICE void mma_m16n8k8_tf32(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- packed 16-bit arithmetic and conversions ----

/// Elementwise product of two packed pairs, rounded to nearest even. (A fused multiply-add of -0: sm_80 has no packed bf16 multiply.)
PHITUNE_DEVICE u32 mul_bf16x2(u32 a, u32 b) {
  u32 r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(0x80008000u));
  return r;
}
/// a * b + c of packed pairs, rounded once.
PHITUNE_DEVICE u32 fma_bf16x2(u32 a, u32 b, u32 c) {
  u32 r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
PHITUNE_DEVICE u32 mul_f16x2(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}

/// Two floats to a packed pair, to nearest even; `lo` in the low half.
PHITUNE_DEVICE u32 pack_bf16x2(float lo, float hi) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
PHITUNE_DEVICE u32 pack_f16x2(float lo, float hi) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}

/// One half of a packed pair as a float, exact.
PHITUNE_DEVICE float low_bf16(u32 x) { return bits_float(x << 16); }
PHITUNE_DEVICE float high_bf16(u32 x) { return bits_float(x & 0xffff0000u); }
PHITUNE_DEVICE float half_float(u16 x) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
  return r;
}
PHITUNE_DEVICE float low_f16(u32 x) { return half_float(static_cast<u16>(x)); }
PHITUNE_DEVICE float high_f16(u32 x) { return half_float(static_cast<u16>(x >> 16)); }

/// Float to tf32, to nearest with ties away from zero.
PHITUNE_DEVICE u32 to_tf32(float x) {
  u32 r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
}

/// 2^x within 2 ulp; subnormal results are flushed to zero.
PHITUNE_DEVICE float exp2_approx(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// ---- bytes and shuffles ----

/// Byte i of the result is byte (selector >> 4i) & 7 of the eight bytes {a (0-3), b (4-7)}.
PHITUNE_DEVICE u32 permute_bytes(u32 a, u32 b, u32 selector) {
  u32 r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}

/// Warp: the value of lane `lane() ^ mask`.
PHITUNE_DEVICE u32 shuffle_xor(u32 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
PHITUNE_DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
/// Warp: the value of lane `source`.
PHITUNE_DEVICE u32 shuffle(u32 x, int source) { return __shfl_sync(0xffffffffu, x, source); }
PHITUNE_DEVICE float shuffle(float x, int source) { return __shfl_sync(0xffffffffu, x, source); }

}  // namespace phitune
