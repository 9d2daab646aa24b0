// Configuration and shared-memory layout of the Hopper attention kernel; the host sides of its stages count with the same functions.
#pragma once

#include "kernel_templates/sm90/denominator_product_config.cuh"
#include "kernel_templates/sm90/key_tiles_config.cuh"
#include "kernel_templates/sm90/state_product_config.cuh"

namespace phitune::sm90 {

/// phi(q) S of the state before the chunk, as attend_query and query_state add it.
struct AddedState {
  bool added;
  int d_tile;
  int steps;  // k16 steps of the state in one stage of the ring
  int batch;  // k16 steps of phi(q) that are formed at once, while the batch before is multiplied
};

struct AttentionConfig {
  int d, e, p;
  bool gated;
  bool sum;         // row sums are needed
  bool keys;        // of the rows' own chunk; else what `attention` left of them is added: partial outputs, row sums
  bool complete;    // writes y; else unnormalised partial outputs and their row sums
  Storage partial;  // of partial outputs
  AddedState state;
  int warpgroups;                            // that multiply; one more loads
  int key_groups;                            // the warpgroups of so many groups share out the tiles of keys of the same rows
  int m_tiles;                               // 64-row query tiles per warpgroup
  int stages;                                // depth of the ring
  int score_sets;                            // with 2, the next scores are in flight while weights are formed of these
  bool held_queries;                         // in registers while tiles of keys are met, else read from shared memory for each
  int query_tiles;                           // in shared memory: with two, the next work's queries come while this one's are used
  int consumer_registers, loader_registers;  // per thread, once the warpgroups have divided them

  /// y is divided by the row sums.
  PHITUNE_DEVICE constexpr bool normalised() const { return sum && complete; }
  /// Of the accumulators: e, then eight for the row sum.
  PHITUNE_DEVICE constexpr int columns() const { return e + (sum ? 8 : 0); }
  /// The state's denominators are a matrix.
  PHITUNE_DEVICE constexpr bool denominators() const { return state.added && denominator_matrix(d, p, sum); }
  PHITUNE_DEVICE constexpr int state_columns() const { return denominators() ? e : columns(); }
  PHITUNE_DEVICE constexpr Storage output() const { return complete ? Storage::bf16 : partial; }
};

PHITUNE_DEVICE constexpr StateProductConfig state_product(const AttentionConfig& c) {
  return {.d = c.d,
          .p = c.p,
          .d_tile = c.state.d_tile,
          .columns = c.state_columns(),
          .accumulated = c.columns(),
          .m_tiles = c.m_tiles,
          .steps = c.state.steps,
          .batch = c.state.batch};
}
PHITUNE_DEVICE constexpr DenominatorProductConfig denominator_product(const AttentionConfig& c) {
  return {.d = c.d, .m_tiles = c.m_tiles, .slot_bytes = c.state.added ? state_product_layout(state_product(c)).stage_bytes : 0};
}
PHITUNE_DEVICE constexpr KeyTilesConfig key_tiles(const AttentionConfig& c) {
  return {.d = c.d, .e = c.e, .p = c.p, .gated = c.gated, .ones = c.sum};
}

/// A piece of work: block of rows `tile` of the `group`-th head and chunk.
struct AttentionPlace {
  u32 group, tile;
};
/// The piece of work that is number `work` of all. Those of block i of a grid are i, i + grid, ..., a *round* each, unless they are dealt out
/// otherwise (below). Pieces of one head or chunk lie side by side, so that what they read is in L2; a block that had the n-th longest of its
/// neighbours has the n-th shortest next. (Unsigned: several divisions by numbers that the compiler does not know.)
PHITUNE_DEVICE constexpr AttentionPlace attention_place(u32 work, u32 row_count, u32 grid) {
  const u32 group = work / row_count, at = work % row_count;
  if (row_count <= grid) {
    // Rounds of whole heads or chunks; `column` is what `at` was for the block in round 0.
    const u32 round = group / (grid / row_count), column = (at + row_count - round * grid % row_count) % row_count;
    return {group, round % 2 == 0 ? row_count - 1 - column : column};
  }
  const u32 round = at / grid, first = round * grid, end = first + grid < row_count ? first + grid : row_count;
  return {group, round % 2 == 0 ? at : first + end - 1 - at};
}

/// Which numbers a block's works have. In turn: its own number, then grid more each time.
struct InTurn {
  PHITUNE_DEVICE static constexpr u32 end(u32 works) { return works; }
  PHITUNE_DEVICE static constexpr u32 work(u32 index) { return index; }
};
/// In the last rounds blocks exchange works of a round, so that all end together: the host side says with whom. From number Table::first on,
/// the first of a round, to Table::end, the end of one, a block of Table::grid has the work that is in turn for block Table::block(number -
/// first); that may be one past the last, which is none.
template <class Table>
struct Exchanged {
  PHITUNE_DEVICE static constexpr u32 end(u32) { return Table::end; }
  PHITUNE_DEVICE static u32 work(u32 index) {
    return index < Table::first ? index : index / Table::grid * Table::grid + Table::block(index - Table::first);
  }
};

/// So many tiles before their keys the gates of the keys are asked for, in a ring of their own: unlike a copied tile, a gate is needed by
/// the thread that loads it.
inline constexpr int gates_ahead = 8;

struct AttentionLayout {
  int consumers, threads, row_groups, block_rows;
  int accumulators;  // of a thread and query tile: e columns, then the row sum's
  int slot_bytes;    // of the ring: a stage of the state, or a tile of keys
  int query_stride, query_bytes;
  int part_bytes;      // what the warpgroups of one further key group leave for the first
  int partial_stride;  // without keys: a row of partial outputs, its sum and gate; padding puts eight rows of pairs in different banks
  int barriers_at, row_gates_at, gates_at, table_at, parts_at, queries_at, ring_at, ones_at, shared_bytes;
};

PHITUNE_DEVICE constexpr AttentionLayout attention_layout(const AttentionConfig& c) {
  AttentionLayout l{};
  const KeyTilesLayout tiles = c.keys ? key_tiles_layout(key_tiles(c)) : KeyTilesLayout{};
  const StateProductLayout state = c.state.added ? state_product_layout(state_product(c)) : StateProductLayout{};
  const DenominatorProductLayout z = c.denominators() ? denominator_product_layout(denominator_product(c)) : DenominatorProductLayout{};
  l.consumers = c.warpgroups * 128;
  l.threads = l.consumers + 128;
  l.row_groups = c.warpgroups / c.key_groups;
  l.block_rows = l.row_groups * c.m_tiles * 64;
  l.accumulators = c.columns() / 2;
  l.slot_bytes = state.stage_bytes > tiles.stage_bytes ? state.stage_bytes : tiles.stage_bytes;
  // (One step of Z may be longer than a short stage of S.)
  l.slot_bytes = round_up(l.slot_bytes > z.stage_bytes ? l.slot_bytes : z.stage_bytes, 1024);
  l.query_stride = query_stride(c.d);
  l.query_bytes = l.block_rows * l.query_stride;
  l.part_bytes = l.row_groups * 128 * l.accumulators * 4;
  l.partial_stride = (c.e + 8) * storage_bytes(c.partial);
  l.barriers_at = 0;
  l.row_gates_at = round_up((2 * c.stages + 2 * c.query_tiles + 2) * 8, 16);
  l.gates_at = l.row_gates_at + c.query_tiles * 16;
  l.table_at = round_up(l.gates_at + (c.keys && c.gated ? gates_ahead * tile_keys * 8 : 0), 128);
  l.parts_at = round_up(l.table_at + state.table_bytes, 128);
  l.queries_at = l.parts_at + (c.keys ? (c.key_groups - 1) * l.part_bytes : l.block_rows * l.partial_stride);
  l.ring_at = round_up(l.queries_at + c.query_tiles * l.query_bytes, 1024);
  l.ones_at = l.ring_at + c.stages * l.slot_bytes;
  l.shared_bytes = l.ones_at + (tiles.shared_ones ? tiles.ones_bytes : 0);
  return l;
}

}  // namespace phitune::sm90
