// scan on the CPU emulator against the recurrence in double, and its host side.
#include "kernel_templates/sm80/scan.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernel_templates/sm80/scan.cuh"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::Array;
using kernel_test::dtype_of;

constexpr ScanConfig with_rows(ScanConfig c) {
  c.rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  return c;
}

struct Tokens {
  int b, t, hk, chunk;
};

StageProblem stage_problem(const ScanConfig& c, const Tokens& run) {
  Problem problem;
  problem.b = run.b, problem.t = run.t, problem.hq = problem.hk = run.hk;
  problem.d = c.d, problem.e = c.e, problem.p = c.p, problem.gated = c.gated;
  problem.normalisation = c.sum ? Normalisation::sum : Normalisation::none;
  problem.initial_state = c.initial_state, problem.final_state = c.final_state;
  const PlanShape shape{.fusion = c.z_in_update ? Fusion::materialized : Fusion::expand_mma,
                        .chunk = run.chunk,
                        .d_tile = c.d_tile,
                        .state = dtype_of(c.state),
                        .path = c.cores ? Path::sm90 : Path::sm80};
  return {problem, shape, Stage::scan, Path::sm80};
}

Config config_of(const ScanConfig& c) { return {{"threads", c.threads}, {"unroll", c.unroll}, {"vector", c.vector}}; }

/// Denominators of degree 2 in cores are a matrix Z beside S. (Not ScanConfig's own word for it, which is under test.)
constexpr bool has_matrix(const ScanConfig& c) { return c.cores && c.sum && c.p == 2; }
/// Columns of a state row in memory, and how many of them one value each is expected of: denominators in columns are one.
constexpr int columns_of(const ScanConfig& c) { return c.sum && !has_matrix(c) ? c.e + 8 : c.e; }
constexpr int width_of(const ScanConfig& c) { return c.sum && !has_matrix(c) ? c.e + 1 : c.e; }
/// Floats of update_z for one chunk.
constexpr int shares_of(const ScanConfig& c) { return has_matrix(c) ? c.d * c.d : c.rows; }

/// Where a matrix keeps (row, column), and update_z a row.
std::int64_t row_at(const ScanConfig& c, std::int64_t block, int row) {
  return block * c.rows + (c.cores ? core_position(row, c.p, c.d_tile) : row);
}
std::int64_t element_at(const ScanConfig& c, std::int64_t block, int row, int column) {
  const int columns = columns_of(c);
  if (!c.cores) return (block * c.rows + row) * columns + column;
  return block * c.rows * columns + core_element(core_position(row, c.p, c.d_tile), column, columns);
}
/// Where update_z keeps an entry of what a chunk adds to Z, and a Z of bf16 in the same memory a part of one.
std::int64_t share_at(const ScanConfig& c, std::int64_t block, int feature, int other) {
  return block * c.d * c.d + denominator_share(feature, other, c.d);
}
double part_of(const ScanConfig& c, const Array& z, std::int64_t block, int feature, int other, int part) {
  const auto* bits = static_cast<const u16*>(z.data());
  return bf16_to_float(bits[block * 2 * c.d * c.d + denominator_element(feature, other, part, c.d)]);
}
/// The monomial of two features: both orders are one entry of a canonical state.
int entry_of(int feature, int other) {
  tspow::Indices x;
  x.i[0] = feature, x.i[1] = other;
  return static_cast<int>(tspow::exact_index(x, 2));
}

/// Everything a scan reads and writes. Canonical states hold [entry][e + 1] per head.
struct Buffers {
  Buffers(const ScanConfig& c, const Tokens& run, std::uint64_t seed)
      : heads(run.b * run.hk),
        chunks(ceil_div(run.t, run.chunk)),
        columns(columns_of(c)),
        entries(static_cast<int>(tspow::rows(c.d, c.p, 1))),
        gates(Storage::fp32, std::int64_t{heads} * run.t * 2),
        update(c.update, std::int64_t{heads} * chunks * c.rows * columns),
        z(Storage::fp32, std::int64_t{heads} * chunks * shares_of(c)),
        state(c.state, std::int64_t{heads} * chunks * c.rows * columns),
        initial(Storage::fp32, std::int64_t{heads} * entries * (c.e + 1)),
        final(Storage::fp32, std::int64_t{heads} * entries * (c.e + 1)) {
    std::mt19937_64 rng(seed);
    initial.fill_normal(rng);
    fill_gates(run, rng);
    fill_updates(c, rng);
  }

  void fill_gates(const Tokens& run, std::mt19937_64& rng) {
    std::uniform_real_distribution<double> decay(-0.05, 0.0);
    for (int head = 0; head < heads; ++head) {
      double sum = 0;
      for (int j = 0; j < run.t; ++j) {
        sum = (j % run.chunk == 0 ? 0 : sum) + decay(rng);
        const std::int64_t at = 2 * (std::int64_t{head} * run.t + j);
        gates.floats()[at] = static_cast<float>(sum), gates.floats()[at + 1] = static_cast<float>(sum - gates.at(at));
      }
    }
  }

  /// Moments are symmetric: rows of one monomial hold the same values. Columns e.. stay NaN but for the z of a materialized update.
  void fill_updates(const ScanConfig& c, std::mt19937_64& rng) {
    std::normal_distribution<double> normal;
    for (std::int64_t block = 0; block < std::int64_t{heads} * chunks; ++block) {
      std::vector<double> moments(static_cast<std::size_t>(entries) * (c.e + 1));
      for (double& x : moments) x = normal(rng);
      for (int row = 0; row < c.rows; ++row) {
        const double* from = &moments[static_cast<std::size_t>(tspow::exact_index(tspow::decode(row, c.p, c.d_tile), c.p)) * (c.e + 1)];
        for (int n = 0; n < c.e; ++n) update.set(element_at(c, block, row, n), from[n]);
        if (c.sum && !c.z_in_update && !has_matrix(c)) z.set(row_at(c, block, row), from[c.e]);
        if (c.sum && c.z_in_update) update.set(element_at(c, block, row, c.e), from[c.e]);
      }
      for (int i = 0; has_matrix(c) && i < c.d; ++i)
        for (int j = 0; j < c.d; ++j) z.set(share_at(c, block, i, j), moments[static_cast<std::size_t>(entry_of(i, j)) * (c.e + 1) + c.e]);
    }
  }

  [[nodiscard]] double decay(const Tokens& run, int head, int chunk) const {
    const std::int64_t at = 2 * (std::int64_t{head} * run.t + std::min(run.t, (chunk + 1) * run.chunk) - 1);
    return std::exp(gates.at(at) + gates.at(at + 1));
  }

  int heads, chunks, columns, entries;
  Array gates, update, z, state, initial, final;
};

/// What the scan should give: S as [head][chunk][row][width] with the factor applied, Z where there is one as [head][chunk][d][d] likewise,
/// final states as [head][entry][e + 1].
struct Expected {
  std::vector<double> states, matrices, finals;
};

void recurrence_of_matrix(const ScanConfig& c, const Tokens& run, const Buffers& in, double scale, Expected& out) {
  out.matrices.resize(static_cast<std::size_t>(in.heads) * in.chunks * c.d * c.d);
  for (int head = 0; head < in.heads; ++head) {
    for (int i = 0; i < c.d; ++i) {
      for (int j = 0; j < c.d; ++j) {
        const std::int64_t entry = (std::int64_t{head} * in.entries + entry_of(i, j)) * (c.e + 1) + c.e;
        double sum = c.initial_state ? in.initial.at(entry) : 0;
        for (int chunk = 0; chunk < in.chunks; ++chunk) {
          const std::int64_t block = std::int64_t{head} * in.chunks + chunk;
          out.matrices[static_cast<std::size_t>((block * c.d + i) * c.d + j)] = sum * scale * scale;
          sum = sum * (c.gated ? in.decay(run, head, chunk) : 1.0) + in.z.at(share_at(c, block, i, j));
        }
        out.finals[static_cast<std::size_t>(entry)] = sum;
      }
    }
  }
}

Expected recurrence(const ScanConfig& c, const Tokens& run, const Buffers& in, double scale) {
  const int width = width_of(c);
  Expected out{std::vector<double>(static_cast<std::size_t>(in.heads) * in.chunks * c.rows * width),
               {},
               std::vector<double>(static_cast<std::size_t>(in.heads) * in.entries * (c.e + 1), 0.0)};
  for (int head = 0; head < in.heads; ++head) {
    for (int row = 0; row < c.rows; ++row) {
      const tspow::Indices x = tspow::decode(row, c.p, c.d_tile);
      const std::int64_t entry = (std::int64_t{head} * in.entries + tspow::exact_index(x, c.p)) * (c.e + 1);
      const double factor = tspow::multiplicity(x, c.p, c.d_tile) * std::pow(scale, c.p);
      for (int n = 0; n < width; ++n) {
        double sum = c.initial_state ? in.initial.at(entry + n) : 0;
        for (int chunk = 0; chunk < in.chunks; ++chunk) {
          const std::int64_t block = std::int64_t{head} * in.chunks + chunk;
          out.states[static_cast<std::size_t>(block * c.rows + row) * width + n] = sum * factor;
          const bool beside = n == c.e && !c.z_in_update;
          const double u = beside ? in.z.at(row_at(c, block, row)) : in.update.at(element_at(c, block, row, n));
          sum = sum * (c.gated ? in.decay(run, head, chunk) : 1.0) + u;
        }
        out.finals[entry + n] = sum;
      }
    }
  }
  if (has_matrix(c)) recurrence_of_matrix(c, run, in, scale, out);
  return out;
}

/// S as written, its denominator terms added up.
std::vector<double> written_states(const ScanConfig& c, const Buffers& in, const Array& state) {
  std::vector<double> out;
  for (std::int64_t i = 0; i < std::int64_t{in.heads} * in.chunks * c.rows; ++i) {
    const auto at = [&](int n) { return state.at(element_at(c, i / c.rows, static_cast<int>(i % c.rows), n)); };
    for (int n = 0; n < c.e; ++n) out.push_back(at(n));
    if (columns_of(c) == c.e) continue;
    double z = 0;
    for (int n = c.e; n < c.e + 8; ++n) z += at(n);
    out.push_back(z);
    for (int n = c.e + 3; n < c.e + 8; ++n) EXPECT_EQ(at(n), 0.0) << "row " << i << " column " << n;
  }
  return out;
}

/// Every (e + 1)th of values: the denominators alone.
std::vector<double> denominators(const ScanConfig& c, const std::vector<double>& values) {
  std::vector<double> out;
  for (std::size_t i = static_cast<std::size_t>(c.e); i < values.size(); i += static_cast<std::size_t>(c.e) + 1) out.push_back(values[i]);
  return out;
}

/// What rounding to bf16 may do, as relative_error measures it: half a unit in the last place of the largest value.
double largest_rounding(const std::vector<double>& values) {
  double largest = 0, squares = 0;
  for (const double value : values) largest = std::max(largest, std::fabs(value)), squares += value * value;
  return largest == 0 ? 0 : std::ldexp(largest, -8) / std::sqrt(squares / static_cast<double>(values.size()));
}

/// Z: an entry's two bf16 together lack at most 2^-17 of it, the first of them alone at most 2^-8.
void check_matrices(const ScanConfig& c, const Array& z, const std::vector<double>& expected) {
  double squares = 0;
  for (const double x : expected) squares += x * x;
  const double single = 2e-6 * std::sqrt(squares / static_cast<double>(expected.size()));  // of fp32 sums and their decay
  for (std::size_t n = 0; n < expected.size(); ++n) {
    const auto block = static_cast<std::int64_t>(n) / (c.d * c.d);
    const int i = static_cast<int>(n) / c.d % c.d, j = static_cast<int>(n) % c.d;
    const double rounded = part_of(c, z, block, i, j, 0), rest = part_of(c, z, block, i, j, 1);
    ASSERT_NEAR(rounded + rest, expected[n], std::ldexp(std::fabs(expected[n]), -17) + single)
        << "entry " << i << ", " << j << " of block " << block;
    ASSERT_NEAR(rounded, expected[n], std::ldexp(std::fabs(expected[n]), -8) + single)
        << "entry " << i << ", " << j << " of block " << block;
  }
}

/// Scans `in`, in place where the pipeline has it so; the NaNs of S beside U show a read of what was not written.
template <ScanConfig C>
void run_scan(const Tokens& run, const Buffers& in, double scale, std::uint64_t seed) {
  const Array& state = C.z_in_update ? in.state : in.update;
  Args args;
  args.gates = in.gates.floats(), args.update = in.update.data(), args.update_z = C.z_in_update ? nullptr : in.z.floats();
  args.state = state.data(), args.initial_state = in.initial.floats(), args.final_state = in.final.floats();
  if (has_matrix(C)) args.state_z = in.z.data();
  args.b = run.b, args.t = run.t, args.hq = args.hk = run.hk, args.chunk = run.chunk, args.chunks = in.chunks;
  args.scale = static_cast<float>(scale);
  kernel_test::run_on_host(scan_template().launch(stage_problem(C, run), config_of(C)), [&] { scan<C>(args); }, {.seed = seed});
}

template <ScanConfig Choice>
void check(const Tokens& run) {
  static constexpr ScanConfig C = with_rows(Choice);
  const std::uint64_t seed = kernel_test::test_seed();
  const StageProblem problem = stage_problem(C, run);
  SCOPED_TRACE(testing::Message() << problem.key() << " " << config_of(C).text() << " seed " << seed);
  const auto why_not = scan_template().space(problem, {}).why_not(config_of(C));
  EXPECT_FALSE(why_not.has_value()) << *why_not;

  const Buffers in(C, run, seed);
  const double scale = 0.25;
  const Expected expected = recurrence(C, run, in, scale);
  run_scan<C>(run, in, scale, seed);

  const std::vector<double> states = written_states(C, in, C.z_in_update ? in.state : in.update);
  EXPECT_LT(kernel_test::relative_error(states, expected.states),
            1e-5 + (C.state == Storage::bf16 ? largest_rounding(expected.states) : 0));
  if (has_matrix(C)) {
    check_matrices(C, in.z, expected.matrices);
  } else if (C.sum) {
    // Near fp32 whatever the state's type: two bf16 terms would give up to 2e-5.
    EXPECT_LT(kernel_test::relative_error(denominators(C, states), denominators(C, expected.states)), 5e-6);
  }
  if (C.final_state) {
    EXPECT_LT(kernel_test::relative_error(in.final.values(), expected.finals), 1e-5);
  }
}

constexpr ScanConfig base{.d = 16,
                          .e = 16,
                          .p = 2,
                          .d_tile = 8,
                          .rows = 0,
                          .state = Storage::bf16,
                          .update = Storage::bf16,
                          .gated = true,
                          .sum = true,
                          .z_in_update = false,
                          .initial_state = false,
                          .final_state = false,
                          .threads = 128,
                          .unroll = 2,
                          .vector = 8};

constexpr ScanConfig of(int p, int d_tile, int e, ScanConfig c = base) {
  c.p = p, c.d_tile = d_tile, c.e = e;
  return c;
}
constexpr ScanConfig stored(Storage storage, ScanConfig c) {
  c.state = c.update = storage;
  return c;
}
constexpr ScanConfig with_states(bool initial, bool final_state, ScanConfig c) {
  c.initial_state = initial, c.final_state = final_state;
  return c;
}
constexpr ScanConfig tuned(int threads, int unroll, int vector, ScanConfig c) {
  c.threads = threads, c.unroll = unroll, c.vector = vector;
  return c;
}
constexpr ScanConfig plain(ScanConfig c) {
  c.gated = c.sum = false;
  return c;
}
constexpr ScanConfig ungated(ScanConfig c) {
  c.gated = false;
  return c;
}
constexpr ScanConfig with_features(int d, ScanConfig c) {
  c.d = d;
  return c;
}
constexpr ScanConfig materialized(ScanConfig c) {
  c.update = Storage::fp32, c.z_in_update = true;
  return c;
}

constexpr ScanConfig in_cores(ScanConfig c) {
  c.cores = true;
  return c;
}

TEST(Scan, EveryDegreeAndWidthOfTile) {
  const Tokens run{.b = 1, .t = 300, .hk = 2, .chunk = 64};
  check<of(1, 16, 16)>(run);
  check<of(2, 2, 32)>(run);
  check<of(2, 16, 64)>(run);
  check<of(3, 4, 16)>(run);
  check<of(4, 2, 16)>(run);
}

TEST(Scan, EveryUnrollAndVector) {
  const Tokens run{.b = 2, .t = 64 * 9 + 5, .hk = 1, .chunk = 64};
  check<tuned(256, 1, 8, of(2, 8, 16))>(run);
  check<tuned(128, 4, 8, of(2, 8, 16))>(run);
  check<tuned(128, 8, 4, of(2, 8, 16))>(run);
  check<tuned(128, 4, 4, stored(Storage::fp32, of(2, 8, 16)))>(run);
  check<tuned(128, 2, 8, stored(Storage::fp32, of(2, 8, 16)))>(run);
}

TEST(Scan, InitialAndFinalStatesAreCanonical) {
  const Tokens run{.b = 2, .t = 200, .hk = 2, .chunk = 64};
  check<with_states(true, true, of(1, 16, 16))>(run);
  check<with_states(true, true, of(2, 8, 16))>(run);
  check<with_states(true, true, of(2, 2, 16))>(run);
  check<with_states(false, true, of(3, 4, 16))>(run);
  check<with_states(true, false, of(4, 4, 16))>(run);
  check<with_states(true, true, stored(Storage::fp32, tuned(128, 2, 4, of(4, 2, 16))))>(run);
  check<with_states(true, true, plain(of(3, 8, 16)))>(run);
}

TEST(Scan, OneChunkAndOneToken) {
  for (const int t : {1, 63, 64}) {
    check<tuned(128, 1, 8, of(2, 8, 16))>({.b = 1, .t = t, .hk = 1, .chunk = 64});
    check<with_states(true, true, tuned(128, 1, 8, of(2, 8, 16)))>({.b = 1, .t = t, .hk = 1, .chunk = 64});
  }
}

TEST(Scan, MaterializedUpdatesBringTheirDenominators) {
  const Tokens run{.b = 1, .t = 300, .hk = 2, .chunk = 64};
  check<materialized(of(2, 8, 32))>(run);
  check<materialized(tuned(128, 2, 4, of(2, 4, 16)))>(run);
  check<materialized(stored(Storage::fp32, with_states(true, true, of(2, 8, 16))))>(run);
  check<materialized(plain(of(3, 4, 16)))>(run);
}

TEST(Scan, StatesInCoreMatricesAreTheSameStates) {
  const Tokens run{.b = 2, .t = 300, .hk = 2, .chunk = 64};
  check<in_cores(plain(of(2, 2, 32)))>(run);
  check<in_cores(with_states(true, true, plain(of(2, 8, 16))))>(run);
  check<in_cores(with_states(true, true, plain(of(3, 4, 16))))>(run);
}

// Of other degrees than 2 denominators stay columns, in cores too.
TEST(Scan, ColumnsOfDenominatorsInCoreMatrices) {
  const Tokens run{.b = 2, .t = 300, .hk = 2, .chunk = 64};
  check<in_cores(with_states(false, true, of(4, 2, 16)))>(run);
  check<in_cores(with_states(true, true, of(4, 4, 32)))>(run);
  check<in_cores(tuned(256, 4, 4, with_states(true, false, of(4, 2, 16))))>(run);
}

TEST(Scan, DenominatorsOfDegreeTwoInCoreMatricesAreAMatrix) {
  const Tokens run{.b = 2, .t = 300, .hk = 2, .chunk = 64};
  check<in_cores(of(2, 2, 32))>(run);
  check<in_cores(of(2, 16, 64))>(run);
  check<in_cores(tuned(256, 4, 4, of(2, 4, 16)))>(run);
  check<in_cores(with_states(true, true, of(2, 8, 16)))>(run);
  // Several times sixteen features, whose two parts take turns.
  check<in_cores(with_features(32, ungated(of(2, 8, 16))))>(run);
  check<in_cores(with_states(true, true, with_features(64, tuned(256, 1, 8, of(2, 4, 16)))))>(run);
  check<in_cores(with_states(false, true, with_features(128, of(2, 16, 16))))>({.b = 1, .t = 130, .hk = 1, .chunk = 64});
  for (const int t : {1, 64})
    check<in_cores(with_states(true, true, tuned(128, 1, 8, of(2, 8, 16))))>({.b = 1, .t = t, .hk = 1, .chunk = 64});
}

// Sums of integers are exact in fp32, so each part can be said to the bit: the value rounded, and what it lacks, rounded.
TEST(Scan, PartsOfADenominatorMatrixAreTheRoundedValueAndTheRest) {
  static constexpr ScanConfig C = with_rows(in_cores(with_features(32, ungated(of(2, 8, 16)))));
  const Tokens run{.b = 1, .t = 64 * 5, .hk = 2, .chunk = 64};
  const std::uint64_t seed = kernel_test::test_seed();
  const Buffers in(C, run, seed);
  std::mt19937_64 rng(seed);
  std::uniform_int_distribution<int> integer(-(1 << 20), 1 << 20);  // four of them: below 2^23
  for (std::int64_t i = 0; i < in.z.size(); ++i) in.z.floats()[i] = static_cast<float>(integer(rng));
  const Expected expected = recurrence(C, run, in, 0.25);
  run_scan<C>(run, in, 0.25, seed);
  for (std::size_t n = 0; n < expected.matrices.size(); ++n) {
    const auto block = static_cast<std::int64_t>(n) / (C.d * C.d);
    const int i = static_cast<int>(n) / C.d % C.d, j = static_cast<int>(n) % C.d;
    const float value = static_cast<float>(expected.matrices[n]), rounded = bf16_to_float(float_to_bf16(value));
    ASSERT_EQ(value, expected.matrices[n]);
    ASSERT_EQ(part_of(C, in.z, block, i, j, 0), rounded) << "entry " << i << ", " << j << " of block " << block << " is " << value;
    ASSERT_EQ(part_of(C, in.z, block, i, j, 1), bf16_to_float(float_to_bf16(value - rounded)))
        << "entry " << i << ", " << j << " of block " << block << " is " << value;
  }
}

// Recorded sources are found by their text, which must not change with what they do not use.
TEST(ScanSource, SpeaksOfCoresOnlyForCores) {
  const Tokens run{.b = 1, .t = 300, .hk = 1, .chunk = 64};
  const auto source = [&](const ScanConfig& c) { return scan_template().source(stage_problem(with_rows(c), run), config_of(c)); };
  EXPECT_EQ(source(base).find("cores"), std::string::npos);
  EXPECT_NE(source(in_cores(base)).find(".vector = 8, .cores = true}>(args);"), std::string::npos) << source(in_cores(base));
}

TEST(ScanSpace, NeverEmptyForASupportedProblem) {
  for (const char* problem : {"b1 t65536 h8 d64 p2 bf16 gated", "b1 t1 h1 d16 p2 bf16", "b1 t100 h1 d128 e128 p2 fp16 gated"}) {
    for (const PlanShape& shape : plan_shapes(Problem::parse(problem)).shapes) {
      if (shape.fusion == Fusion::quadratic) continue;
      const StageProblem stage{Problem::parse(problem), shape, Stage::scan, Path::sm80};
      EXPECT_FALSE(scan_template().space(stage, {}).empty()) << stage.key();
    }
  }
}

}  // namespace
}  // namespace phitune
