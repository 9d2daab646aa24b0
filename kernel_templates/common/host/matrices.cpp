// What a warp does at once with 8x8 matrices: ldmatrix, stmatrix, mma.
#include <cstring>

#include "kernel_templates/common/host/state.hpp"

namespace phitune::host {
namespace {

/// The operands of a warp's lanes.
template <class Operands>
class LanesOf {
 public:
  explicit LanesOf(void* const* operands) : operands_(operands) {}
  [[nodiscard]] Operands& operator[](unsigned lane) const { return *static_cast<Operands*>(operands_[lane]); }

 private:
  void* const* operands_;
};
using Lanes = LanesOf<MatrixProduct>;

// One product of a warp, unpacked: c += a b.
template <int K>
struct Tile {
  float a[16][K];
  float b[K][8];
  float c[16][8];

  // Accumulates in fp32, k ascending.
  void multiply() {
    for (int m = 0; m < 16; ++m) {
      float row[8];
      for (int n = 0; n < 8; ++n) row[n] = c[m][n];
      for (int k = 0; k < K; ++k) {
        for (int n = 0; n < 8; ++n) row[n] += a[m][k] * b[k][n];
      }
      for (int n = 0; n < 8; ++n) c[m][n] = row[n];
    }
  }
};

// Moves the accumulators of all lanes between registers and the tile.
template <int K>
void load_c(Tile<K>& tile, const Lanes& lanes) {
  for (unsigned i = 0; i < warp_size; ++i) {
    const unsigned g = i / 4, t = i % 4;
    for (unsigned j = 0; j < 4; ++j) tile.c[g + j / 2 * 8][2 * t + j % 2] = lanes[i].c[j];
  }
}
template <int K>
void store_c(const Tile<K>& tile, const Lanes& lanes) {
  for (unsigned i = 0; i < warp_size; ++i) {
    const unsigned g = i / 4, t = i % 4;
    for (unsigned j = 0; j < 4; ++j) lanes[i].c[j] = tile.c[g + j / 2 * 8][2 * t + j % 2];
  }
}

// m16n8k16: register j of A is row g + 8 (j & 1), columns 2t + 8 (j >> 1) and the next; register j of B rows 2t + 8j and the next, column
// g.
template <class Unpack>
void multiply_packed(const Lanes& lanes, Unpack unpack) {
  Tile<16> tile;
  load_c(tile, lanes);
  for (unsigned i = 0; i < warp_size; ++i) {
    const unsigned g = i / 4, t = i % 4;
    for (unsigned j = 0; j < 4; ++j) {
      float* row = &tile.a[g + 8 * (j & 1)][2 * t + 8 * (j >> 1)];
      row[0] = unpack(static_cast<u16>(lanes[i].a[j]));
      row[1] = unpack(static_cast<u16>(lanes[i].a[j] >> 16));
    }
    for (unsigned j = 0; j < 2; ++j) {
      tile.b[2 * t + 8 * j][g] = unpack(static_cast<u16>(lanes[i].b[j]));
      tile.b[2 * t + 8 * j + 1][g] = unpack(static_cast<u16>(lanes[i].b[j] >> 16));
    }
  }
  tile.multiply();
  store_c(tile, lanes);
}

}  // namespace

void multiply_bf16(void* const* operands) {
  multiply_packed(Lanes(operands), [](u16 x) { return bf16_to_float(x); });
}

void multiply_f16(void* const* operands) {
  multiply_packed(Lanes(operands), [](u16 x) { return fp16_to_float(x); });
}

// m16n8k8: register j of A is row g + 8 (j & 1), column t + 4 (j >> 1); register j of B is row t + 4j, column g. The low 13 bits of an
// operand are ignored.
void multiply_tf32(void* const* operands) {
  const Lanes lanes(operands);
  Tile<8> tile;
  load_c(tile, lanes);
  const auto truncate = [](u32 x) { return bits_float(x & 0xffffe000u); };
  for (unsigned i = 0; i < warp_size; ++i) {
    const unsigned g = i / 4, t = i % 4;
    for (unsigned j = 0; j < 4; ++j) tile.a[g + 8 * (j & 1)][t + 4 * (j >> 1)] = truncate(lanes[i].a[j]);
    for (unsigned j = 0; j < 2; ++j) tile.b[t + 4 * j][g] = truncate(lanes[i].b[j]);
  }
  tile.multiply();
  store_c(tile, lanes);
}

// Register m of lane i holds, of matrix m, row i / 4, columns 2 (i % 4) and the next; transposed, rows and columns change places.
void load_matrices(void* const* operands) {
  const LanesOf<MatrixMove> lanes(operands);
  const bool transposed = lanes[0].transposed;
  for (int m = 0; m < lanes[0].matrices; ++m) {
    u16 rows[8][8];
    for (int r = 0; r < 8; ++r) std::memcpy(rows[r], lanes[static_cast<unsigned>(8 * m + r)].row, 16);
    for (unsigned i = 0; i < warp_size; ++i) {
      const unsigned g = i / 4, t = i % 4;
      const u16 first = transposed ? rows[2 * t][g] : rows[g][2 * t];
      const u16 second = transposed ? rows[2 * t + 1][g] : rows[g][2 * t + 1];
      lanes[i].registers[m] = first | static_cast<u32>(second) << 16;
    }
  }
}

void store_matrices(void* const* operands) {
  const LanesOf<MatrixMove> lanes(operands);
  const bool transposed = lanes[0].transposed;
  for (int m = 0; m < lanes[0].matrices; ++m) {
    u16 rows[8][8];
    for (unsigned i = 0; i < warp_size; ++i) {
      const unsigned g = i / 4, t = i % 4;
      (transposed ? rows[2 * t][g] : rows[g][2 * t]) = static_cast<u16>(lanes[i].registers[m]);
      (transposed ? rows[2 * t + 1][g] : rows[g][2 * t + 1]) = static_cast<u16>(lanes[i].registers[m] >> 16);
    }
    for (int r = 0; r < 8; ++r) std::memcpy(lanes[static_cast<unsigned>(8 * m + r)].row, rows[r], 16);
  }
}

}  // namespace phitune::host
