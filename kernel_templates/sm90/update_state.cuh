// The update of one chunk on Hopper: U[r][n] = sum_j exp(G_end - G_j) phi(k_j)_r v_j[n] over its tokens j, and update_z[r] the same
// without v. fp32 accumulation; U is stored in bf16, in core matrices (Path::sm90), as query_state's bulk copies want it.
//
// A matrix product per (b, hk, chunk): M = rows of the state, N = e columns and eight for z, K = tokens. A = phi(K)^T is formed in
// registers as products of transposed features. One warpgroup loads: V as it is, beside a column of ones that never changes, whose
// products are z; and K, which it transposes and multiplies by the p-th root of the gates' weights, so that phi has the weights in it.
// Its copies are asynchronous and run on from chunk to chunk. The others multiply.
//
// The order of tokens inside a slab of 32 is free as long as A and B agree: thread t of a quad has tokens 8t to 8t+7, so that one 16-byte
// load of a transposed feature serves two k16 steps: token 8t + 4s + 2h + b is k = 8h + 2t + b of step s.
//
// A warp's unit is 2 m_tiles consecutive octets. Row g of m tile i is row g of octet 2i, row g + 8 that of octet 2i + 1: the same feature
// of the last tile, neighbouring tuples. So a group of 8 tuples costs a thread two tuples, and each m tile one feature.
//
// With wide rows (state_layout.cuh) the last feature is in the values instead, side by side for all features of a tile: A is the tuples, B is
// what the loading warpgroup makes of V, those features and the gates' weights (wide_values.cuh), and N is as many times wider. A block's
// rows have one last tile. The two features of a tuple are to the tiles of 4 what tuple and feature are else: the 16 rows of a warp's m tile
// are one tile's features, rows g and g + 8 two of them, times another's.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/state_layout.cuh"
#include "kernel_templates/common/tile.cuh"
#include "kernel_templates/sm90/update_state_config.cuh"
#include "kernel_templates/sm90/wide_values.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C>
struct UpdateState {
  static constexpr UpdateStateLayout L = update_state_layout(C);
  static constexpr int slabs = C.token_tile / 32;
  static constexpr bool wide = C.abreast() > 1;
  static constexpr int value_chunks = C.e / 8;  // 16-byte pieces of a row of V
  static constexpr int degree = wide ? C.p - 1 : C.p;  // of the rows of A
  static constexpr int group_octets = wide ? 2 : C.d_tile, group_tiles = group_octets / 2;  // of a group, and its m tiles
  static constexpr int groups = C.m_tiles > group_tiles ? C.m_tiles / group_tiles : 1;      // that a warp's unit meets
  static constexpr int accumulators = L.columns / 2;

  static_assert(C.p >= 2 && C.d % 32 == 0 && C.e % 16 == 0 && C.token_tile % 64 == 0);
  static_assert(C.m_tiles % group_tiles == 0 || group_tiles % C.m_tiles == 0, "a unit is part of a group, or whole groups");

  const Args& args;

  PHITUNE_DEVICE explicit UpdateState(const Args& a) : args(a) {}

  /// What a block works on: some rows of the product of one chunk, octets from `first_octet` on. Those up to `end_octet` have, with wide
  /// rows, the same last tile, whose octets begin at `tile_octet`.
  struct Work {
    int row_block, slice, chunk, head, first_token, tokens;
    int last_tile, tile_octet, first_octet, end_octet;
    PHITUNE_DEVICE int tiles() const { return ceil_div(tokens, C.token_tile); }
  };
  /// Updates that anything needs: the last chunk's only for the final state.
  PHITUNE_DEVICE int chunks_needed() const { return C.final_state ? args.chunks : args.chunks - 1; }
  PHITUNE_DEVICE int works() const { return L.row_blocks * chunks_needed() * args.b * args.hk; }
  PHITUNE_DEVICE Work work_at(int index) const {
    Work out;
    out.row_block = index % L.slice_blocks;
    index /= L.slice_blocks;
    out.chunk = index % chunks_needed();
    index /= chunks_needed();
    out.slice = index % L.slices;
    out.head = index / L.slices;
    out.row_block += out.slice * L.slice_blocks;
    out.first_token = out.chunk * args.chunk;
    out.tokens = args.t - out.first_token < args.chunk ? args.t - out.first_token : args.chunk;
    out.last_tile = 0, out.tile_octet = 0, out.end_octet = L.rows / 8;
    int block = out.row_block;
    if constexpr (wide) {
      // Last tile k has (k + 1) (k + 2) / 2 pairs of tiles before it, of two octets each.
      out.end_octet = 2;
      PHITUNE_NO_UNROLL
      for (int blocks = 1; block >= blocks;) {
        block -= blocks;
        ++out.last_tile;
        out.tile_octet = out.end_octet;
        const int octets = (out.last_tile + 1) * (out.last_tile + 2);
        out.end_octet += octets;
        blocks = ceil_div(octets, L.block_octets);
      }
    }
    out.first_octet = out.tile_octet + block * L.block_octets;
    return out;
  }

  PHITUNE_DEVICE static Barrier* full(int slot) { return reinterpret_cast<Barrier*>(shared_memory()) + slot; }
  PHITUNE_DEVICE static Barrier* empty(int slot) { return full(C.stages + slot); }
  PHITUNE_DEVICE static char* keys(int slot) { return shared_memory() + L.ring_at + slot * L.stage_bytes; }
  PHITUNE_DEVICE static char* values(int slot) { return keys(slot) + L.keys_bytes; }
  PHITUNE_DEVICE static char* raw_keys(int place) { return shared_memory() + L.raw_at + place * L.raw_bytes; }
  /// Gates of a tile's tokens, then four times that of the chunk's last token: for each warp its own.
  PHITUNE_DEVICE static float* raw_gates(int place) { return reinterpret_cast<float*>(raw_keys(place) + C.token_tile * C.d * 2); }

  /// Barriers, and the ones beside V.
  PHITUNE_DEVICE static void open() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int slot = 0; slot < C.stages; ++slot) {
        barrier_init(full(slot), wide ? 128 : 2 * 128);  // the loading threads, and their copies into it
        barrier_init(empty(slot), L.consumers / 32);
      }
      barrier_init_fence();
    }
    if constexpr (C.sum) {
      constexpr int pieces = L.panel_bytes / 16;
      PHITUNE_NO_UNROLL
      for (int i = thread_index(); i < C.stages * pieces; i += L.threads)
        *reinterpret_cast<U4*>(values(i / pieces) + L.value_panels * L.panel_bytes + i % pieces * 16) = U4{bf16_one, 0, 0, 0};
    }
    block_barrier();
  }
  static constexpr u32 bf16_one = 0x3f80;

  // ---- the warpgroup that loads ----

  PHITUNE_DEVICE static int loader() { return thread_index() - L.consumers; }

  /// The tiles of all works of a block, one after another, as one operand of them: where this thread reads it.
  struct Stream {
    int index, left;  // the work, and its tokens from this tile on
    const u16* source;
    const float *gates, *end;
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
  static constexpr int raw_panel = C.d % 64 == 0 ? 64 : 32;
  PHITUNE_DEVICE static int raw_offset(int token, int chunk) {
    return chunk / (raw_panel / 8) * (C.token_tile * raw_panel * 2) + tile_offset<raw_panel>(token, chunk % (raw_panel / 8));
  }

  PHITUNE_DEVICE void open_keys(Stream& s) const {
    const Work at = work_at(s.index);
    s.left = at.tokens;
    s.source = static_cast<const u16*>(args.k) + at.head / args.hk * args.k_strides.b + at.head % args.hk * args.k_strides.h +
               (at.first_token + octet_of(0) * 8 + lane() / (C.d / 8)) * args.k_strides.t + lane() % (C.d / 8) * 8;
    if constexpr (wide) {
      s.values = static_cast<const u16*>(args.v) + at.head / args.hk * args.v_strides.b + at.head % args.hk * args.v_strides.h +
                 at.first_token * args.v_strides.t + WideValues<C>::first_element(args);
    }
    if constexpr (C.gated) {
      const float* const gates = args.gates + (static_cast<i64>(at.head) * args.t + at.first_token) * 2;
      s.gates = gates + octet_of(lane() / 16) * 16 + lane() % 16;
      s.end = gates + 2 * (at.tokens - 1) + lane() % 2;
    }
  }

  /// Starts to copy a tile's keys and gates, and with wide rows what values are made of; those past the chunk become zeros. One group of
  /// copies, even past the last tile.
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
      if constexpr (C.gated) {
        // Two octets' gates at once.
        float* const gates = raw_gates(place);
        PHITUNE_UNROLL
        for (int i = 0; i < warp_octets; i += 2) {
          const int token = octet_of(i + lane() / 16) * 8 + lane() % 16 / 2;
          cp_async_4(gates + 2 * token + lane() % 2, s.gates + i * octet_step * 16, token < s.left);
        }
        if (lane() < 2) cp_async_4(gates + 2 * (C.token_tile + loader() / 32) + lane(), s.end, true);
      }
      next_tile(s, args.k_strides.t);
      if (s.left <= 0) {
        s.index += grid_size_x();
        open_keys(s);
      }
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
    s.source = static_cast<const u16*>(args.v) + at.head / args.hk * args.v_strides.b + at.head % args.hk * args.v_strides.h +
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

  /// Which chunks of 16 bytes of a transposed feature change places: the eight rows of an stmatrix come to lie apart, and two neighbouring
  /// features in different halves of 128 bytes, so that they are read without a conflict.
  PHITUNE_DEVICE static constexpr int key_swizzle(int feature) { return ((feature & 1) << 2 | (feature >> 1 & 3)) * 16; }

  PHITUNE_DEVICE static u32 weigh(u32 pair, float weight) { return pack_bf16x2(low_bf16(pair) * weight, high_bf16(pair) * weight); }

  static constexpr int key_pieces = C.d / 32;
  /// The warp's keys of a tile, as ldmatrix gives them.
  using Keys = u32[warp_octets][key_pieces][4];

  PHITUNE_DEVICE static void read_keys(Keys& out, int place, int left) {
    float weight[warp_octets];
    PHITUNE_UNROLL
    for (int i = 0; i < warp_octets; ++i) {
      PHITUNE_UNROLL
      for (int n = 0; n < key_pieces; ++n) ldmatrix_x4(out[i][n], raw_keys(place) + raw_offset(octet_of(i) * 8 + lane() % 8, n * 4 + lane() / 8));
      if constexpr (C.gated && !wide) weight[i] = token_weight<C.p>(place, octet_of(i) * 8 + lane() / 4, left);
    }
    if constexpr (C.gated && !wide) {
      PHITUNE_UNROLL
      for (int i = 0; i < warp_octets; ++i) {
        PHITUNE_UNROLL
        for (int n = 0; n < key_pieces; ++n) {
          PHITUNE_UNROLL
          for (int w = 0; w < 4; ++w) out[i][n][w] = weigh(out[i][n][w], weight[i]);
        }
      }
    }
  }
  PHITUNE_DEVICE static void store_keys(int slot, const Keys& words) {
    PHITUNE_UNROLL
    for (int i = 0; i < warp_octets; ++i) {
      PHITUNE_UNROLL
      for (int n = 0; n < key_pieces; ++n)
        stmatrix_x4_trans(keys(slot) + (n * 32 + lane()) * L.key_row_bytes + ((octet_of(i) * 16) ^ key_swizzle(lane())), words[i][n]);
    }
  }
  /// The `Root`-th root of a token's weight, exp(G_end - G_token); none for tokens past the chunk.
  template <int Root>
  PHITUNE_DEVICE static float token_weight(int place, int token, int left) {
    const F2* const gates = reinterpret_cast<const F2*>(raw_gates(place));
    return token < left ? gate_root_weight<Root>(gates[C.token_tile + loader() / 32], gates[token]) : 0.0f;
  }

  /// From a place of what is on its way to a slot of the ring. Everything is read before anything is written: the compiler would not read
  /// past a write, and a warp that loads waits for each read with few others beside it.
  PHITUNE_DEVICE static void transpose(int place, int slot, int left) {
    Keys words;
    read_keys(words, place, left);
    store_keys(slot, words);
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
    Keys words;
    read_keys(words, place, left);
    const int slot = turn % C.stages;
    barrier_wait(empty(slot), (turn / C.stages & 1) ^ 1);
    store_keys(slot, words);
    Values::store(values(slot), parts);
  }

  PHITUNE_DEVICE void load() const {
    Stream now{}, ahead{};
    now.index = ahead.index = block_index_x();
    if (has_tile(now)) {
      open_values(now);
      open_keys(ahead);
    }
    // With wide rows one group of copies for every tile; else a second one, of its values, which go right into the ring.
    PHITUNE_UNROLL
    for (int place = 0; place < C.prefetch; ++place) {
      copy_keys(place, ahead);
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
      copy_keys(place, ahead);
      next_tile(now, args.v_strides.t);
      if (now.left <= 0) {
        now.index += grid_size_x();
        open_values(now);
      }
    }
  }

  // ---- the warpgroups that multiply ----

  /// Where a thread finds its tokens of a slab's features: bytes in the tile of transposed keys, first slab.
  struct Sources {
    int feature[groups];
    int tuple[groups][2][degree - 1];
  };
  PHITUNE_DEVICE static int key_offset(int feature) { return feature * L.key_row_bytes + ((lane() % 4 * 16) ^ key_swizzle(feature)); }

  PHITUNE_DEVICE static Sources sources_of(int first_octet, const Work& work) {
    Sources out;
    PHITUNE_UNROLL
    for (int group = 0; group < groups; ++group) {
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) {
        const int octet = first_octet + group * group_octets + s;
        const int position = (octet < work.end_octet ? octet - work.tile_octet : s) * 8 + lane() / 4;
        const tspow::Indices x = tspow::decode(wide ? position : core_row(position, C.p, C.d_tile), degree, C.d_tile);
        if (s == 0) out.feature[group] = key_offset(x.i[degree - 1]);
        PHITUNE_UNROLL
        for (int k = 0; k < degree - 1; ++k) out.tuple[group][s][k] = key_offset(x.i[k]);
      }
    }
    return out;
  }

  PHITUNE_DEVICE static void multiply_by(U4& x, U4 y) {
    x = U4{mul_bf16x2(x.x, y.x), mul_bf16x2(x.y, y.y), mul_bf16x2(x.z, y.z), mul_bf16x2(x.w, y.w)};
  }

  // A tile's steps: its slabs of 32 tokens times the m tiles. What a step multiplies is read from shared memory two steps before, across
  // the ends of tiles, and after the products of its step have been started, so that no product waits for it.
  static constexpr int steps = slabs * C.m_tiles;
  struct Features {
    U4 tuple[2][2];  // of the group of the step, and of the next group
    U4 feature[2];   // of the step, and of the next
  };
  static_assert(steps > 2 && steps % 2 == 0 && slabs * groups % 2 == 0, "the two places of Features take turns through all tiles");

  PHITUNE_DEVICE static void read_step(Features& out, const Sources& from, const char* k, int step) {
    const int slab = step / C.m_tiles, m = step % C.m_tiles;
    const int group = m / group_tiles, pair = m % group_tiles;
    const auto read = [&](int offset) { return *reinterpret_cast<const U4*>(k + ((offset ^ (slab & 1) * 64) + slab / 2 * 128)); };
    if (pair == 0 || m == 0) {
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) {
        U4& tuple = out.tuple[(slab * groups + group) % 2][s];
        tuple = read(from.tuple[group][s][0]);
        PHITUNE_UNROLL
        for (int i = 1; i < degree - 1; ++i) multiply_by(tuple, read(from.tuple[group][s][i]));
      }
    }
    out.feature[step % 2] = read((from.feature[group] ^ pair % 4 * 16) + pair * 2 * L.key_row_bytes);
  }

  PHITUNE_DEVICE static void release(int turn) {
    barrier_arrive_warp(empty(turn % C.stages));
  }

  PHITUNE_DEVICE void multiply(float (&acc)[C.m_tiles][accumulators], int first_octet, const Work& work, int& turn) const {
    const Sources from = sources_of(first_octet, work);
    const int tiles = work.tiles();
    // One being formed while the other is multiplied. (With more of them ptxas serialises the products.)
    u32 a[2][2][4];
    Features features;
    barrier_wait(full(turn % C.stages), turn / C.stages & 1);
    fence_async_shared();
    read_step(features, from, keys(turn % C.stages), 0);
    read_step(features, from, keys(turn % C.stages), 1);
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile, ++turn) {
      const int slot = turn % C.stages;
      const SharedMatrix v = swizzled_rows_of_n(values(slot), L.panel_row, L.panel_bytes);
      const char* k = keys(slot);
      PHITUNE_UNROLL
      for (int step = 0; step < steps; ++step) {
        const int slab = step / C.m_tiles, m = step % C.m_tiles;
        auto& set = a[step % 2];
        PHITUNE_UNROLL
        for (int s = 0; s < 2; ++s) {
          U4 row = features.tuple[(slab * groups + m / group_tiles) % 2][s];
          multiply_by(row, features.feature[step % 2]);
          set[0][s] = row.x, set[0][2 + s] = row.y, set[1][s] = row.z, set[1][2 + s] = row.w;
        }
        settle(set[0]);
        settle(set[1]);
        wgmma_fence();
        PHITUNE_UNROLL
        for (int s = 0; s < 2; ++s) wgmma_bf16<L.columns, true>(acc[m], set[s], v.at((2 * slab + s) * 16 * L.panel_row), tile + slab + s > 0);
        wgmma_commit();
        if (step == steps - 2) {
          // After the last tile its own beginning is read again, for nothing.
          const int next = tile + 1 < tiles ? turn + 1 : turn;
          k = keys(next % C.stages);
          barrier_wait(full(next % C.stages), next / C.stages & 1);
          fence_async_shared();
        }
        read_step(features, from, k, (step + 2) % steps);
        wgmma_wait<1>();
        // The products of the tile before have ended.
        if (step == 0 && tile > 0) release(turn - 1);
      }
    }
    wgmma_wait<0>();
    release(turn - 1);
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) settle(acc[m]);
  }

  /// Of a warpgroup whose rows are all past the end of the state: takes part in the ring, and leaves the tensor cores to the others.
  PHITUNE_DEVICE static void pass(int tiles, int& turn) {
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile, ++turn) {
      barrier_wait(full(turn % C.stages), turn / C.stages & 1);
      release(turn);
    }
  }

  /// Four bytes per thread, 128 bytes of a core matrix per warp.
  PHITUNE_DEVICE void write(const float (&acc)[C.m_tiles][accumulators], int first_octet, const Work& work) const {
    const int g = lane() / 4, t = lane() % 4;
    const i64 matrix = static_cast<i64>(work.head) * args.chunks + work.chunk;
    constexpr bool scanned = C.scan_registers > 0;  // by this kernel: U lies where S will
    u16* const update = static_cast<u16*>(scanned ? args.state : args.update) + matrix * L.rows * L.columns;
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) {
        const int octet = first_octet + 2 * m + s;
        if (octet >= work.end_octet) continue;
        u16* const out = update + octet * (8 * L.columns) + g * 8 + 2 * t;
        PHITUNE_UNROLL
        for (int n = 0; n < L.value_columns / 8; ++n)
          *reinterpret_cast<u32*>(out + n * 64) = pack_bf16x2(acc[m][4 * n + 2 * s], acc[m][4 * n + 2 * s + 1]);
        if (!C.sum || t != 0) continue;
        float* const z = scanned ? reinterpret_cast<float*>(out + L.value_columns * 8) : args.update_z + matrix * L.rows + octet * 8 + g;
        *z = acc[m][accumulators - 4 + 2 * s];
      }
    }
  }

  /// The works of a block, by the warpgroups that multiply. Every warp says `written(work)` when its part of a work, or none, is written.
  template <class Written>
  PHITUNE_DEVICE void multiply_works(Written&& written) const {
    const int count = works();
    int turn = 0;  // tiles through all works: it tells slot and phase
    PHITUNE_NO_UNROLL
    for (int index = block_index_x(); index < count; index += grid_size_x()) {
      const Work work = work_at(index);
      const int group_octet = work.first_octet + warp() / 4 * (8 * C.m_tiles);
      if (group_octet >= work.end_octet) {
        pass(work.tiles(), turn);
      } else {
        const int first_octet = group_octet + warp() % 4 * (2 * C.m_tiles);
        float acc[C.m_tiles][accumulators];
        multiply(acc, first_octet, work, turn);
        write(acc, first_octet, work);
      }
      written(work);
    }
  }
};

/// Launch: update_state_layout(C) threads and shared bytes; x = any number of blocks, which share the works.
template <UpdateStateConfig C>
PHITUNE_DEVICE void update_state(const Args& args) {
  using Kernel = UpdateState<C>;
  const Kernel kernel(args);
  Kernel::open();
  wait_for_earlier_kernels();
  if (warp() >= Kernel::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    kernel.load();
    return;
  }
  registers_increase<C.consumer_registers>();
  kernel.multiply_works([](const typename Kernel::Work&) {});
}

}  // namespace phitune::sm90
