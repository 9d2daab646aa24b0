// What both sides of a block of the Hopper attention kernel in fp16 (half_attention.cuh) know: its works, its shared memory and barriers, and
// its share of the keys that all blocks weigh before any of them multiplies.
#pragma once

#include "kernel_templates/sm90/key_weigher.cuh"

namespace phitune::sm90 {

template <HalfAttentionConfig C>
struct HalfBlock {
  static constexpr HalfAttentionLayout L = half_attention_layout(C);
  static constexpr HalfTileLayout T = half_tile_layout(C);
  using Weigher = KeyWeigher<C>;
  static_assert(C.stages >= 3);  // the tile in use, the one before, whose products are in flight, and the one that is waited for

  const Args& args;
  int batch, head, kv_head, first;  // of the work's rows
  int tiles;                        // of keys, up to the diagonal of its last row

  PHITUNE_DEVICE explicit HalfBlock(const Args& a) : args(a) {}

  PHITUNE_DEVICE int row_tiles() const { return ceil_div(args.t, L.block_rows); }
  PHITUNE_DEVICE u32 works() const { return static_cast<u32>(args.b * args.hq * row_tiles()); }
  PHITUNE_DEVICE int key_head() const { return batch * args.hk + kv_head; }

  /// Calls body(turn) for each work of the block, one after another.
  template <class Deal, class Body>
  PHITUNE_DEVICE void each_work(const Body& body) {
    const u32 count = works(), end = Deal::end(count);
    int turn = 0;
    PHITUNE_NO_UNROLL
    for (u32 index = block_index_x(); index < end; index += grid_size_x()) {
      const u32 work = Deal::work(index);
      if (work >= count) continue;
      set_work(work);
      body(turn++);
    }
  }
  // As AttentionBlock::set_work has it, for one chunk.
  PHITUNE_DEVICE void set_work(u32 work) {
    const AttentionPlace place = attention_place(work, row_tiles(), grid_size_x());
    const u32 group = static_cast<u32>(args.hq) / args.hk, rest = place.group / group;
    kv_head = rest % static_cast<u32>(args.hk);
    batch = rest / static_cast<u32>(args.hk);
    head = kv_head * group + place.group % group;
    first = place.tile * L.block_rows;
    const int reach = first + L.block_rows < args.t ? first + L.block_rows : args.t;
    tiles = ceil_div(reach, half_keys);
  }

  PHITUNE_DEVICE static Barrier* barrier(int index) { return reinterpret_cast<Barrier*>(shared_memory() + L.barriers_at) + index; }
  PHITUNE_DEVICE static int slot_of(int turn) { return static_cast<int>(static_cast<u32>(turn) % C.stages); }
  PHITUNE_DEVICE static int phase_of(int turn) { return static_cast<int>(static_cast<u32>(turn) / C.stages & 1); }
  PHITUNE_DEVICE static Barrier* full(int turn) { return barrier(slot_of(turn)); }
  PHITUNE_DEVICE static Barrier* empty(int turn) { return barrier(C.stages + slot_of(turn)); }
  PHITUNE_DEVICE static Barrier* queries_full(int turn) { return barrier(2 * C.stages + turn % C.query_tiles); }
  PHITUNE_DEVICE static Barrier* queries_empty(int turn) { return barrier(2 * C.stages + C.query_tiles + turn % C.query_tiles); }
  PHITUNE_DEVICE static char* slot(int turn) { return shared_memory() + L.ring_at + slot_of(turn) * L.stage_bytes; }
  PHITUNE_DEVICE static char* queries(int turn) { return shared_memory() + L.queries_at + turn % C.query_tiles * L.query_bytes; }
  /// The largest exponents that the loading warps have found.
  PHITUNE_DEVICE static int* references(int turn) { return reinterpret_cast<int*>(shared_memory() + L.references_at) + turn % C.query_tiles * 4; }

  PHITUNE_DEVICE static void open() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int i = 0; i < C.stages; ++i) {
        barrier_init(full(i), 1);
        barrier_init(empty(i), L.consumers / 32);
      }
      PHITUNE_UNROLL
      for (int i = 0; i < C.query_tiles; ++i) {
        barrier_init(queries_full(i), 128 + 4);  // copies, and warps' references
        barrier_init(queries_empty(i), L.consumers / 32);
      }
      barrier_init_fence();
    }
    block_barrier();
  }

  /// This block's share of all tiles of keys, a warp each. Waits for earlier kernels, when keys and values are on their way.
  PHITUNE_DEVICE static void weigh_keys(const Args& args) {
    const int count = args.b * args.hk * half_tiles(args.t), warps = L.threads / 32 * grid_size_x();
    Weigher weigher(args);
    PHITUNE_NO_UNROLL
    for (int index = warp() * grid_size_x() + block_index_x(); index < count; index += warps) {
      weigher.read(index);
      wait_for_earlier_kernels();
      weigher.weigh(index);
    }
    wait_for_earlier_kernels();
    block_barrier();
    if (thread_index() == 0) count_up(args.progress);
  }
};

}  // namespace phitune::sm90
