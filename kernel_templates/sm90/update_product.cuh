// The product phi(K)^T V of the Hopper update_state kernel (update_state.cuh) for the rows of one warpgroup, MTiles tiles of 64.
#pragma once

#include "kernel_templates/sm90/update_block.cuh"

namespace phitune::sm90 {

template <UpdateStateConfig C, int MTiles>
struct UpdateProduct : UpdateBlock<C> {
  using Block = UpdateBlock<C>;
  using Work = typename Block::Work;
  using Block::L, Block::wide, Block::args, Block::full, Block::keys, Block::values, Block::key_piece, Block::release;
  static constexpr UpdateUnit unit = update_unit(C, MTiles);
  static constexpr int degree = unit.degree, group_octets = unit.group_octets, group_tiles = unit.group_tiles, groups = unit.groups;
  static constexpr int accumulators = L.columns / 2, slabs = unit.slabs, parts = C.token_tile / 32 / slabs;
  using Accumulators = float[MTiles][accumulators];
  static_assert(unit.possible, "a unit is part of a group, or whole groups; its steps are so many that two can be read ahead");

  PHITUNE_DEVICE explicit UpdateProduct(const Args& a) : Block(a) {}

  /// Where a thread finds its tokens of a slab's features: bytes in the tile of transposed keys, first slab.
  struct Sources {
    int feature[groups];
    int tuple[groups][2][degree - 1];
  };
  PHITUNE_DEVICE static int key_offset(int feature) { return key_piece(feature, lane() % 4); }

  PHITUNE_DEVICE static Sources sources_of(int first_octet, const Work& work) {
    Sources out;
    PHITUNE_UNROLL
    for (int group = 0; group < groups; ++group) {
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) {
        const int octet = first_octet + group * group_octets + s;
        const int position = (octet < work.end_octet ? octet - work.tile_octet : s) * 8 + lane() / 4;
        const tspow::Indices x = tspow::decode(wide ? position : core_row(position, C.p, C.d_tile), degree, C.d_tile, C.d / C.d_tile);
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

  // The steps of a part of a tile: its slabs of 32 tokens times the m tiles. What a step multiplies is read from shared memory two steps before,
  // across the ends of parts and tiles, and after the products of its step have been started, so that no product waits for it.
  static constexpr int steps = unit.steps;
  struct Features {
    U4 tuple[2][2];  // of the group of the step, and of the next group
    U4 feature[2];   // of the step, and of the next
  };

  PHITUNE_DEVICE static void read_step(Features& out, const Sources& from, const char* k, int step) {
    const int slab = step / MTiles, m = step % MTiles;
    const int group = m / group_tiles, pair = m % group_tiles;
    const auto read = [&](int offset) { return *reinterpret_cast<const U4*>(k + ((offset ^ (slab & 1) * 64) + slab / 2 * L.key_panel_bytes)); };
    if (pair == 0 || m == 0) {
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) {
        U4& tuple = out.tuple[(slab * groups + group) % 2][s];
        tuple = read(from.tuple[group][s][0]);
        PHITUNE_UNROLL
        for (int i = 1; i < degree - 1; ++i) multiply_by(tuple, read(from.tuple[group][s][i]));
      }
    }
    // (Every other feature: rows that follow each other, within eight.)
    out.feature[step % 2] = read((from.feature[group] ^ pair % 4 * 16) + (pair % 4 + pair / 4 * 8) * key_panel_row);
  }

  /// acc += the product of a work's tokens for a warp's octets from `first_octet` on; `turn` counts tiles. `finish_panel(slot, panel)` may start
  /// other products with 64 tokens of a tile behind these.
  template <class Finish>
  PHITUNE_DEVICE static void multiply(Accumulators& acc, int first_octet, const Work& work, int& turn, const Finish& finish_panel) {
    const Sources from = sources_of(first_octet, work);
    const int count = work.tiles() * parts;
    // One being formed while the other is multiplied. (With more of them ptxas serialises the products.)
    u32 a[2][2][4];
    Features features;
    barrier_wait(full(turn % C.stages), turn / C.stages & 1);
    fence_async_shared();
    read_step(features, from, keys(turn % C.stages), 0);
    read_step(features, from, keys(turn % C.stages), 1);
    PHITUNE_NO_UNROLL
    for (int i = 0; i < count; ++i) {
      const int slot = turn % C.stages, part = i % parts, first_panel = part * slabs / 2;
      const SharedMatrix v = swizzled_rows_of_n(values(slot) + part * slabs * 32 * L.panel_row, L.panel_row, L.panel_bytes);
      const char* k = keys(slot) + first_panel * L.key_panel_bytes;
      PHITUNE_UNROLL
      for (int step = 0; step < steps; ++step) {
        const int slab = step / MTiles, m = step % MTiles;
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
        for (int s = 0; s < 2; ++s) wgmma_bf16<L.columns, true>(acc[m], set[s], v.at((2 * slab + s) * 16 * L.panel_row), true);
        wgmma_commit();
        if (step == steps - 2) {
          // After the last part a beginning is read again, for nothing. (A tile that is there already is waited for all the same: without a
          // branch, or ptxas serialises the products.)
          const int next = part + 1 < parts || i + 1 == count ? turn : turn + 1;
          k = keys(next % C.stages) + (i + 1) % parts * slabs / 2 * L.key_panel_bytes;
          barrier_wait(full(next % C.stages), next / C.stages & 1);
          fence_async_shared();
        }
        read_step(features, from, k, (step + 2) % steps);
        wgmma_wait<1>();
        // The products of the tile before have ended.
        if (step == 0 && part == 0 && i > 0) release(turn - 1);
      }
      PHITUNE_UNROLL
      for (int panel = 0; panel < slabs / 2; ++panel) finish_panel(slot, first_panel + panel);
      if (part == parts - 1) ++turn;
    }
    wgmma_wait<0>();
    release(turn - 1);
    PHITUNE_UNROLL
    for (int m = 0; m < MTiles; ++m) settle(acc[m]);
  }

  /// Four bytes per thread, 128 bytes of a core matrix per warp.
  PHITUNE_DEVICE void write(const Accumulators& acc, int first_octet, const Work& work) const {
    const int g = lane() / 4, t = lane() % 4;
    const i64 matrix = static_cast<i64>(work.head) * args.chunks + work.chunk;
    constexpr bool scanned = C.scan_registers > 0;  // by this kernel: U lies where S will
    u16* const update = static_cast<u16*>(scanned ? args.state : args.update) + matrix * L.rows * L.columns;
    PHITUNE_UNROLL
    for (int m = 0; m < MTiles; ++m) {
      PHITUNE_UNROLL
      for (int s = 0; s < 2; ++s) {
        const int octet = first_octet + 2 * m + s;
        if (octet >= work.end_octet) continue;
        u16* const out = update + octet * (8 * L.columns) + g * 8 + 2 * t;
        PHITUNE_UNROLL
        for (int n = 0; n < L.value_columns / 8; ++n)
          *reinterpret_cast<u32*>(out + n * 64) = pack_bf16x2(acc[m][4 * n + 2 * s], acc[m][4 * n + 2 * s + 1]);
        if (!C.ones() || t != 0) continue;
        float* const z = scanned ? reinterpret_cast<float*>(out + L.value_columns * 8) : args.update_z + matrix * L.rows + octet * 8 + g;
        *z = acc[m][accumulators - 4 + 2 * s];
      }
    }
  }
};

}  // namespace phitune::sm90
