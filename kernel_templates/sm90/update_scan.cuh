// update_state and scan in one kernel, on Hopper: S_0 = initial state or 0, S_(n+1) = exp(G_end(n)) S_n + U_n, times multiplicity and
// scale^p; each state is written once.
//
// Blocks are update_state's, with one warpgroup more. The warpgroups that multiply write U_n where S_n will lie. When a work is written, one
// warp of the further warpgroup counts it up for all blocks; the other three, of all blocks, each for its own pieces of the state, read
// back what is there (from L2: a moment ago it was in registers) and write S_n over it. A piece is 16 bytes per lane, and its running sum
// stays in registers from the first chunk to the last.
//
// Scanning warps wait for all blocks, so all blocks must run at once: the launch is cooperative. Nobody waits for a scanning warp.
#pragma once

#include "kernel_templates/sm80/scan.cuh"
#include "kernel_templates/sm90/update_state.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C>
class UpdateScan {
 public:
  using Update = UpdateState<C>;
  static constexpr UpdateStateLayout L = update_state_layout(C);
  static constexpr ScanConfig scan_config{.d = C.d,
                                          .e = C.e,
                                          .p = C.p,
                                          .d_tile = C.d_tile,
                                          .rows = L.state_rows,
                                          .state = Storage::bf16,
                                          .update = Storage::bf16,
                                          .gated = C.gated,
                                          .sum = C.sum,
                                          .z_in_update = false,
                                          .initial_state = C.initial_state,
                                          .final_state = C.final_state,
                                          .threads = 128,
                                          .unroll = 1,
                                          .vector = 8,
                                          .in_place = true,
                                          .cores = true};
  // An octet's vectors of 8 columns: those of the values, then those of the denominators. A piece is 32 of either kind, for all chunks. Those of
  // a head's values come before those of its denominators. A denominator matrix is written with the last slice.
  static constexpr int octet_vectors = L.columns, octet_values = L.value_columns, octet_denominators = octet_vectors - octet_values;
  static constexpr int slice_octets = L.slices == 1 ? L.rows / 8 : L.block_octets;  // (of the last slice fewer may exist)
  static constexpr int value_pieces = ceil_div(L.rows / 8 * octet_values, 32);
  static constexpr int denominator_pieces = C.matrix() ? C.d * C.d / 4 / 32 : ceil_div(L.rows / 8 * octet_denominators, 32);
  static constexpr int pieces = value_pieces + denominator_pieces;  // of a head
  static_assert(slice_octets * octet_values % 32 == 0 && slice_octets * octet_denominators % 32 == 0, "a piece is of one slice");
  static constexpr i64 matrix_bytes = static_cast<i64>(L.rows) * L.columns * 2;
  // Chunks that are read at once, and groups of them that are on their way.
  static constexpr int at_once = 4, groups = C.scan_depth / at_once;
  static constexpr int scanning_warps = 3;
  static_assert(C.scan_depth % at_once == 0 && 32 % at_once == 0);

  PHITUNE_DEVICE UpdateScan(const Args& a, const Update& u) : args(a), update(u) {}

  PHITUNE_DEVICE static void open() {
    if (thread_index() == 0) {
      barrier_init(written(), L.consumers / 32);
      barrier_init(told(), 1);
    }
    Update::open();
  }

  /// The warpgroups that multiply.
  PHITUNE_DEVICE void multiply() const {
    update.multiply_works([&](int index) {
      // Works may be so short that one warp is done with the next one before another is with this.
      const u32 turn = static_cast<u32>(index) / grid_size_x();
      if (turn > 0) barrier_wait(told(), (turn - 1) & 1);
      warp_barrier();
      if (lane() == 0) barrier_arrive(written());
    });
  }

  /// One warp: tells all blocks of each work that is written. (The fence that this takes would hold up those who write.)
  PHITUNE_DEVICE void tell() const {
    const int works = update.works();
    int turn = 0;
    PHITUNE_NO_UNROLL
    for (int index = block_index_x(); index < works; index += grid_size_x(), ++turn) {
      const typename Update::Work work = update.work_at(index);
      barrier_wait(written(), turn & 1);
      if (lane() == 0) {
        count_up(counters(work.head, work.slice) + work.chunk);
        barrier_arrive(told());
      }
    }
  }

  /// The other warps, `warp_index` from 0: all pieces of a warp, one after another. Updates are read ahead, across the ends of pieces.
  PHITUNE_DEVICE void scan(int warp_index) const {
    const int count = args.b * args.hk * pieces, warps = grid_size_x() * scanning_warps;
    char* const slots = shared_memory() + L.scan_at + (warp_index * C.scan_depth * 32 + lane()) * 16;
    // (Neighbouring pieces to different blocks.)
    const int first = warp_index * grid_size_x() + block_index_x();
    // (Where there are more warps than pieces, some have none.)
    Ahead ahead{};
    ahead.piece = first;
    if (first < count) open(ahead, first);
    PHITUNE_NO_UNROLL
    for (int group = 0; group < groups - 1; ++group) read(ahead, slots + group * (at_once * 512), count);
    int turn = 0;
    PHITUNE_NO_UNROLL
    for (int piece = first; piece < count; piece += warps) {
      if (of_values(piece)) {
        const int found = vector_of(piece);
        ScannedVector<scan_config, ScanPart::values> vector(args, head_of(piece), found < vectors ? found : 0);
        scan_piece(vector, piece, found < vectors, turn, ahead, slots, count);
      } else if constexpr (C.ones()) {
        const int found = vector_of(piece);
        ScannedVector<scan_config, ScanPart::denominators> vector(args, head_of(piece), found < vectors ? found : octet_values);
        scan_piece(vector, piece, found < vectors, turn, ahead, slots, count);
      } else if constexpr (C.matrix()) {
        ScannedDenominators<scan_config> vector(args, head_of(piece), item_of(piece));
        scan_piece(vector, piece, true, turn, ahead, slots, count);
      }
    }
  }

 private:
  // Of the work that all warps have written, and of the one that all blocks have been told of.
  PHITUNE_DEVICE static Barrier* written() { return reinterpret_cast<Barrier*>(shared_memory() + L.written_at); }
  PHITUNE_DEVICE static Barrier* told() { return written() + 1; }
  /// Counters of the chunks of a slice: how many of its works are written.
  PHITUNE_DEVICE u32* counters(int head, int slice) const { return args.progress + static_cast<i64>(head * L.slices + slice) * args.chunks; }

  PHITUNE_DEVICE static int head_of(int piece) { return piece / pieces; }
  PHITUNE_DEVICE static bool of_values(int piece) { return piece % pieces < value_pieces; }
  /// The lane's item among a head's vectors of values, or of denominators.
  PHITUNE_DEVICE static int item_of(int piece) { return (piece % pieces - (of_values(piece) ? 0 : value_pieces)) * 32 + lane(); }
  /// The lane's vector in a state; past the end where it has none.
  PHITUNE_DEVICE static int vector_of(int piece) {
    const int item = item_of(piece);
    if (of_values(piece)) return item / octet_values * octet_vectors + item % octet_values;
    constexpr int each = octet_denominators > 0 ? octet_denominators : 1;
    return item / each * octet_vectors + octet_values + item % each;
  }
  PHITUNE_DEVICE static int slice_of(int piece) {
    const int first = item_of(piece) - lane();
    if (of_values(piece)) return first / (slice_octets * octet_values);
    return C.matrix() ? L.slices - 1 : first / (slice_octets * (octet_denominators > 0 ? octet_denominators : 1));
  }
  static constexpr int vectors = L.rows / 8 * octet_vectors;

  /// Where a warp reads next.
  struct Ahead {
    int piece, chunk, there;  // there: chunks of the piece whose updates are written
    const char* source;
    int stride;  // from chunk to chunk
    const u32* counters;
  };
  PHITUNE_DEVICE void open(Ahead& ahead, int piece) const {
    ahead.piece = piece, ahead.chunk = 0, ahead.there = 0;
    if (C.matrix() && !of_values(piece)) {
      ahead.stride = C.d * C.d * 4;
      ahead.source = static_cast<const char*>(args.state_z) + denominator_vector(item_of(piece), C.d).byte(C.d);
    } else {
      const int vector = vector_of(piece);
      ahead.stride = static_cast<int>(matrix_bytes);
      ahead.source = static_cast<const char*>(args.state) + (vector < vectors ? vector : 0) * 16;
    }
    ahead.source += static_cast<i64>(head_of(piece)) * args.chunks * ahead.stride;
    ahead.counters = counters(head_of(piece), slice_of(piece));
  }
  /// Starts to read the updates of the next chunks of a piece, once they are written. One group of copies, even where there is none.
  PHITUNE_DEVICE void read(Ahead& ahead, char* slot, int count) const {
    if (ahead.piece < count) {
      const int needed = update.chunks_needed(), end = ahead.chunk + at_once < needed ? ahead.chunk + at_once : needed;
      PHITUNE_NO_UNROLL
      while (ahead.there < end)
        ahead.there += wait_for_counts(ahead.counters + ahead.there, needed - ahead.there, L.slice_blocks);
      if (ahead.chunk + at_once <= needed)
        copy<true>(ahead, slot, at_once);
      else
        copy<false>(ahead, slot, needed - ahead.chunk);
      ahead.source += at_once * static_cast<i64>(ahead.stride);
      ahead.chunk += at_once;
      if (ahead.chunk >= args.chunks) {
        ahead.piece += grid_size_x() * scanning_warps;
        if (ahead.piece < count) open(ahead, ahead.piece);
      }
    }
    cp_async_commit();
  }
  template <bool All>
  PHITUNE_DEVICE static void copy(const Ahead& ahead, char* slot, int chunks) {
    PHITUNE_UNROLL
    for (int i = 0; i < at_once; ++i) {
      if (All || i < chunks) cp_async_16(slot + i * 512, ahead.source + i * static_cast<i64>(ahead.stride), true);
    }
  }

  /// One piece. `mine`: the lane has a vector of it.
  template <class Vector>
  PHITUNE_DEVICE void scan_piece(Vector& vector, int piece, bool mine, int& turn, Ahead& ahead, char* slots, int count) const {
    const int needed = update.chunks_needed();
    F2 gate{};
    float decays = 1.0f;  // lane i: of the chunk i after the last multiple of 32
    PHITUNE_NO_UNROLL
    for (int begin = 0; begin < args.chunks; begin += at_once, ++turn) {
      const bool first = begin % 32 == 0;
      if constexpr (C.gated) {
        // (On its way while updates are waited for.)
        if (first && begin + lane() < needed) gate = vector.gate(args, head_of(piece), begin + lane());
      }
      read(ahead, slots + static_cast<u32>(turn + groups - 1) % groups * (at_once * 512), count);
      if constexpr (C.gated) {
        if (first) decays = vector.decay(gate);
      }
      cp_async_wait<groups - 1>();
      const char* const slot = slots + static_cast<u32>(turn) % groups * (at_once * 512);
      if (begin + at_once <= needed) {
        whole_step(vector, slot, decays, begin % 32, mine);
      } else {
        PHITUNE_UNROLL
        for (int i = 0; i < at_once; ++i) {
          if (mine && begin + i < args.chunks) vector.write(i);
          const float decay = shuffle(decays, begin % 32 + i);
          if (begin + i < needed) {
            typename Vector::Update by;
            scan_detail::load_words(by.words, slot + i * 512);
            vector.advance(by, decay);
          }
        }
      }
      vector.move(at_once);
    }
    if (mine) vector.finish();
  }

  /// Chunks that all are needed: read, and written, side by side, as far as registers allow, so that one warp waits less.
  template <class Vector>
  PHITUNE_DEVICE static void whole_step(Vector& vector, const char* slot, float decays, int first_decay, bool mine) {
    typename Vector::Update by[at_once];
    typename Vector::State states[at_once];
    float decay[at_once];
    PHITUNE_UNROLL
    for (int i = 0; i < at_once; ++i) {
      scan_detail::load_words(by[i].words, slot + i * 512);
      decay[i] = shuffle(decays, first_decay + i);
    }
    PHITUNE_UNROLL
    for (int i = 0; i < at_once; ++i) states[i] = vector.packed(), vector.advance(by[i], decay[i]);
    if (!mine) return;
    PHITUNE_UNROLL
    for (int i = 0; i < at_once; ++i) vector.write(states[i], i);
  }

  const Args& args;
  const Update& update;
};

/// Launch: update_state_layout(C) threads and shared bytes, cooperative; x = as many blocks as run at once, which share the works.
/// args.progress is zero.
template <UpdateStateConfig C>
PHITUNE_DEVICE void update_scan(const Args& args) {
  using Kernel = UpdateScan<C>;
  const UpdateState<C> update(args);
  const Kernel kernel(args, update);
  Kernel::open();
  // (Those that multiply wait for those that load, and so for what they wait for.)
  if (warp() >= Kernel::L.loaders_end / 32) {
    wait_for_earlier_kernels();
    registers_decrease<C.scan_registers>();
    const int index = warp() - Kernel::L.loaders_end / 32;
    if (index == Kernel::scanning_warps)
      kernel.tell();
    else
      kernel.scan(index);
  } else if (warp() >= Kernel::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    UpdateLoader<C>(args).load();
  } else {
    registers_increase<C.consumer_registers>();
    kernel.multiply();
  }
}

}  // namespace phitune::sm90
