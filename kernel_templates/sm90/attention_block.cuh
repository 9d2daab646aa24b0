// What both sides of a block of the Hopper attention kernel (attention.cuh) know, the warpgroup that loads and those that multiply: the
// piece of work, what lies where in shared memory, and the barriers.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/sm90/attention_config.cuh"
#include "kernel_templates/sm90/denominator_product.cuh"
#include "kernel_templates/sm90/key_tiles.cuh"
#include "kernel_templates/sm90/state_product.cuh"

namespace phitune::sm90 {

template <AttentionConfig C>
struct AttentionBlock {
  static constexpr AttentionLayout L = attention_layout(C);
  using State = StateProduct<state_product(C)>;  // where C.state.added
  using Denominators = DenominatorProduct<denominator_product(C)>;  // where C.denominators()
  using Tiles = KeyTiles<key_tiles(C)>;
  static constexpr int keys = tile_keys, warpgroup_rows = 64 * C.m_tiles;
  // Half of the loading warpgroup copies states and keys; the other half marks the keys with what they have beside their copies, a key
  // each, or, without keys, copies what `attention` left. So neither waits for the other. Arrivals that fill a slot: each thread that
  // brings something there, when its copies have landed or what it writes is there.
  static constexpr int copiers = Tiles::copiers, markers = keys;
  static constexpr bool marked = C.keys && (C.gated || (C.sum && !Tiles::L.shared_ones));
  static constexpr int slot_arrivals = copiers + (marked ? markers : 0);
  static_assert(copiers + markers == 128);

  const Args& args;
  int batch, head, kv_head, chunk, start, length, first;  // rows [first, ...) of a chunk of `length` tokens that begins at token `start`
  int tiles, whole;                                       // key tiles, and how many of them lie before all of the block's rows
  bool multiplies;                                        // there is a state before the chunk
  bool split;                                             // gates of the rows' own keys are factors too
  F2 reference;                                           // G_ref; at the chunk's start gates are 0

  static_assert(C.keys || (C.state.added && C.complete && C.key_groups == 1), "with nothing else, there is a state to multiply");
  static_assert(C.stages >= (C.keys && C.m_tiles == 1 ? 2 * C.key_groups + 1 : 2), "a group holds two tiles when it waits for a third");
  static_assert(C.key_groups == 1 || (C.m_tiles == 1 && !C.state.added), "the last tile of a group is the last of all its rows");
  static_assert(C.warpgroups % C.key_groups == 0);

  /// Stages of the ring that a work's state takes: those of S, then of the denominator matrix.
  PHITUNE_DEVICE static constexpr int denominator_stages() {
    if constexpr (C.denominators())
      return Denominators::stages;
    else
      return 0;
  }
  PHITUNE_DEVICE static constexpr int state_stages() { return denominator_stages() + State::L.stage_count; }

  PHITUNE_DEVICE explicit AttentionBlock(const Args& a) : args(a) {}

  // ---- works ----

  PHITUNE_DEVICE int row_tiles() const { return ceil_div(args.chunk, L.block_rows); }
  PHITUNE_DEVICE int works() const { return args.b * args.hq * args.chunks * row_tiles(); }

  /// Calls body() for each work of the block, one after another. Deal: which they are.
  template <class Deal, class Body>
  PHITUNE_DEVICE void each_work(const Body& body) {
    const u32 count = static_cast<u32>(works()), end = Deal::end(count);
    PHITUNE_NO_UNROLL
    for (u32 index = block_index_x(); index < end; index += grid_size_x()) {
      const u32 work = Deal::work(index);
      if (work < count && set_work(work)) body();
    }
  }

  PHITUNE_DEVICE bool set_work(u32 work) {
    const AttentionPlace place = attention_place(work, row_tiles(), grid_size_x());
    const u32 group = static_cast<u32>(args.hq) / args.hk;
    u32 rest = place.group;
    const u32 head_in_group = rest % group;
    rest /= group;
    chunk = rest % static_cast<u32>(args.chunks);
    rest /= static_cast<u32>(args.chunks);
    kv_head = rest % static_cast<u32>(args.hk);
    batch = rest / static_cast<u32>(args.hk);
    head = kv_head * group + head_in_group;
    start = chunk * args.chunk;
    length = args.t - start < args.chunk ? args.t - start : args.chunk;
    first = place.tile * L.block_rows;
    const int reach = first + L.block_rows < length ? first + L.block_rows : length;
    tiles = (first + round_up(reach - first, warpgroup_rows)) / keys;
    whole = first / keys;
    multiplies = C.state.added && (chunk > 0 || args.initial_state != nullptr);
    if (first >= length) return false;
    return true;
  }

  // G_ref and the gate of the last row, which decide whether gates may be split. The loading threads read them from memory and copy them
  // beside the queries, for the others, who would have to wait for memory.
  PHITUNE_DEVICE int last_row() const { return (first + L.block_rows < length ? first + L.block_rows : length) - 1; }
  PHITUNE_DEVICE const F2* reference_gate() const { return chunk_gates() + (whole > 0 ? whole * keys - 1 : 0); }
  PHITUNE_DEVICE void set_reference(F2 reference_gate, F2 last_gate) {
    reference = whole > 0 ? reference_gate : F2{0.0f, 0.0f};
    split = Tiles::may_split(reference, last_gate);
  }
  PHITUNE_DEVICE const F2* chunk_gates() const {
    return reinterpret_cast<const F2*>(args.gates) + (static_cast<i64>(batch) * args.hk + kv_head) * args.t + start;
  }
  /// Row of the chunk's start in [b][hq][t].
  PHITUNE_DEVICE i64 head_row() const { return (static_cast<i64>(batch) * args.hq + head) * args.t + start; }

  // ---- shared memory ----

  PHITUNE_DEVICE static Barrier* barrier(int index) { return reinterpret_cast<Barrier*>(shared_memory() + L.barriers_at) + index; }
  // (Unsigned: signed division rounds to zero, at the price of some instructions.)
  PHITUNE_DEVICE static int slot_of(int turn) { return static_cast<int>(static_cast<u32>(turn) % C.stages); }
  PHITUNE_DEVICE static int phase_of(int turn) { return static_cast<int>(static_cast<u32>(turn) / C.stages & 1); }
  PHITUNE_DEVICE static Barrier* full(int turn) { return barrier(slot_of(turn)); }
  PHITUNE_DEVICE static Barrier* empty(int turn) { return barrier(C.stages + slot_of(turn)); }
  PHITUNE_DEVICE static Barrier* queries_full(int turn) { return barrier(2 * C.stages + turn % C.query_tiles); }
  PHITUNE_DEVICE static Barrier* queries_empty(int turn) { return barrier(2 * C.stages + C.query_tiles + turn % C.query_tiles); }
  // Of what the other key groups leave for the first, or what `attention` left.
  PHITUNE_DEVICE static Barrier* parts_full() { return barrier(2 * C.stages + 2 * C.query_tiles); }
  PHITUNE_DEVICE static Barrier* parts_empty() { return barrier(2 * C.stages + 2 * C.query_tiles + 1); }

  PHITUNE_DEVICE static char* slot(int turn) { return shared_memory() + L.ring_at + slot_of(turn) * L.slot_bytes; }
  PHITUNE_DEVICE static char* queries(int turn) { return shared_memory() + L.queries_at + turn % C.query_tiles * L.query_bytes; }
  PHITUNE_DEVICE static F2* row_gates(int query_turn) {
    return reinterpret_cast<F2*>(shared_memory() + L.row_gates_at) + query_turn % C.query_tiles * 2;
  }
  PHITUNE_DEVICE static char* ones() { return shared_memory() + L.ones_at; }
  PHITUNE_DEVICE static u32* table() { return reinterpret_cast<u32*>(shared_memory() + L.table_at); }

  /// A row's partial outputs, and behind them its other terms.
  PHITUNE_DEVICE static char* partials(int row) { return shared_memory() + L.parts_at + row * L.partial_stride; }
  struct RowTerms {
    F2 gate;
    float sum;
  };
  PHITUNE_DEVICE static RowTerms* row_terms(int row) { return reinterpret_cast<RowTerms*>(partials(row) + C.e * storage_bytes(C.partial)); }

  PHITUNE_DEVICE static void open() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int i = 0; i < C.stages; ++i) {
        barrier_init(full(i), slot_arrivals);
        barrier_init(empty(i), L.row_groups * 4);
      }
      PHITUNE_UNROLL
      for (int i = 0; i < C.query_tiles; ++i) {
        barrier_init(queries_full(i), 128);
        barrier_init(queries_empty(i), L.consumers / 32);
      }
      if constexpr (C.key_groups > 1) {
        barrier_init(parts_full(), (C.key_groups - 1) * L.row_groups * 128);
        barrier_init(parts_empty(), L.row_groups * 128);
      }
      if constexpr (!C.keys) {
        barrier_init(parts_full(), markers);
        barrier_init(parts_empty(), L.consumers / 32);
      }
      barrier_init_fence();
    }
    if constexpr (C.state.added) State::build_table(table(), L.threads);
    if constexpr (C.keys && Tiles::L.shared_ones) {
      if (thread_index() < keys) Tiles::store_one(ones(), thread_index());
    }
    block_barrier();
  }
};

}  // namespace phitune::sm90
