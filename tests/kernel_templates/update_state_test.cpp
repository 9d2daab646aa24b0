// update_state and update_scan on the CPU emulator against sums in double, and their host side.
#include "kernel_templates/sm80/update_state.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernel_templates/sm80/update_scan.cuh"
#include "kernel_templates/sm80/update_state.cuh"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::Array;
using kernel_test::dtype_of;

DeviceInfo hopper() {
  DeviceInfo device;
  device.compute_capability = 90;
  device.multiprocessors = 132;
  device.shared_per_block = 232448;
  device.shared_per_multiprocessor = 233472;
  return device;
}

/// What a case leaves to choose; rows and shared memory follow from it, and the kernel checks them.
constexpr UpdateStateConfig with_sizes(UpdateStateConfig c) {
  const int copies = c.gated && c.math == Math::bf16 && c.p > 1 ? 2 : 1;
  c.rows = static_cast<int>(tspow::rows(c.d / c.d_tile, c.p, c.d_tile));
  c.shared_bytes = c.token_tile * 2 * (c.stages * (c.d + c.e) + 2 * copies * c.d);
  return c;
}

struct Tokens {
  int b, t, hk, chunk;
  Layout layout = Layout::bthd;
  bool final_state = true;
};

StageProblem stage_problem(const UpdateStateConfig& c, const Tokens& run) {
  Problem problem;
  problem.b = run.b, problem.t = run.t, problem.hq = problem.hk = run.hk;
  problem.d = c.d, problem.e = c.e, problem.p = c.p;
  problem.dtype = dtype_of(c.dtype), problem.gated = c.gated, problem.layout = run.layout, problem.final_state = run.final_state;
  problem.normalisation = c.sum ? Normalisation::sum : Normalisation::none;
  const PlanShape shape{.fusion = Fusion::expand_mma, .chunk = run.chunk, .d_tile = c.d_tile, .state = dtype_of(c.state)};
  return {problem, shape, Stage::update_state, Path::sm80};
}

Config config_of(const UpdateStateConfig& c) {
  return {{"warps", c.warps},   {"m_tiles", c.m_tiles}, {"token_tile", c.token_tile},
          {"stages", c.stages}, {"unroll", c.unroll},   {"min_blocks", 1}};
}

/// Inputs of one run, and the sums they should give.
struct Inputs {
  Inputs(const UpdateStateConfig& c, const Tokens& run, std::uint64_t seed)
      : k(c.dtype, std::int64_t{run.b} * run.t * run.hk * c.d),
        v(c.dtype, std::int64_t{run.b} * run.t * run.hk * c.e),
        gates(Storage::fp32, std::int64_t{run.b} * run.hk * run.t * 2) {
    std::mt19937_64 rng(seed);
    k.fill_normal(rng);
    v.fill_normal(rng);
    std::uniform_real_distribution<double> decay(-0.1, 0.0);
    for (int head = 0; head < run.b * run.hk; ++head) {
      double sum = 0;
      for (int j = 0; j < run.t; ++j) {
        sum = (j % run.chunk == 0 ? 0 : sum) + decay(rng);
        const std::int64_t at = 2 * (std::int64_t{head} * run.t + j);
        const auto hi = static_cast<float>(sum);
        gates.floats()[at] = hi, gates.floats()[at + 1] = static_cast<float>(sum - hi);
      }
    }
  }

  [[nodiscard]] double gate(const Tokens& run, int head, int j) const {
    const std::int64_t at = 2 * (std::int64_t{head} * run.t + j);
    return gates.at(at) + gates.at(at + 1);
  }

  Array k, v, gates;
};

std::int64_t element(const Tokens& run, int b, int j, int h, int width) {
  const std::int64_t token =
      run.layout == Layout::bthd ? (std::int64_t{b} * run.t + j) * run.hk + h : (std::int64_t{b} * run.hk + h) * run.t + j;
  return token * width;
}

Strides strides(const Tokens& run, int width) {
  if (run.layout == Layout::bthd) return {.b = std::int64_t{run.t} * run.hk * width, .t = std::int64_t{run.hk} * width, .h = width};
  return {.b = std::int64_t{run.t} * run.hk * width, .t = width, .h = std::int64_t{run.t} * width};
}

/// U and, in column e, z of one head and chunk: [rows][e + 1].
std::vector<double> expected_update(const UpdateStateConfig& c, const Tokens& run, const Inputs& in, int head, int chunk) {
  std::vector<double> sums(static_cast<std::size_t>(c.rows) * (c.e + 1), 0.0);
  const int b = head / run.hk, h = head % run.hk, begin = chunk * run.chunk, end = std::min(run.t, begin + run.chunk);
  for (int j = begin; j < end; ++j) {
    const double weight = c.gated ? std::exp(in.gate(run, head, end - 1) - in.gate(run, head, j)) : 1.0;
    const std::int64_t k = element(run, b, j, h, c.d), v = element(run, b, j, h, c.e);
    for (int row = 0; row < c.rows; ++row) {
      const tspow::Indices x = tspow::decode(row, c.p, c.d_tile);
      double phi = weight;
      for (int i = 0; i < c.p; ++i) phi *= in.k.at(k + x.i[i]);
      double* out = &sums[static_cast<std::size_t>(row) * (c.e + 1)];
      for (int n = 0; n < c.e; ++n) out[n] += phi * in.v.at(v + n);
      out[c.e] += phi;
    }
  }
  return sums;
}

/// |actual - expected| / |expected|; not a number when any actual is not.
double relative_l2(const std::vector<double>& actual, const std::vector<double>& expected) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

void compare(const UpdateStateConfig& c, const Tokens& run, const Inputs& in, const Array& update, const Array& z, int head, int chunk) {
  const std::vector<double> expected = expected_update(c, run, in, head, chunk);
  const int row_length = c.sum ? c.e + 8 : c.e, chunks = ceil_div(run.t, run.chunk);
  const std::int64_t first = (std::int64_t{head} * chunks + chunk) * c.rows;
  std::vector<double> u, u_expected, z_actual, z_expected;
  for (int row = 0; row < c.rows; ++row) {
    for (int n = 0; n < c.e; ++n) {
      u.push_back(update.at((first + row) * row_length + n));
      u_expected.push_back(expected[static_cast<std::size_t>(row) * (c.e + 1) + n]);
    }
    if (c.sum) z_actual.push_back(z.at(first + row)), z_expected.push_back(expected[static_cast<std::size_t>(row) * (c.e + 1) + c.e]);
  }
  // Up to p + 2 roundings, each of at most 2^-9 (bf16) or 2^-11 (tf32).
  const double bound = c.math == Math::bf16 ? 6e-3 : 1.5e-3;
  EXPECT_LT(relative_l2(u, u_expected), bound) << "U of head " << head << " chunk " << chunk;
  if (c.sum) {
    EXPECT_LT(relative_l2(z_actual, z_expected), bound) << "z of head " << head << " chunk " << chunk;
  }
}

template <UpdateStateConfig Choice>
void check(const Tokens& run) {
  static constexpr UpdateStateConfig C = with_sizes(Choice);
  const std::uint64_t seed = kernel_test::test_seed();
  const StageProblem problem = stage_problem(C, run);
  SCOPED_TRACE(testing::Message() << problem.key() << " " << config_of(C).text() << " seed " << seed);
  const auto why_not = update_state_template().space(problem, hopper()).why_not(config_of(C));
  EXPECT_FALSE(why_not.has_value()) << *why_not;

  const Inputs in(C, run, seed);
  const int chunks = ceil_div(run.t, run.chunk);
  const std::int64_t rows = std::int64_t{run.b} * run.hk * chunks * C.rows;
  Array update(C.state, rows * (C.sum ? C.e + 8 : C.e)), z(Storage::fp32, rows);
  Args args;
  args.k = in.k.data(), args.v = in.v.data(), args.gates = in.gates.floats(), args.update = update.data(), args.update_z = z.floats();
  args.k_strides = strides(run, C.d), args.v_strides = strides(run, C.e);
  args.b = run.b, args.t = run.t, args.hq = args.hk = run.hk, args.chunk = run.chunk, args.chunks = chunks;
  kernel_test::run_on_host(update_state_template().launch(problem, config_of(C)), [&] { update_state<C>(args); }, {.seed = seed});

  const int written = run.final_state ? chunks : std::max(1, chunks - 1);
  for (int head = 0; head < run.b * run.hk; ++head)
    for (int chunk = 0; chunk < written; ++chunk) compare(C, run, in, update, z, head, chunk);
}

constexpr UpdateStateConfig bf16_gated{.d = 16,
                                       .e = 16,
                                       .p = 2,
                                       .d_tile = 8,
                                       .rows = 0,
                                       .shared_bytes = 0,
                                       .dtype = Storage::bf16,
                                       .math = Math::bf16,
                                       .state = Storage::bf16,
                                       .gated = true,
                                       .sum = true,
                                       .warps = 4,
                                       .m_tiles = 1,
                                       .token_tile = 32,
                                       .stages = 2,
                                       .unroll = 32};

constexpr UpdateStateConfig varied(UpdateStateConfig c, int d, int e, int p, int d_tile) {
  c.d = d, c.e = e, c.p = p, c.d_tile = d_tile;
  return c;
}
constexpr UpdateStateConfig tuned(UpdateStateConfig c, int warps, int m_tiles, int token_tile, int stages, int unroll) {
  c.warps = warps, c.m_tiles = m_tiles, c.token_tile = token_tile, c.stages = stages, c.unroll = unroll;
  return c;
}
constexpr UpdateStateConfig ungated(UpdateStateConfig c) {
  c.gated = false;
  return c;
}
constexpr UpdateStateConfig unnormalised(UpdateStateConfig c) {
  c.sum = false;
  return c;
}
constexpr UpdateStateConfig fp32_state(UpdateStateConfig c, Storage dtype) {
  c.dtype = dtype, c.state = Storage::fp32, c.math = Math::tf32;
  return c;
}

TEST(UpdateState, HeadlineConfig) {
  check<tuned(varied(bf16_gated, 64, 64, 2, 8), 8, 4, 64, 3, 32)>({.b = 1, .t = 300, .hk = 1, .chunk = 256});
  check<tuned(varied(bf16_gated, 64, 64, 2, 16), 4, 2, 64, 2, 64)>({.b = 1, .t = 130, .hk = 1, .chunk = 64, .final_state = false});
}

// Every way in which the rows of a warp share factors: widths by tiles per warp.
TEST(UpdateState, RowsOfEveryWidthAndTileCount) {
  const Tokens run{.b = 1, .t = 100, .hk = 2, .chunk = 64};
  check<tuned(varied(bf16_gated, 16, 16, 2, 2), 4, 1, 32, 2, 32)>(run);
  check<tuned(varied(bf16_gated, 32, 16, 2, 2), 6, 2, 64, 2, 32)>(run);
  check<tuned(varied(bf16_gated, 32, 16, 2, 4), 4, 1, 64, 2, 64)>(run);
  check<tuned(varied(bf16_gated, 32, 32, 2, 4), 4, 4, 64, 2, 32)>(run);
  check<tuned(varied(bf16_gated, 32, 16, 2, 8), 4, 2, 32, 2, 32)>(run);
  check<tuned(varied(bf16_gated, 32, 16, 2, 16), 6, 4, 32, 2, 32)>(run);
  check<tuned(varied(bf16_gated, 32, 16, 2, 16), 4, 1, 64, 2, 32)>(run);
}

TEST(UpdateState, EveryDegree) {
  const Tokens run{.b = 1, .t = 40, .hk = 1, .chunk = 64};
  check<unnormalised(tuned(varied(bf16_gated, 64, 16, 1, 16), 4, 1, 32, 2, 32))>(run);
  check<unnormalised(tuned(varied(bf16_gated, 128, 32, 1, 16), 4, 2, 32, 2, 32))>(run);
  check<unnormalised(tuned(varied(bf16_gated, 16, 16, 3, 2), 4, 2, 32, 2, 32))>(run);
  check<unnormalised(tuned(varied(bf16_gated, 16, 16, 3, 4), 4, 4, 32, 2, 32))>(run);
  check<unnormalised(tuned(varied(bf16_gated, 16, 16, 3, 8), 8, 4, 32, 2, 32))>(run);
  check<tuned(varied(bf16_gated, 16, 16, 4, 2), 4, 4, 32, 2, 32)>(run);
  check<tuned(varied(bf16_gated, 16, 16, 4, 2), 4, 1, 32, 2, 32)>(run);
  check<tuned(varied(bf16_gated, 16, 16, 4, 4), 8, 2, 32, 2, 32)>(run);
}

TEST(UpdateState, Fp16AndFp32States) {
  const Tokens run{.b = 1, .t = 150, .hk = 2, .chunk = 128};
  check<fp32_state(tuned(varied(bf16_gated, 32, 32, 2, 8), 4, 2, 128, 2, 64), Storage::fp16)>(run);
  check<fp32_state(tuned(varied(bf16_gated, 32, 16, 2, 2), 4, 2, 64, 2, 64), Storage::fp16)>(run);
  check<ungated(fp32_state(tuned(varied(bf16_gated, 32, 16, 2, 16), 4, 1, 32, 3, 32), Storage::fp16))>(run);
  check<fp32_state(tuned(varied(bf16_gated, 16, 64, 2, 4), 4, 1, 64, 2, 64), Storage::bf16)>(run);
  check<unnormalised(fp32_state(tuned(varied(bf16_gated, 16, 16, 3, 4), 4, 2, 32, 2, 32), Storage::bf16))>(run);
}

TEST(UpdateState, WidthsAndLayouts) {
  check<tuned(varied(bf16_gated, 16, 128, 2, 8), 4, 1, 64, 2, 32)>({.b = 2, .t = 70, .hk = 2, .chunk = 64, .layout = Layout::bhtd});
  check<tuned(varied(bf16_gated, 128, 16, 2, 8), 6, 4, 32, 2, 32)>({.b = 1, .t = 33, .hk = 1, .chunk = 64, .layout = Layout::bhtd});
  check<ungated(tuned(varied(bf16_gated, 32, 16, 2, 8), 4, 2, 64, 4, 32))>({.b = 2, .t = 517, .hk = 1, .chunk = 256});
}

TEST(UpdateState, FewTokens) {
  for (const int t : {1, 2, 31, 32, 33, 64, 65}) {
    check<bf16_gated>({.b = 1, .t = t, .hk = 1, .chunk = 64});
    check<ungated(bf16_gated)>({.b = 1, .t = t, .hk = 1, .chunk = 64, .final_state = false});
  }
}

constexpr UpdateStateConfig scanning(UpdateStateConfig c) {
  c.scans = c.initial_state = c.final_state = true;
  return c;
}

// Sums of whole numbers are exact as long as they are kept in fp32: those of all chunks, and the terms of denominators, which need more
// digits than one of their columns has.
template <UpdateStateConfig Choice>
void check_whole_numbers(const Tokens& run) {
  static constexpr UpdateStateConfig C = with_sizes(Choice);
  std::mt19937_64 rng(kernel_test::test_seed());
  const auto draw = [&rng](int most) { return std::uniform_int_distribution<int>(-most, most)(rng); };
  StageProblem problem = stage_problem(C, run);
  problem.stage = Stage::update_scan, problem.problem.initial_state = true;
  SCOPED_TRACE(testing::Message() << problem.key() << " " << config_of(C).text());
  Inputs in(C, run, 0);
  in.k.fill([&] { return draw(2); });
  in.v.fill([&] { return draw(2); });
  const int chunks = ceil_div(run.t, run.chunk), heads = run.b * run.hk, columns = C.e + 8;
  const std::int64_t monomials = tspow::rows(C.d, C.p, 1);
  Array initial(Storage::fp32, heads * monomials * (C.e + 1)), final(Storage::fp32, initial.size());
  initial.fill([&] { return draw(100000); });
  Array state(C.state, std::int64_t{heads} * chunks * C.rows * columns), rounded(C.state, 1);
  Args args;
  args.k = in.k.data(), args.v = in.v.data(), args.state = state.data();
  args.initial_state = initial.floats(), args.final_state = final.floats();
  args.k_strides = strides(run, C.d), args.v_strides = strides(run, C.e);
  args.b = run.b, args.t = run.t, args.hq = args.hk = run.hk, args.chunk = run.chunk, args.chunks = chunks;
  kernel_test::run_on_host(update_state_template().launch(problem, config_of(C)), [&] { update_scan<C>(args); }, {});

  for (int head = 0; head < heads; ++head) {
    std::vector<std::vector<double>> updates;
    for (int chunk = 0; chunk < chunks; ++chunk) updates.push_back(expected_update(C, run, in, head, chunk));
    for (int row = 0; row < C.rows; ++row) {
      const tspow::Indices x = tspow::decode(row, C.p, C.d_tile);
      const int multiplicity = tspow::multiplicity(x, C.p, C.d_tile);
      const std::int64_t canonical = (head * monomials + tspow::exact_index(x, C.p)) * (C.e + 1);
      for (int n = 0; n <= C.e; ++n) {
        double sum = initial.at(canonical + n);
        for (int chunk = 0; chunk < chunks; ++chunk) {
          const std::int64_t at = ((std::int64_t{head} * chunks + chunk) * C.rows + row) * columns + n;
          if (n < C.e) {
            rounded.set(0, sum * multiplicity);
            ASSERT_EQ(state.at(at), rounded.at(0)) << "row " << row << " column " << n << " of chunk " << chunk;
          } else {
            double terms = 0;
            for (int i = 0; i < 8; ++i) terms += state.at(at + i);
            ASSERT_EQ(terms, sum * multiplicity) << "denominator of row " << row << " of chunk " << chunk;
          }
          sum += updates[static_cast<std::size_t>(chunk)][static_cast<std::size_t>(row) * (C.e + 1) + static_cast<std::size_t>(n)];
        }
        ASSERT_EQ(final.at(canonical + n), sum) << "row " << row << " column " << n;
      }
    }
  }
}

TEST(UpdateScan, SumsOfWholeNumbersAreExact) {
  constexpr UpdateStateConfig scans = scanning(ungated(bf16_gated));
  check_whole_numbers<scans>({.b = 1, .t = 600, .hk = 2, .chunk = 256});
  check_whole_numbers<tuned(varied(scans, 32, 32, 2, 2), 4, 2, 64, 3, 32)>(
      {.b = 2, .t = 210, .hk = 1, .chunk = 100, .layout = Layout::bhtd});
  check_whole_numbers<fp32_state(tuned(varied(scans, 16, 16, 2, 4), 4, 1, 64, 2, 64), Storage::fp16)>(
      {.b = 1, .t = 300, .hk = 1, .chunk = 64});
}

TEST(UpdateStateSpace, HoldsTheHeadlineAndNamesWhatItPrunes) {
  const StageProblem problem =
      StageProblem::parse("update_state sm80 | expand_mma c1024 d_tile8 state_bf16 partial_bf16 | b1 t65536 h8 d64 p2 bf16 gated");
  const Space space = update_state_template().space(problem, hopper());
  EXPECT_GT(space.size(), 50u);
  const auto registers =
      space.why_not({{"warps", 8}, {"m_tiles", 4}, {"token_tile", 64}, {"stages", 3}, {"unroll", 32}, {"min_blocks", 2}});
  ASSERT_TRUE(registers.has_value());
  EXPECT_NE(registers->find("registers"), std::string::npos) << *registers;
}

// A block of update_scan has all chunks of its head, and weights of a few tiles at a time, however long the chunks are.
TEST(UpdateStateSpace, ScanningBlocksAreThoseOfAHeadsRows) {
  StageProblem problem =
      StageProblem::parse("update_scan sm80 | update_scan c4096 d_tile8 state_bf16 partial_bf16 | b1 t65536 h8 d64 p2 bf16 gated");
  const Config config{{"warps", 4}, {"m_tiles", 2}, {"token_tile", 64}, {"stages", 3}, {"unroll", 32}, {"min_blocks", 1}};
  const Launch scanning = update_state_template().launch(problem, config);
  EXPECT_EQ(scanning.grid[0], 2304u / 128);
  EXPECT_EQ(scanning.grid[1], 8u);
  const std::string source = update_state_template().source(problem, config);
  EXPECT_NE(source.find("phitune::update_scan<"), std::string::npos);
  EXPECT_NE(source.find(".initial_state = false, .final_state = false"), std::string::npos);
  problem.stage = Stage::update_state;
  const Launch updating = update_state_template().launch(problem, config);
  EXPECT_EQ(updating.grid[0], 2304u / 128 * 15);
  EXPECT_EQ(updating.dynamic_shared_bytes - scanning.dynamic_shared_bytes, (4096 - 4 * 64) * 4u);
}

TEST(UpdateStateSpace, NeverEmptyForASupportedProblem) {
  for (const char* problem : {"b1 t65536 h8 d64 p2 bf16 gated", "b1 t1 h1 d16 p2 bf16", "b1 t65536 h8 d64 p1 bf16 gated none",
                              "b1 t100 h1 d128 e128 p2 fp16 gated", "b1 t65536 h8 d32 p4 bf16 gated", "b1 t1000 h8 d64 p3 bf16 none"}) {
    for (const PlanShape& shape : plan_shapes(Problem::parse(problem)).shapes) {
      if (shape.fusion != Fusion::expand_mma) continue;
      for (const Stage kind : {Stage::update_state, Stage::update_scan}) {
        const StageProblem stage{Problem::parse(problem), shape, kind, Path::sm80};
        EXPECT_FALSE(update_state_template().space(stage, hopper()).empty()) << stage.key();
      }
    }
  }
}

}  // namespace
}  // namespace phitune
