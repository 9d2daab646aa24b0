// The update of one chunk on Hopper: U[r][n] = sum_j exp(G_end - G_j) phi(k_j)_r v_j[n] over its tokens j, and update_z[r] the same
// without v. fp32 accumulation; U is stored in bf16, in core matrices (Path::sm90), as query_state's bulk copies want it.
//
// A matrix product per (b, hk, chunk): M = rows of the state, N = e columns and eight for z, K = tokens. A = phi(K)^T is formed in
// registers as products of transposed features. One warpgroup loads: it writes K transposed, and V times the gates' weights in core
// matrices with the weights themselves (high and low part) as two columns more. The others multiply.
//
// The order of tokens inside a slab of 32 is free as long as A and B agree: thread t of a quad has tokens 8t to 8t+7, so that one 16-byte
// load of a transposed feature serves two k16 steps: token 8t + 4s + 2h + b is k = 8h + 2t + b of step s.
//
// A warp's unit is 2 m_tiles consecutive octets. Row g of m tile i is row g of octet 2i, row g + 8 that of octet 2i + 1: the same feature
// of the last tile, neighbouring tuples. So a group of 8 tuples costs a thread two tuples, and each m tile one feature.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/gate.cuh"
#include "kernel_templates/common/instructions_sm90.cuh"
#include "kernel_templates/common/state_layout.cuh"
#include "kernel_templates/sm90/update_state_config.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C>
struct UpdateState {
  static constexpr UpdateStateLayout L = update_state_layout(C);
  static constexpr int slabs = C.token_tile / 32;
  static constexpr int value_blocks = C.e / 8, blocks = L.columns / 8;
  static constexpr int group_tiles = C.d_tile / 2;                                      // m tiles of a group
  static constexpr int groups = C.m_tiles > group_tiles ? C.m_tiles / group_tiles : 1;  // that a warp's unit meets
  static constexpr int accumulators = L.columns / 2;

  static_assert(C.p >= 2 && C.d % 32 == 0 && C.e % 16 == 0 && C.token_tile % 64 == 0);
  static_assert(C.ahead >= 2 && slabs * C.m_tiles % C.ahead == 0, "the sets of fragments take turns");
  static_assert(C.m_tiles % group_tiles == 0 || group_tiles % C.m_tiles == 0, "a unit is part of a group, or whole groups");

  const Args& args;
  // What a block works on: some rows of the state of one chunk.
  int row_block, chunk, head, first_token, tokens;

  PHITUNE_DEVICE explicit UpdateState(const Args& a) : args(a) {}

  /// Updates that anything needs: the last chunk's only for the final state.
  PHITUNE_DEVICE int chunks_needed() const { return C.final_state ? args.chunks : args.chunks - 1; }
  PHITUNE_DEVICE int works() const { return L.row_blocks * chunks_needed() * args.b * args.hk; }
  PHITUNE_DEVICE void set_work(int work) {
    row_block = work % L.row_blocks;
    work /= L.row_blocks;
    chunk = work % chunks_needed();
    head = work / chunks_needed();
    first_token = chunk * args.chunk;
    tokens = args.t - first_token < args.chunk ? args.t - first_token : args.chunk;
  }

  PHITUNE_DEVICE static Barrier* full(int slot) { return reinterpret_cast<Barrier*>(shared_memory()) + slot; }
  PHITUNE_DEVICE static Barrier* empty(int slot) { return full(C.stages + slot); }
  PHITUNE_DEVICE static char* keys(int slot) { return shared_memory() + L.ring_at + slot * L.stage_bytes; }
  PHITUNE_DEVICE static char* values(int slot) { return keys(slot) + L.keys_bytes; }
  PHITUNE_DEVICE static float* weights() { return reinterpret_cast<float*>(shared_memory() + L.weights_at); }

  PHITUNE_DEVICE static void open_barriers() {
    if (thread_index() == 0) {
      PHITUNE_UNROLL
      for (int slot = 0; slot < C.stages; ++slot) {
        barrier_init(full(slot), 128);
        barrier_init(empty(slot), L.consumers / 32);
      }
      barrier_init_fence();
    }
    block_barrier();
  }

  // ---- the warpgroup that loads ----

  /// Which chunks of 16 bytes of a transposed feature change places: odd features swap halves of 128 bytes, so that two neighbouring ones
  /// are read without a conflict, and every eighth another, so that the eight rows of an stmatrix are.
  PHITUNE_DEVICE static constexpr int key_swizzle(int feature) { return ((feature & 1) << 2 | (feature >> 3 & 3)) * 16; }

  // 32 features of 8 tokens per warp and round: lane (g, t) reads features 8t to 8t+7 of token g.
  static constexpr int octets = C.token_tile / 8, key_rounds = octets * (C.d / 32) / 4;
  // 16 bytes of a token's row per thread and round; eight lanes take the eight k of a core matrix.
  static constexpr int value_rounds = C.token_tile * value_blocks / 128;
  static_assert(octets % 4 == 0 && C.token_tile <= 128);

  struct Tile {
    U4 key[key_rounds], value[value_rounds];
  };

  // Where a thread of the loading warpgroup reads and writes; the rest is the same for every tile.
  struct Loader {
    const u16 *key, *value;  // first element of round 0 in tile 0
    int key_token, value_token, value_offset;

    PHITUNE_DEVICE static constexpr int key_round_token(int i) { return i % (octets / 4) * 32; }
    PHITUNE_DEVICE static constexpr int key_round_column(int i) { return i / (octets / 4) * 32; }
    // Eight threads per (block of columns, k half); as many of those as fit in 128 threads, then the next round.
    PHITUNE_DEVICE static constexpr int step_of(int item) { return item / (2 * value_blocks); }
    PHITUNE_DEVICE static constexpr int half_of(int item) { return item / value_blocks % 2; }
    PHITUNE_DEVICE static constexpr int token_of(int item) { return step_of(item) / 2 * 32 + step_of(item) % 2 * 4 + half_of(item) * 2; }
    PHITUNE_DEVICE static constexpr int offset_of(int item) {
      return step_of(item) * L.step_bytes + (half_of(item) * blocks + item % value_blocks) * 128;
    }
  };
  // token_of and offset_of are additive over (item of the thread, 16 times the round) because value_blocks is a power of two.
  static_assert((value_blocks & (value_blocks - 1)) == 0);

  PHITUNE_DEVICE Loader open_loader() const {
    const int b = head / args.hk, h = head % args.hk, thread = thread_index() % 128;
    Loader out;
    out.key_token = thread / 32 * 8 + lane() / 4;
    out.value_token = Loader::token_of(thread / 8) + thread % 8 / 2 * 8 + thread % 2;
    out.value_offset = Loader::offset_of(thread / 8) + thread % 8 * 16;
    out.key = static_cast<const u16*>(args.k) + b * args.k_strides.b + h * args.k_strides.h +
              (first_token + out.key_token) * args.k_strides.t + lane() % 4 * 8;
    out.value = static_cast<const u16*>(args.v) + b * args.v_strides.b + h * args.v_strides.h +
                (first_token + out.value_token) * args.v_strides.t + thread / 8 % value_blocks * 8;
    return out;
  }

  /// Reads the next tile; tokens past the chunk become zeros.
  PHITUNE_DEVICE void read(Tile& out, Loader& from, int tile) const {
    const int left = tokens - tile * C.token_tile;
    PHITUNE_UNROLL
    for (int i = 0; i < key_rounds; ++i) {
      out.key[i] = U4{0, 0, 0, 0};
      if (from.key_token + Loader::key_round_token(i) < left)
        out.key[i] = load_global_16_streaming(from.key + Loader::key_round_token(i) * args.k_strides.t + Loader::key_round_column(i));
    }
    PHITUNE_UNROLL
    for (int i = 0; i < value_rounds; ++i) {
      out.value[i] = U4{0, 0, 0, 0};
      if (from.value_token + Loader::token_of(16 * i) < left)
        out.value[i] = load_global_16_streaming(from.value + Loader::token_of(16 * i) * args.v_strides.t + 16 * i % value_blocks * 8);
    }
    from.key += C.token_tile * args.k_strides.t;
    from.value += C.token_tile * args.v_strides.t;
  }

  PHITUNE_DEVICE void store(int slot, const Tile& in, const Loader& to, int tile) const {
    const int w = thread_index() % 128 / 32, c = lane() % 8, r = lane() / 8;
    PHITUNE_UNROLL
    for (int i = 0; i < key_rounds; ++i) {
      const int octet = w + Loader::key_round_token(i) / 8, feature = Loader::key_round_column(i) + c / 2 * 8 + 2 * r + c % 2;
      const u32 words[4] = {in.key[i].x, in.key[i].y, in.key[i].z, in.key[i].w};
      stmatrix_x4_trans(keys(slot) + feature * L.key_row_bytes + ((octet * 16) ^ key_swizzle(feature)), words);
    }
    const float* const weight = weights() + tile * C.token_tile;
    PHITUNE_UNROLL
    for (int i = 0; i < value_rounds; ++i) {
      U4 v = in.value[i];
      if constexpr (C.gated) {
        const float w_j = weight[to.value_token + Loader::token_of(16 * i)];
        v = U4{weigh(v.x, w_j), weigh(v.y, w_j), weigh(v.z, w_j), weigh(v.w, w_j)};
      }
      *reinterpret_cast<U4*>(values(slot) + to.value_offset + Loader::offset_of(16 * i)) = v;
    }
    if constexpr (C.sum) {
      const int token = thread_index() % 128;
      if (token < C.token_tile) {
        const float w_j = weight[token], high = bf16_to_float(float_to_bf16(w_j));
        const int k = token % 32 / 8 * 2 + token % 2, h = token / 2 % 2, s = token / 32 * 2 + token / 4 % 2;
        *reinterpret_cast<U4*>(values(slot) + s * L.step_bytes + (h * blocks + value_blocks) * 128 + k * 16) =
            U4{pack_bf16x2(high, w_j - high), 0, 0, 0};
      }
    }
  }
  PHITUNE_DEVICE static u32 weigh(u32 pair, float weight) { return pack_bf16x2(low_bf16(pair) * weight, high_bf16(pair) * weight); }

  /// exp(G_end - G_j) of the chunk's tokens, 0 past its end. By the loading warpgroup alone, which alone reads it.
  PHITUNE_DEVICE void write_weights(int padded) const {
    if constexpr (C.gated || C.sum) {
      const F2* const gates = reinterpret_cast<const F2*>(args.gates) + static_cast<i64>(head) * args.t + first_token;
      F2 end{};
      if constexpr (C.gated) end = gates[tokens - 1];
      // Nobody reads the weights of the work before any more.
      named_barrier(1, 128);
      PHITUNE_NO_UNROLL
      for (int j = thread_index() % 128; j < padded; j += 128) {
        float weight = j < tokens ? 1.0f : 0.0f;
        if (C.gated && j < tokens) weight = gate_weight(end, gates[j]);
        weights()[j] = weight;
      }
      named_barrier(1, 128);
    }
  }

  // `turn` counts tiles through all of a block's works: it tells slot and phase.
  PHITUNE_DEVICE void load(int& turn) const {
    const int tiles = ceil_div(tokens, C.token_tile);
    Loader loader = open_loader();
    Tile next;
    if constexpr (C.prefetch) read(next, loader, 0);
    write_weights(tiles * C.token_tile);
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile, ++turn) {
      if constexpr (!C.prefetch) read(next, loader, tile);
      const Tile current = next;
      if (C.prefetch && tile + 1 < tiles) read(next, loader, tile + 1);
      barrier_wait(empty(turn % C.stages), (turn / C.stages & 1) ^ 1);
      store(turn % C.stages, current, loader, tile);
      barrier_arrive(full(turn % C.stages));
    }
  }

  // ---- the warpgroups that multiply ----

  /// Where a thread finds its tokens of a slab's features: bytes in the tile of transposed keys, first slab.
  struct Sources {
    int feature[groups];
    int tuple[groups][2][C.p - 1];
  };
  PHITUNE_DEVICE static int key_offset(int feature) { return feature * L.key_row_bytes + ((lane() % 4 * 16) ^ key_swizzle(feature)); }

  PHITUNE_DEVICE static Sources sources_of(int first_octet) {
    Sources out;
    PHITUNE_UNROLL
    for (int group = 0; group < groups; ++group) {
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) {
        const int octet = first_octet + group * C.d_tile + s;
        const int position = (octet < L.rows / 8 ? octet : s) * 8 + lane() / 4;
        const tspow::Indices x = tspow::decode(core_row(position, C.p, C.d_tile), C.p, C.d_tile);
        if (s == 0) out.feature[group] = key_offset(x.i[C.p - 1]);
        PHITUNE_UNROLL
        for (int k = 0; k < C.p - 1; ++k) out.tuple[group][s][k] = key_offset(x.i[k]);
      }
    }
    return out;
  }

  PHITUNE_DEVICE static void multiply_by(U4& x, U4 y) {
    x = U4{mul_bf16x2(x.x, y.x), mul_bf16x2(x.y, y.y), mul_bf16x2(x.z, y.z), mul_bf16x2(x.w, y.w)};
  }

  PHITUNE_DEVICE void multiply(float (&acc)[C.m_tiles][accumulators], int first_octet, int& turn) const {
    const Sources from = sources_of(first_octet);
    const int tiles = ceil_div(tokens, C.token_tile);
    u32 a[C.ahead][2][4];
    U4 tuple[2], next_tuple[2], next_feature;
    // The tokens' tuples and features of slab `slab`, m tile `m`; read a step ahead of their use.
    const auto read_step = [&](const char* k, int slab, int m) {
      const auto read = [&](int offset) { return *reinterpret_cast<const U4*>(k + ((offset ^ (slab & 1) * 64) + slab / 2 * 128)); };
      const int group = m / group_tiles, pair = m % group_tiles;
      if (pair == 0 || m == 0) {
        PHITUNE_UNROLL
        for (int s = 0; s < 2; ++s) {
          next_tuple[s] = read(from.tuple[group][s][0]);
          PHITUNE_UNROLL
          for (int i = 1; i < C.p - 1; ++i) multiply_by(next_tuple[s], read(from.tuple[group][s][i]));
        }
      }
      next_feature = read(from.feature[group] + pair * 2 * L.key_row_bytes);
    };
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile, ++turn) {
      const int slot = turn % C.stages;
      const char* const k = keys(slot);
      const SharedMatrix v = core_matrices(values(slot), L.step_bytes / 2, 128);
      barrier_wait(full(slot), turn / C.stages & 1);
      fence_async_shared();
      read_step(k, 0, 0);
      PHITUNE_UNROLL
      for (int slab = 0; slab < slabs; ++slab) {
        PHITUNE_UNROLL
        for (int m = 0; m < C.m_tiles; ++m) {
          if (m % group_tiles == 0 || m == 0) tuple[0] = next_tuple[0], tuple[1] = next_tuple[1];
          U4 rows[2] = {tuple[0], tuple[1]};
          multiply_by(rows[0], next_feature);
          multiply_by(rows[1], next_feature);
          constexpr int sets = C.ahead;
          const int step = slab * C.m_tiles + m;
          auto& set = a[step % sets];
          set[0][0] = rows[0].x, set[0][1] = rows[1].x, set[0][2] = rows[0].y, set[0][3] = rows[1].y;
          set[1][0] = rows[0].z, set[1][1] = rows[1].z, set[1][2] = rows[0].w, set[1][3] = rows[1].w;
          settle(set[0]);
          settle(set[1]);
          if (m + 1 < C.m_tiles)
            read_step(k, slab, m + 1);
          else if (slab + 1 < slabs)
            read_step(k, slab + 1, 0);
          wgmma_fence();
          PHITUNE_UNROLL
          for (int s = 0; s < 2; ++s) wgmma_bf16<L.columns, true>(acc[m], set[s], v.at((2 * slab + s) * L.step_bytes), tile + slab + s > 0);
          wgmma_commit();
          wgmma_wait<sets - 1>();
          if (step == sets - 2 && tile > 0 && lane() == 0) barrier_arrive(empty((turn - 1) % C.stages));
        }
      }
    }
    wgmma_wait<0>();
    if (lane() == 0) barrier_arrive(empty((turn - 1) % C.stages));
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) settle(acc[m]);
  }

  /// Four bytes per thread, 128 bytes of a core matrix per warp.
  PHITUNE_DEVICE void write(const float (&acc)[C.m_tiles][accumulators], int first_octet) const {
    const int g = lane() / 4, t = lane() % 4;
    const i64 matrix = static_cast<i64>(head) * args.chunks + chunk;
    u16* const update = static_cast<u16*>(args.update) + matrix * L.rows * L.row_length;
    PHITUNE_UNROLL
    for (int m = 0; m < C.m_tiles; ++m) {
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) {
        const int octet = first_octet + 2 * m + s;
        if (octet >= L.rows / 8) continue;
        u16* const out = update + octet * (8 * L.row_length) + g * 8 + 2 * t;
        PHITUNE_UNROLL
        for (int n = 0; n < value_blocks; ++n)
          *reinterpret_cast<u32*>(out + n * 64) = pack_bf16x2(acc[m][4 * n + 2 * s], acc[m][4 * n + 2 * s + 1]);
        if (C.sum && t == 0)
          args.update_z[matrix * L.rows + octet * 8 + g] = acc[m][accumulators - 4 + 2 * s] + acc[m][accumulators - 4 + 2 * s + 1];
      }
    }
  }
};

/// Launch: update_state_layout(C) threads, update_state_shared(C, chunk) bytes; x = any number of blocks, which share the works.
template <UpdateStateConfig C>
PHITUNE_DEVICE void update_state(const Args& args) {
  using Kernel = UpdateState<C>;
  Kernel kernel(args);
  Kernel::open_barriers();
  const int works = kernel.works();
  int turn = 0;
  if (warp() >= Kernel::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    PHITUNE_NO_UNROLL
    for (int work = block_index_x(); work < works; work += grid_size_x()) {
      kernel.set_work(work);
      kernel.load(turn);
    }
  } else {
    registers_increase<C.consumer_registers>();
    PHITUNE_NO_UNROLL
    for (int work = block_index_x(); work < works; work += grid_size_x()) {
      kernel.set_work(work);
      const int first_octet = kernel.row_block * Kernel::L.block_octets + warp() * (2 * C.m_tiles);
      float acc[C.m_tiles][Kernel::accumulators];
      kernel.multiply(acc, first_octet, turn);
      kernel.write(acc, first_octet);
    }
  }
}

}  // namespace phitune::sm90
