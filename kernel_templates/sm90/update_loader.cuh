// The warpgroup of the Hopper update_state kernel (update_state.cuh) that loads, for all works of its block: V as it is, and K, which it
// transposes and weighs; with wide rows the values that are made of both (wide_values.cuh).
#pragma once

#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/sm90/update_block.cuh"
#include "kernel_templates/sm90/wide_values.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C>
struct UpdateLoader : UpdateBlock<C> {
  using Block = UpdateBlock<C>;
  using Work = typename Block::Work;
  using Block::L, Block::wide, Block::args, Block::works, Block::work_at, Block::full, Block::empty, Block::keys, Block::values, Block::raw_keys,
      Block::raw_gates, Block::key_piece;
  static constexpr int value_chunks = C.e / 8;  // 16-byte pieces of a row of V

  PHITUNE_DEVICE explicit UpdateLoader(const Args& a) : Block(a) {}

  PHITUNE_DEVICE static int loader() { return thread_index() - L.consumers; }

  /// The tiles of all works of a block, one after another, as one operand of them: where this thread reads it.
  struct Stream {
    int index, left;  // the work, and its tokens from this tile on
    const u16* source;
    u32 gates, end;  // floats behind args.gates (pointers would take two registers each)
    const u16* values;  // wide rows
    int last_tile;
  };
  PHITUNE_DEVICE bool has_tile(const Stream& s) const { return s.index < works(); }
  PHITUNE_DEVICE void next_tile(Stream& s, i64 stride) const {
    s.left -= C.token_tile;
    s.source += C.token_tile * stride;
    if constexpr (C.gated) s.gates += 2 * C.token_tile;
    if constexpr (wide) s.values += C.token_tile * args.v_strides.t;
  }

  // A warp's keys are the same octets of tokens of every tile: it copies what it transposes, so it waits for nobody. The pieces of 16 bytes
  // that a thread copies are a fixed number of tokens apart.
  static constexpr int warp_octets = C.token_tile / 8 / 4, piece_tokens = 32 / (C.d / 8);
  static_assert(warp_octets % 2 == 0 && 32 % (C.d / 8) == 0);
  PHITUNE_DEVICE static int octet_of(int i) { return wide ? loader() / 32 * warp_octets + i : loader() / 32 + 4 * i; }
  static constexpr int octet_step = wide ? 1 : 4;
  static constexpr int raw_panel = C.d % 64 == 0 ? 64 : 32, raw_panel_bytes = C.token_tile * raw_panel * 2;
  PHITUNE_DEVICE static int raw_offset(int token, int chunk) {
    return chunk / (raw_panel / 8) * raw_panel_bytes + tile_offset<raw_panel>(token, chunk % (raw_panel / 8));
  }

  /// Where a head's first token is; heads of all batches are counted on.
  PHITUNE_DEVICE const u16* first_of(const void* tensor, const Strides& strides, int head) const {
    const u32 heads = static_cast<u32>(args.hk), at = static_cast<u32>(head);
    return static_cast<const u16*>(tensor) + at / heads * strides.b + at % heads * strides.h;
  }

  PHITUNE_DEVICE void open_keys(Stream& s) const {
    const Work at = work_at(s.index);
    s.left = at.tokens;
    s.source = first_of(args.k, args.k_strides, at.head) +
               (at.first_token + octet_of(0) * 8 + lane() / (C.d / 8)) * args.k_strides.t + lane() % (C.d / 8) * 8;
    if constexpr (wide) {
      s.values = first_of(args.v, args.v_strides, at.head) + at.first_token * args.v_strides.t + WideValues<C>::first_element(args);
    }
    if constexpr (C.gated) {
      // (Keys of 2^31 tokens would fill more memory than there is.)
      const u32 gates = (static_cast<u32>(at.head) * args.t + at.first_token) * 2;
      s.gates = gates + octet_of(lane() / 16) * 16 + lane() % 16;
      s.end = gates + 2 * (at.tokens - 1) + lane() % 2;
    }
  }

  /// Starts to copy a tile's keys and gates, and with wide rows what values are made of; those past the chunk become zeros. One group of
  /// copies, even past the last tile. First: waits for the kernel of the gates, which keys need not wait for.
  template <bool First>
  PHITUNE_DEVICE void copy_keys(int place, Stream& s) const {
    if (has_tile(s)) {
      char* const raw = raw_keys(place);
      const int first = octet_of(0) * 8 + lane() / (C.d / 8);
      PHITUNE_UNROLL
      for (int i = 0; i < warp_octets; ++i) {
        PHITUNE_UNROLL
        for (int r = 0; r < 8 / piece_tokens; ++r) {
          const int more = i * octet_step * 8 + r * piece_tokens;
          cp_async_16(raw + raw_offset(first + more, lane() % (C.d / 8)), s.source + more * args.k_strides.t, first + more < s.left);
        }
      }
      if constexpr (wide) WideValues<C>::copy(raw + L.raw_values_at, s.values, args.v_strides.t, s.left);
      if constexpr (First) wait_for_earlier_kernels();
      if constexpr (C.gated) {
        // Two octets' gates at once.
        float* const gates = raw_gates(place);
        PHITUNE_UNROLL
        for (int i = 0; i < warp_octets; i += 2) {
          const int token = octet_of(i + lane() / 16) * 8 + lane() % 16 / 2;
          cp_async_4(gates + 2 * token + lane() % 2, args.gates + s.gates + i * octet_step * 16, token < s.left);
        }
        if (lane() < 2) cp_async_4(gates + 2 * (C.token_tile + loader() / 32) + lane(), args.gates + s.end, true);
      }
      next_tile(s, args.k_strides.t);
      if (s.left <= 0) {
        s.index += grid_size_x();
        open_keys(s);
      }
    } else if constexpr (First) {
      wait_for_earlier_kernels();  // (So that whoever waits for this kernel waits for those.)
    }
    cp_async_commit();
  }

  // Tokens follow each other in a thread's pieces of V by as many as the warpgroup copies at once.
  static constexpr int value_tokens = 128 / value_chunks;
  PHITUNE_DEVICE static int value_token() { return loader() / value_chunks; }

  PHITUNE_DEVICE void open_values(Stream& s) const {
    const Work at = work_at(s.index);
    s.left = at.tokens;
    s.last_tile = at.last_tile;
    s.source = first_of(args.v, args.v_strides, at.head) +
               (at.first_token + value_token()) * args.v_strides.t + loader() % value_chunks * 8;
  }

  /// Starts to copy a tile's values, each token's to the row where A has it.
  PHITUNE_DEVICE void copy_values(int slot, const Stream& s) const {
    constexpr int panel_chunks = L.panel_row / 16;
    char* const out = values(slot) + loader() % value_chunks / panel_chunks * L.panel_bytes;
    PHITUNE_UNROLL
    for (int r = 0; r < C.token_tile / value_tokens; ++r) {
      cp_async_16(out + tile_offset<L.panel_row / 2>(value_row(value_token()) + value_row(r * value_tokens), loader() % panel_chunks),
                  s.source + r * value_tokens * args.v_strides.t, value_token() + r * value_tokens < s.left);
    }
    cp_async_commit();
  }

  /// A weight as the sum of two bf16, each twice, for packed pairs.
  struct Weight {
    u32 rounded, rest;
    PHITUNE_DEVICE explicit Weight(float x) : rounded(pack_bf16x2(x, x)) {
      const float left = x - low_bf16(rounded);
      rest = pack_bf16x2(left, left);
    }
  };
  /// A packed pair times a weight, rounded once: the smaller product's own rounding is too small to matter.
  PHITUNE_DEVICE static u32 weigh(u32 pair, Weight by) { return fma_bf16x2(pair, by.rounded, mul_bf16x2(pair, by.rest)); }

  static constexpr int key_pieces = C.d / 32;
  // Octets that are read before any of them is written: the compiler would not read past a write, and a warp that loads waits for each read
  // with few others beside it. (More would take registers that there are not.)
  static constexpr int octets_at_once = wide ? warp_octets : key_pieces < 4 ? 2 : 1;
  static_assert(warp_octets % octets_at_once == 0);
  /// Some of the warp's keys of a tile, as ldmatrix gives them.
  using Keys = u32[octets_at_once][key_pieces][4];

  PHITUNE_DEVICE static void read_keys(Keys& out, int place, int first, int left) {
    constexpr int panel_chunks = raw_panel / 8;
    const int offset = raw_offset(octet_of(0) * 8 + lane() % 8, lane() / 8);
    float weights[octets_at_once];
    PHITUNE_UNROLL
    for (int i = 0; i < octets_at_once; ++i) {
      PHITUNE_UNROLL
      for (int n = 0; n < key_pieces; ++n)
        ldmatrix_x4(out[i][n], raw_keys(place) + n * 4 / panel_chunks * raw_panel_bytes +
                                   moved_tile_offset<raw_panel>(offset, (first + i) * octet_step * 8, n * 4 % panel_chunks));
      if constexpr (C.gated && !wide) weights[i] = token_weight<C.p>(place, octet_of(first + i) * 8 + lane() / 4, left);
    }
    if constexpr (C.gated && !wide) {
      PHITUNE_UNROLL
      for (int i = 0; i < octets_at_once; ++i) {
        const Weight weight(weights[i]);
        PHITUNE_UNROLL
        for (int n = 0; n < key_pieces; ++n) {
          PHITUNE_UNROLL
          for (int w = 0; w < 4; ++w) out[i][n][w] = weigh(out[i][n][w], weight);
        }
      }
    }
  }
  PHITUNE_DEVICE static void store_keys(int slot, int first, const Keys& words) {
    char* const out = keys(slot) + octet_of(0) / 8 * L.key_panel_bytes;
    const int offset = key_piece(lane(), octet_of(0) % 8);
    PHITUNE_UNROLL
    for (int i = 0; i < octets_at_once; ++i) {
      const int more = (first + i) * octet_step;
      PHITUNE_UNROLL
      for (int n = 0; n < key_pieces; ++n)
        stmatrix_x4_trans(out + more / 8 * L.key_panel_bytes + n * (32 * key_panel_row) + moved_tile_offset<key_panel_row / 2>(offset, 0, more % 8), words[i][n]);
    }
  }
  /// The `Root`-th root of a token's weight, exp(G_end - G_token); none for tokens past the chunk.
  template <int Root>
  PHITUNE_DEVICE static float token_weight(int place, int token, int left) {
    const F2* const gates = reinterpret_cast<const F2*>(raw_gates(place));
    return token < left ? gate_root_weight<Root>(gates[C.token_tile + loader() / 32], gates[token]) : 0.0f;
  }

  /// From a place of what is on its way to a slot of the ring.
  PHITUNE_DEVICE static void transpose(int place, int slot, int left) {
    PHITUNE_UNROLL
    for (int first = 0; first < warp_octets; first += octets_at_once) {
      Keys words;
      read_keys(words, place, first, left);
      store_keys(slot, first, words);
    }
  }
  /// The same with wide rows, values included; waits for the slot.
  PHITUNE_DEVICE static void make_stage(int place, int turn, int last_tile, int left) {
    using Values = WideValues<C>;
    const int token = Values::token_of(Values::own_row());
    float weight = 1.0f;
    if constexpr (C.gated) weight = token_weight<1>(place, token, left);
    typename Values::Parts parts;
    Values::read(parts, raw_keys(place) + L.raw_values_at,
                 raw_keys(place) + raw_offset(token, last_tile / 2) + last_tile % 2 * (C.d_tile * 2), weight);
    static_assert(octets_at_once == warp_octets, "values are stored behind all keys, once there is a slot");
    Keys words;
    read_keys(words, place, 0, left);
    const int slot = turn % C.stages;
    barrier_wait(empty(slot), (turn / C.stages & 1) ^ 1);
    store_keys(slot, 0, words);
    Values::store(values(slot), parts);
  }

  /// By the whole warpgroup; waits for earlier kernels.
  PHITUNE_DEVICE void load() const {
    Stream now{}, ahead{};
    now.index = ahead.index = block_index_x();
    if (has_tile(now)) {
      open_values(now);
      open_keys(ahead);
    }
    // With wide rows one group of copies for every tile; else a second one, of its values, which go right into the ring.
    PHITUNE_NO_UNROLL
    for (int place = 0; place < C.prefetch; ++place) {
      copy_keys<true>(place, ahead);
      if constexpr (!wide) cp_async_commit();
    }
    PHITUNE_NO_UNROLL
    for (int turn = 0; has_tile(now); ++turn) {
      const int slot = turn % C.stages, place = turn % C.prefetch;
      if constexpr (!wide) {
        barrier_wait(empty(slot), (turn / C.stages & 1) ^ 1);
        copy_values(slot, now);
        barrier_arrive_after_copies(full(slot));
      }
      // All may be on their way but those up to this tile's keys.
      cp_async_wait<wide ? C.prefetch - 1 : 2 * (C.prefetch - 1) + 1>();
      warp_barrier();
      if constexpr (wide)
        make_stage(place, turn, now.last_tile, now.left);
      else
        transpose(place, slot, now.left);
      barrier_arrive(full(slot));
      warp_barrier();
      copy_keys<false>(place, ahead);
      next_tile(now, args.v_strides.t);
      if (now.left <= 0) {
        now.index += grid_size_x();
        open_values(now);
      }
    }
  }
};

}  // namespace phitune::sm90
