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

/// Where a matrix keeps (row, column), and update_z a row.
std::int64_t row_at(const ScanConfig& c, std::int64_t block, int row) {
  return block * c.rows + (c.cores ? core_position(row, c.p, c.d_tile) : row);
}
std::int64_t element_at(const ScanConfig& c, std::int64_t block, int row, int column) {
  const int columns = c.sum ? c.e + 8 : c.e;
  if (!c.cores) return (block * c.rows + row) * columns + column;
  return block * c.rows * columns + core_element(core_position(row, c.p, c.d_tile), column, columns);
}

/// Everything a scan reads and writes. Canonical states hold [entry][e + 1] per head.
struct Buffers {
  Buffers(const ScanConfig& c, const Tokens& run, std::uint64_t seed)
      : heads(run.b * run.hk),
        chunks(ceil_div(run.t, run.chunk)),
        columns(c.sum ? c.e + 8 : c.e),
        entries(static_cast<int>(tspow::rows(c.d, c.p, 1))),
        gates(Storage::fp32, std::int64_t{heads} * run.t * 2),
        update(c.update, std::int64_t{heads} * chunks * c.rows * columns),
        z(Storage::fp32, std::int64_t{heads} * chunks * c.rows),
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
        if (c.sum && !c.z_in_update) z.set(row_at(c, block, row), from[c.e]);
        if (c.sum && c.z_in_update) update.set(element_at(c, block, row, c.e), from[c.e]);
      }
    }
  }

  [[nodiscard]] double decay(const Tokens& run, int head, int chunk) const {
    const std::int64_t at = 2 * (std::int64_t{head} * run.t + std::min(run.t, (chunk + 1) * run.chunk) - 1);
    return std::exp(gates.at(at) + gates.at(at + 1));
  }

  int heads, chunks, columns, entries;
  Array gates, update, z, state, initial, final;
};

/// What the scan should give: S as [head][chunk][row][e + 1] with the factor applied, final states as [head][entry][e + 1].
struct Expected {
  std::vector<double> states, finals;
};

Expected recurrence(const ScanConfig& c, const Tokens& run, const Buffers& in, double scale) {
  const int width = c.sum ? c.e + 1 : c.e;
  Expected out{std::vector<double>(static_cast<std::size_t>(in.heads) * in.chunks * c.rows * width),
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
  return out;
}

/// S as written, its denominator terms added up.
std::vector<double> written_states(const ScanConfig& c, const Buffers& in, const Array& state) {
  std::vector<double> out;
  for (std::int64_t i = 0; i < std::int64_t{in.heads} * in.chunks * c.rows; ++i) {
    const auto at = [&](int n) { return state.at(element_at(c, i / c.rows, static_cast<int>(i % c.rows), n)); };
    for (int n = 0; n < c.e; ++n) out.push_back(at(n));
    if (!c.sum) continue;
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
  // In place where the pipeline has it so; the NaNs of S beside U show a read of what was not written.
  const Array& state = C.z_in_update ? in.state : in.update;
  Args args;
  args.gates = in.gates.floats(), args.update = in.update.data(), args.update_z = C.z_in_update ? nullptr : in.z.floats();
  args.state = state.data(), args.initial_state = in.initial.floats(), args.final_state = in.final.floats();
  args.b = run.b, args.t = run.t, args.hq = args.hk = run.hk, args.chunk = run.chunk, args.chunks = in.chunks;
  args.scale = static_cast<float>(scale);
  kernel_test::run_on_host(scan_template().launch(problem, config_of(C)), [&] { scan<C>(args); }, {.seed = seed});

  const std::vector<double> states = written_states(C, in, state);
  EXPECT_LT(kernel_test::relative_error(states, expected.states), 1e-5 + (C.state == Storage::bf16 ? largest_rounding(expected.states) : 0));
  if (C.sum) {
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
  check<in_cores(of(2, 2, 32))>(run);
  check<in_cores(of(2, 16, 64))>(run);
  check<in_cores(tuned(256, 4, 4, of(2, 4, 16)))>(run);
  check<in_cores(with_states(true, true, of(2, 8, 16)))>(run);
  check<in_cores(with_states(true, true, plain(of(3, 4, 16))))>(run);
  check<in_cores(with_states(false, true, of(4, 2, 16)))>(run);
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
