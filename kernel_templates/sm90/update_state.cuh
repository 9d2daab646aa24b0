// The update of one chunk on Hopper: U[r][n] = sum_j exp(G_end - G_j) phi(k_j)_r v_j[n] over its tokens j, and update_z[r] the same
// without v. fp32 accumulation; U is stored in bf16, in core matrices (StateLayout::cores), as query_state's bulk copies want it.
//
// A matrix product per (b, hk, chunk): M = rows of the state, N = e columns and eight for z, K = tokens. A = phi(K)^T is formed in registers
// as products of transposed features. One warpgroup loads: it writes K transposed, and V times the gates' weights in core matrices with the
// weights themselves (high and low part) as two columns more. The others multiply.
//
// The order of tokens inside a slab of 32 is free as long as A and B agree: thread t of a quad has tokens 8t to 8t+7, so that one 16-byte
// load of a transposed feature serves two k16 steps: token 8t + 4s + 2h + b is k = 8h + 2t + b of step s.
//
// A warp's unit is 2 m_tiles consecutive octets. Row g of m tile i is row g of octet 2i, row g + 8 that of octet 2i + 1: the same feature of
// the last tile, neighbouring tuples. So a group of 8 tuples costs a thread two tuples, and each m tile one feature.
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
  static constexpr int group_tiles = C.d_tile / 2;  // m tiles of a group
  static constexpr int groups = C.m_tiles > group_tiles ? C.m_tiles / group_tiles : 1;  // that a warp's unit meets
  static constexpr int accumulators = L.columns / 2;

  static_assert(C.p >= 2 && C.d % 32 == 0 && C.e % 16 == 0 && C.token_tile % 64 == 0);
  static_assert(C.m_tiles % group_tiles == 0 || group_tiles % C.m_tiles == 0, "a unit is part of a group, or whole groups");

  const Args& args;
  int chunk, head, first_token, tokens;

  PHITUNE_DEVICE explicit UpdateState(const Args& a)
      : args(a),
        chunk(block_index_x() / L.row_blocks),
        head(block_index_y()),
        first_token(chunk * a.chunk),
        tokens(a.t - first_token < a.chunk ? a.t - first_token : a.chunk) {}

  PHITUNE_DEVICE static Barrier* full(int slot) { return reinterpret_cast<Barrier*>(shared_memory()) + slot; }
  PHITUNE_DEVICE static Barrier* empty(int slot) { return full(C.stages + slot); }
  PHITUNE_DEVICE static char* keys(int slot) { return shared_memory() + L.ring_at + slot * L.stage_bytes; }
  PHITUNE_DEVICE static char* values(int slot) { return keys(slot) + L.keys_bytes; }

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

  /// Which chunks of 16 bytes of a transposed feature change places: odd features swap halves of 128 bytes, so that two neighbouring ones are
  /// read without a conflict, and every eighth another, so that the eight rows of an stmatrix are.
  PHITUNE_DEVICE static constexpr int key_swizzle(int feature) { return ((feature & 1) << 2 | (feature >> 3 & 3)) * 16; }

  // 32 features of 8 tokens per warp and step: lane (g, t) reads features 8t to 8t+7 of token g.
  static constexpr int key_items = C.token_tile / 8 * (C.d / 32), key_rounds = key_items / 4;
  static_assert(key_items % 4 == 0);

  PHITUNE_DEVICE void load_keys(U4 (&out)[key_rounds], const u16* source, int tile) const {
    const int w = warp() % 4;
    PHITUNE_UNROLL
    for (int i = 0; i < key_rounds; ++i) {
      const int item = w + 4 * i, octet = item % (C.token_tile / 8), column = item / (C.token_tile / 8) * 32 + lane() % 4 * 8;
      const int token = tile * C.token_tile + octet * 8 + lane() / 4;
      out[i] = U4{0, 0, 0, 0};
      if (token < tokens) out[i] = load_global_16_streaming(source + token * args.k_strides.t + column);
    }
  }
  PHITUNE_DEVICE static void store_keys(char* target, const U4 (&in)[key_rounds]) {
    const int w = warp() % 4, c = lane() % 8, r = lane() / 8;
    PHITUNE_UNROLL
    for (int i = 0; i < key_rounds; ++i) {
      const int item = w + 4 * i, octet = item % (C.token_tile / 8), column = item / (C.token_tile / 8) * 32;
      const int feature = column + c / 2 * 8 + 2 * r + c % 2;
      const u32 words[4] = {in[i].x, in[i].y, in[i].z, in[i].w};
      stmatrix_x4_trans(target + feature * L.key_row_bytes + ((octet * 16) ^ key_swizzle(feature)), words);
    }
  }

  // 16 bytes of a token's row per thread and step; eight lanes take the eight k of a core matrix.
  static constexpr int value_items = C.token_tile * blocks, value_rounds = ceil_div(value_items, 128);

  struct ValueItem {
    int token, block, offset;  // token in the tile, columns 8 block to 8 block + 7, bytes in the tile
  };
  PHITUNE_DEVICE static ValueItem value_item(int i) {
    const int item = thread_index() % 128 + 128 * i;
    const int k = item % 8, block = item / 8 % blocks, h = item / (8 * blocks) % 2, s = item / (16 * blocks);  // s: k16 step of the tile
    return {s / 2 * 32 + (k / 2) * 8 + s % 2 * 4 + h * 2 + k % 2, block, s * L.step_bytes + (h * blocks + block) * 128 + k * 16};
  }
  struct Values {
    U4 v[value_rounds];
    F2 gate[value_rounds];
  };
  PHITUNE_DEVICE void load_values(Values& out, const u16* source, const F2* gates, int tile) const {
    PHITUNE_UNROLL
    for (int i = 0; i < value_rounds; ++i) {
      const ValueItem item = value_item(i);
      const int token = tile * C.token_tile + item.token;
      const bool valid = token < tokens && (value_items % 128 == 0 || item.token < C.token_tile);
      out.v[i] = U4{0, 0, 0, 0};
      if (valid && (!C.sum || item.block < value_blocks)) out.v[i] = load_global_16_streaming(source + token * args.v_strides.t + item.block * 8);
      if constexpr (C.gated) out.gate[i] = gates[valid ? token : 0];
    }
  }
  PHITUNE_DEVICE void store_values(char* target, const Values& in, F2 end, int tile) const {
    PHITUNE_UNROLL
    for (int i = 0; i < value_rounds; ++i) {
      const ValueItem item = value_item(i);
      if (value_items % 128 != 0 && item.token >= C.token_tile) continue;
      const float weight = tile * C.token_tile + item.token >= tokens ? 0.0f : C.gated ? gate_weight(end, in.gate[i]) : 1.0f;
      U4 v = in.v[i];
      if (C.sum && item.block == value_blocks) {
        const float high = bf16_to_float(float_to_bf16(weight));
        v = U4{pack_bf16x2(high, weight - high), 0, 0, 0};
      } else if constexpr (C.gated) {
        v = U4{weigh(v.x, weight), weigh(v.y, weight), weigh(v.z, weight), weigh(v.w, weight)};
      }
      *reinterpret_cast<U4*>(target + item.offset) = v;
    }
  }
  PHITUNE_DEVICE static u32 weigh(u32 pair, float weight) { return pack_bf16x2(low_bf16(pair) * weight, high_bf16(pair) * weight); }

  PHITUNE_DEVICE void load() const {
    const int b = head / args.hk, h = head % args.hk;
    const u16* const k = static_cast<const u16*>(args.k) + b * args.k_strides.b + h * args.k_strides.h + first_token * args.k_strides.t;
    const u16* const v = static_cast<const u16*>(args.v) + b * args.v_strides.b + h * args.v_strides.h + first_token * args.v_strides.t;
    const F2* const gates = reinterpret_cast<const F2*>(args.gates) + static_cast<i64>(head) * args.t + first_token;
    F2 end{};
    if constexpr (C.gated) end = gates[tokens - 1];
    const int tiles = ceil_div(tokens, C.token_tile);
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile) {
      const int slot = tile % C.stages;
      U4 key[key_rounds];
      Values value;
      load_keys(key, k, tile);
      load_values(value, v, gates, tile);
      barrier_wait(empty(slot), (tile / C.stages & 1) ^ 1);
      store_keys(keys(slot), key);
      store_values(values(slot), value, end, tile);
      fence_async_shared();
      barrier_arrive(full(slot));
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

  PHITUNE_DEVICE void multiply(float (&acc)[C.m_tiles][accumulators], int first_octet) const {
    const Sources from = sources_of(first_octet);
    const int tiles = ceil_div(tokens, C.token_tile);
    u32 a[2][2][4];
    PHITUNE_NO_UNROLL
    for (int tile = 0; tile < tiles; ++tile) {
      const int slot = tile % C.stages;
      const char* const k = keys(slot);
      const SharedMatrix v = shared_matrix(values(slot), L.step_bytes / 2, 128);
      barrier_wait(full(slot), tile / C.stages & 1);
      PHITUNE_UNROLL
      for (int slab = 0; slab < slabs; ++slab) {
        const auto read = [&](int offset) { return *reinterpret_cast<const U4*>(k + ((offset ^ (slab & 1) * 64) + slab / 2 * 128)); };
        U4 tuple[2];
        PHITUNE_UNROLL
        for (int m = 0; m < C.m_tiles; ++m) {
          const int group = m / group_tiles, pair = m % group_tiles;
          if (pair == 0) {
            PHITUNE_UNROLL
            for (int s = 0; s < 2; ++s) {
              tuple[s] = read(from.tuple[group][s][0]);
              PHITUNE_UNROLL
              for (int i = 1; i < C.p - 1; ++i) multiply_by(tuple[s], read(from.tuple[group][s][i]));
            }
          }
          const U4 feature = read(from.feature[group] + pair * 2 * L.key_row_bytes);
          U4 rows[2] = {tuple[0], tuple[1]};
          multiply_by(rows[0], feature);
          multiply_by(rows[1], feature);
          auto& set = a[(slab * C.m_tiles + m) % 2];
          set[0][0] = rows[0].x, set[0][1] = rows[1].x, set[0][2] = rows[0].y, set[0][3] = rows[1].y;
          set[1][0] = rows[0].z, set[1][1] = rows[1].z, set[1][2] = rows[0].w, set[1][3] = rows[1].w;
          settle(set[0]);
          settle(set[1]);
          wgmma_fence();
          PHITUNE_UNROLL
          for (int s = 0; s < 2; ++s)
            wgmma_bf16<L.columns, true>(acc[m], set[s], v.at((2 * slab + s) * L.step_bytes), tile + slab + s > 0);
          wgmma_commit();
          wgmma_wait<1>();
          if (slab == 0 && m == 0 && tile > 0 && lane() == 0) barrier_arrive(empty((tile - 1) % C.stages));
        }
      }
    }
    wgmma_wait<0>();
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

/// Launch: update_state_layout(C) threads and shared bytes; x = row blocks * chunks to be updated, y = b * hk.
template <UpdateStateConfig C>
PHITUNE_DEVICE void update_state(const Args& args) {
  using Kernel = UpdateState<C>;
  const Kernel kernel(args);
  Kernel::open_barriers();
  if (warp() >= Kernel::L.consumers / 32) {
    registers_decrease<C.loader_registers>();
    kernel.load();
  } else {
    registers_increase<C.consumer_registers>();
    const int first_octet = block_index_x() % Kernel::L.row_blocks * Kernel::L.block_octets + warp() * (2 * C.m_tiles);
    float acc[C.m_tiles][Kernel::accumulators];
    kernel.multiply(acc, first_octet);
    kernel.write(acc, first_octet);
  }
}

}  // namespace phitune::sm90
