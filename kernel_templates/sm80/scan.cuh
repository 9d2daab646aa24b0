// From the updates of single chunks to the state before each chunk: S_0 = initial state or 0, S_(n+1) = exp(G_end(n)) S_n + U_n
// (Buckman et al., arXiv:2507.04239, chunked form). Written times multiplicity and scale^p of the row, with the denominators beside it, or with
// the denominator matrix (state_layout.cuh) before each chunk.
//
// A thread owns `vector` columns of one row and walks the chunks, so S may lie over U: it reads its part of U_n before it writes S_n.
// Threads follow each other as these parts do in memory, whatever its layout.
#pragma once

#include "kernel_templates/common/args.cuh"
#include "kernel_templates/common/fragments.cuh"
#include "kernel_templates/common/state_layout.cuh"
#include "kernel_templates/common/tspow.cuh"

namespace phitune {

struct ScanConfig {
  int d, e, p, d_tile;
  int rows;          // D, as the host counts it
  Storage state;     // of S
  Storage update;    // of U
  bool gated, sum;   // sum: normalisation "sum", there are denominators
  bool z_in_update;  // the denominators' share of U is its column e, not update_z
  bool initial_state, final_state;
  int threads, unroll, vector;
  bool in_place = false;  // S lies over U, where each row's denominator stands in fp32 in the place of its first two columns past e
  bool cores = false;     // U and S lie in core matrices (state_layout.cuh), and update_z follows their positions; else in rows

  PHITUNE_DEVICE constexpr bool matrix() const { return cores && denominator_matrix(d, p, sum); }
  /// Of S: with denominators eight columns more, unless they are a matrix.
  PHITUNE_DEVICE constexpr int row_length() const { return e + (sum && !matrix() ? 8 : 0); }
};

namespace scan_detail {

/// `Words` 32-bit words, in the widest loads and stores that divide them; `p` is aligned to those. States are stored to be read by another kernel.
template <int Words>
PHITUNE_DEVICE void load_words(u32 (&r)[Words], const char* p) {
  static_assert(Words % 2 == 0);
  if constexpr (Words % 4 == 0) {
    PHITUNE_UNROLL
    for (int i = 0; i < Words; i += 4) {
      const U4 v = *reinterpret_cast<const U4*>(p + 4 * i);
      r[i] = v.x, r[i + 1] = v.y, r[i + 2] = v.z, r[i + 3] = v.w;
    }
  } else {
    PHITUNE_UNROLL
    for (int i = 0; i < Words; i += 2) {
      const U2 v = *reinterpret_cast<const U2*>(p + 4 * i);
      r[i] = v.x, r[i + 1] = v.y;
    }
  }
}
template <int Words>
PHITUNE_DEVICE void store_words(char* p, const u32 (&r)[Words]) {
  if constexpr (Words % 4 == 0) {
    PHITUNE_UNROLL
    for (int i = 0; i < Words; i += 4) store_global_16_streaming(p + 4 * i, U4{r[i], r[i + 1], r[i + 2], r[i + 3]});
  } else {
    PHITUNE_UNROLL
    for (int i = 0; i < Words; i += 2) *reinterpret_cast<U2*>(p + 4 * i) = U2{r[i], r[i + 1]};
  }
}

template <Storage S, int Words>
PHITUNE_DEVICE float element(const u32 (&r)[Words], int i) {
  if constexpr (S == Storage::fp32)
    return bits_float(r[i]);
  else
    return i % 2 == 0 ? unpack_low<S>(r[i / 2]) : unpack_high<S>(r[i / 2]);
}

/// Column `column` (0 to 7) of what a row holds after its e values: terms that add up to z, each exact in the operand type of the product
/// that reads S (bf16 for bf16 states, tf32 for fp32 states), then zeros.
template <Storage S>
PHITUNE_DEVICE float denominator_term(float z, int column) {
  if constexpr (S == Storage::bf16) {
    const float hi = bf16_to_float(float_to_bf16(z));
    const float lo = bf16_to_float(float_to_bf16(z - hi));
    return column == 0 ? hi : column == 1 ? lo : column == 2 ? z - hi - lo : 0.0f;
  } else {
    const float hi = bits_float(round_tf32(z));
    return column == 0 ? hi : column == 1 ? z - hi : 0.0f;
  }
}

/// What S holds is a row's sums times its multiplicity and scale^p.
PHITUNE_DEVICE float row_factor(const tspow::Indices& x, int p, int d_tile, float scale) {
  float factor = static_cast<float>(tspow::multiplicity(x, p, d_tile));
  PHITUNE_UNROLL
  for (int i = 0; i < p; ++i) factor *= scale;
  return factor;
}
/// Where the e values of the row of features `x` begin in a canonical state (tspow.cuh), and its z after them.
template <ScanConfig C>
PHITUNE_DEVICE i64 canonical_row(int head, const tspow::Indices& x) {
  return (static_cast<i64>(head) * tspow::rows(C.d, C.p, 1) + tspow::exact_index(x, C.p)) * (C.e + 1);
}

}  // namespace scan_detail

/// What of a state a thread may be given: any columns, those of the values alone, or the denominator's alone.
enum class ScanPart { any, values, denominators };

/// `vector` columns of one row of one head's state, owned by a thread from the first chunk to the last.
template <ScanConfig C, ScanPart P = ScanPart::any>
class ScannedVector {
 public:
  static_assert(C.rows == tspow::rows(C.d / C.d_tile, C.p, C.d_tile), "host and kernel disagree on the rows of the state");
  static_assert(C.e % C.vector == 0 && 8 % C.vector == 0);
  static_assert(!C.cores || !C.z_in_update, "a GEMM writes rows");
  static constexpr int row_length = C.row_length();
  static_assert(!C.in_place || (C.update == C.state && (row_length == C.e || C.vector == 8)));
  static constexpr int per_row = row_length / C.vector;
  static constexpr i64 matrix = static_cast<i64>(C.rows) * row_length;  // elements of a state
  static constexpr int update_bytes = storage_bytes(C.update), state_bytes = storage_bytes(C.state);
  static constexpr int update_words = C.vector * update_bytes / 4, state_words = C.vector * state_bytes / 4;

  /// What a chunk adds.
  struct Update {
    u32 words[update_words] = {};
  };

  /// `head` of b * hk, `item` of rows * per_row. Stands at the first chunk.
  PHITUNE_DEVICE ScannedVector(const Args& a, int head, int item) : args(a) {
    const int offset = item * C.vector;  // in a state
    position = C.cores ? static_cast<int>(core_position_at(offset, row_length)) : item / per_row;
    column = C.cores ? core_column_at(offset, row_length) : item % per_row * C.vector;
    past_values = row_length > C.e && column >= C.e;
    indices = tspow::decode(C.cores ? core_row(position, C.p, C.d_tile) : position, C.p, C.d_tile);
    factor = scan_detail::row_factor(indices, C.p, C.d_tile, args.scale);

    const i64 first_row = static_cast<i64>(head) * args.chunks * C.rows;
    state = static_cast<char*>(args.state) + (first_row * row_length + offset) * state_bytes;
    if constexpr (!C.in_place) {
      update = static_cast<const char*>(args.update) + (first_row * row_length + offset) * update_bytes;
      update_z = args.update_z + first_row + position;
    }
    canonical = scan_detail::canonical_row<C>(head, indices);
    if constexpr (C.initial_state) {
      PHITUNE_UNROLL
      for (int i = 0; i < C.vector; ++i) sum[i] = args.initial_state[canonical + (is_z() ? C.e : column + i)];
    }
  }

  /// Updates that anything needs: the last chunk's only for the final state.
  PHITUNE_DEVICE static int needed(const Args& args) { return C.final_state ? args.chunks : args.chunks - 1; }

  /// Whether it is a piece of the denominator, and which column of it comes first.
  PHITUNE_DEVICE bool is_z() const { return P == ScanPart::any ? past_values : P == ScanPart::denominators; }
  PHITUNE_DEVICE int z_column() const { return C.vector == 8 ? 0 : column - C.e; }

  /// Goes on by `chunks` chunks.
  PHITUNE_DEVICE void move(int chunks) {
    state += chunks * matrix * state_bytes;
    if constexpr (!C.in_place) {
      update += chunks * matrix * update_bytes;
      update_z += static_cast<i64>(chunks) * C.rows;
    }
  }

  /// What the chunk `ahead` of this one adds. It must be one that is needed.
  PHITUNE_DEVICE void load(Update& out, int ahead) const {
    static_assert(!C.in_place, "the caller reads it");
    if (!is_z()) {
      scan_detail::load_words(out.words, update + ahead * matrix * update_bytes);
    } else {
      const float* z = C.z_in_update ? reinterpret_cast<const float*>(update + ahead * matrix * update_bytes) - z_column()
                                     : update_z + static_cast<i64>(ahead) * C.rows;
      out.words[0] = float_bits(*z);
    }
  }

  /// The gate of chunk n's last token, by which the state before it decays.
  PHITUNE_DEVICE static F2 gate(const Args& args, int head, int n) {
    const int end = (n + 1) * args.chunk < args.t ? (n + 1) * args.chunk : args.t;
    return reinterpret_cast<const F2*>(args.gates)[static_cast<i64>(head) * args.t + end - 1];
  }
  PHITUNE_DEVICE static float decay(F2 gate) {
    constexpr float log2_e = 1.4426950408889634f;
    return exp2_approx(gate.x * log2_e + gate.y * log2_e);
  }

  /// A vector of the state, as it lies in memory.
  struct State {
    u32 words[state_words];
  };
  /// What it has, as the state before the chunk that it stands at.
  PHITUNE_DEVICE State packed() const {
    float value[C.vector];
    PHITUNE_UNROLL
    for (int i = 0; i < C.vector; ++i) {
      value[i] = is_z() ? scan_detail::denominator_term<C.state>(sum[0] * factor, z_column() + i) : sum[i] * factor;
    }
    State packed;
    PHITUNE_UNROLL
    for (int i = 0; i < state_words; ++i) {
      if constexpr (C.state == Storage::fp32)
        packed.words[i] = float_bits(value[i]);
      else
        packed.words[i] = pack_bf16x2(value[2 * i], value[2 * i + 1]);
    }
    return packed;
  }
  PHITUNE_DEVICE void write(const State& packed, int ahead) const {
    scan_detail::store_words(state + ahead * matrix * state_bytes, packed.words);
  }
  /// Writes what it has as the state before the chunk `ahead` of this one.
  PHITUNE_DEVICE void write(int ahead) const { write(packed(), ahead); }

  PHITUNE_DEVICE void advance(const Update& by, float decay) {
    PHITUNE_UNROLL
    for (int i = 0; i < C.vector; ++i) {
      const float x = is_z() ? bits_float(by.words[0]) : scan_detail::element<C.update>(by.words, i);
      sum[i] = C.gated ? sum[i] * decay + x : sum[i] + x;
    }
  }

  /// Writes what is left after the last chunk as the final state, when that is wanted.
  PHITUNE_DEVICE void finish() const {
    if constexpr (C.final_state) {
      if (!tspow::is_sorted(indices, C.p)) return;
      float* out = args.final_state + canonical;
      PHITUNE_UNROLL
      for (int i = 0; i < C.vector; ++i) {
        if (!is_z()) out[column + i] = sum[i];
      }
      if (C.sum ? column == C.e : column == 0) out[C.e] = C.sum ? sum[0] : 0.0f;
    }
  }

 private:
  const Args& args;
  int position, column;
  bool past_values;
  tspow::Indices indices;
  float factor;  // multiplicity and scale^p
  char* state;
  const char* update;  // with update_z: not where S lies over U
  const float* update_z;
  i64 canonical;  // of the initial and final state
  float sum[C.vector] = {};
};

/// 16 bytes of one head's denominator matrix, owned by a thread from the first chunk to the last: four entries, whose parts two neighbouring
/// threads exchange. As ScannedVector, but all threads of a warp write together.
template <ScanConfig C>
class ScannedDenominators {
 public:
  static constexpr int items = C.d * C.d / 4;
  static constexpr i64 matrix_bytes = static_cast<i64>(C.d) * C.d * 4;
  static_assert(items % 32 == 0);
  struct Update {
    u32 words[4] = {};
  };
  struct State {
    u32 words[4];
  };

  PHITUNE_DEVICE ScannedDenominators(const Args& a, int head, int item) : args(a) {
    const DenominatorVector vector = denominator_vector(item, C.d);
    feature = vector.feature, other = vector.other + vector.part * 4;
    factor = args.scale * args.scale;
    const i64 first = head * args.chunks * matrix_bytes + vector.byte(C.d);
    state = static_cast<char*>(args.state_z) + first;
    if constexpr (!C.in_place) update = reinterpret_cast<const char*>(args.update_z) + first;
    canonical = static_cast<i64>(head) * tspow::rows(C.d, C.p, 1) * (C.e + 1) + C.e;
    if constexpr (C.initial_state) {
      PHITUNE_UNROLL
      for (int i = 0; i < 4; ++i) sum[i] = args.initial_state[entry(i)];
    }
  }
  PHITUNE_DEVICE static int needed(const Args& args) { return ScannedVector<C>::needed(args); }
  PHITUNE_DEVICE static F2 gate(const Args& args, int head, int n) { return ScannedVector<C>::gate(args, head, n); }
  PHITUNE_DEVICE static float decay(F2 gate) { return ScannedVector<C>::decay(gate); }

  PHITUNE_DEVICE void move(int chunks) {
    state += chunks * matrix_bytes;
    if constexpr (!C.in_place) update += chunks * matrix_bytes;
  }
  PHITUNE_DEVICE void load(Update& out, int ahead) const {
    static_assert(!C.in_place, "the caller reads it");
    scan_detail::load_words(out.words, update + ahead * matrix_bytes);
  }
  PHITUNE_DEVICE State packed() const {
    u32 rounded[2], rest[2];
    PHITUNE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const float x = sum[2 * i] * factor, y = sum[2 * i + 1] * factor;
      rounded[i] = pack_bf16x2(x, y);
      rest[i] = pack_bf16x2(x - low_bf16(rounded[i]), y - high_bf16(rounded[i]));
    }
    // The even thread writes the rounded values of both, the odd one the rest.
    const bool even = lane() % 2 == 0;
    State out;
    PHITUNE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const u32 theirs = shuffle_xor(even ? rest[i] : rounded[i], 1);
      out.words[i] = even ? rounded[i] : theirs;
      out.words[2 + i] = even ? theirs : rest[i];
    }
    return out;
  }
  PHITUNE_DEVICE void write(const State& packed, int ahead) const { scan_detail::store_words(state + ahead * matrix_bytes, packed.words); }
  PHITUNE_DEVICE void write(int ahead) const { write(packed(), ahead); }
  PHITUNE_DEVICE void advance(const Update& by, float decay) {
    PHITUNE_UNROLL
    for (int i = 0; i < 4; ++i) sum[i] = (C.gated ? sum[i] * decay : sum[i]) + bits_float(by.words[i]);
  }
  PHITUNE_DEVICE void finish() const {
    if constexpr (C.final_state) {
      PHITUNE_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (feature <= other + i) args.final_state[entry(i)] = sum[i];
      }
    }
  }

 private:
  PHITUNE_DEVICE i64 entry(int i) const {
    tspow::Indices x;
    x.i[0] = feature, x.i[1] = other + i;
    return canonical + static_cast<i64>(tspow::exact_index(x, C.p)) * (C.e + 1);
  }

  const Args& args;
  int feature, other;  // of the first of four entries
  float factor;
  char* state;
  const char* update;
  i64 canonical;  // denominators of the head in the initial and final state
  float sum[4] = {};
};

namespace scan_detail {

template <ScanConfig C, class Vector>
PHITUNE_DEVICE void walk(const Args& args, Vector vector) {
  const int needed = Vector::needed(args);

  // The next batch is on its way while this one is added up.
  struct Batch {
    typename Vector::Update update[C.unroll];
    F2 gate[C.unroll] = {};
  } batch, next;
  const auto load = [&](int begin, int ahead) {
    PHITUNE_UNROLL
    for (int i = 0; i < C.unroll; ++i) {
      if (begin + ahead + i >= needed) continue;
      vector.load(next.update[i], ahead + i);
      if constexpr (C.gated) next.gate[i] = Vector::gate(args, block_index_y(), begin + ahead + i);
    }
  };
  load(0, 0);
  PHITUNE_NO_UNROLL
  for (int begin = 0; begin < args.chunks; begin += C.unroll) {
    batch = next;
    load(begin, C.unroll);
    PHITUNE_UNROLL
    for (int i = 0; i < C.unroll; ++i) {
      if (begin + i < args.chunks) vector.write(i);
      if (begin + i < needed) vector.advance(batch.update[i], C.gated ? Vector::decay(batch.gate[i]) : 1.0f);
    }
    vector.move(C.unroll);
  }
  vector.finish();
}

}  // namespace scan_detail

/// Threads of a head: the vectors of S, then those of the denominator matrix. (Whole warps of each: rows are whole groups of core matrices.)
template <ScanConfig C>
PHITUNE_DEVICE constexpr int scan_items() {
  return C.rows * (C.row_length() / C.vector) + (C.matrix() ? C.d * C.d / 4 : 0);
}

/// Grid: x covers scan_items threads, y = b * hk.
template <ScanConfig C>
PHITUNE_DEVICE void scan(const Args& args) {
  wait_for_earlier_kernels();
  constexpr int vectors = C.rows * ScannedVector<C>::per_row;
  const int item = block_index_x() * C.threads + thread_index();
  if (item >= scan_items<C>()) return;
  if constexpr (C.matrix()) {
    static_assert(vectors % 32 == 0);
    if (item >= vectors) return scan_detail::walk<C>(args, ScannedDenominators<C>(args, block_index_y(), item - vectors));
  }
  scan_detail::walk<C>(args, ScannedVector<C>(args, block_index_y(), item));
}

}  // namespace phitune
