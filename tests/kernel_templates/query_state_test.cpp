// What the query_state kernel computes, on the CPU emulator, against float64.
#include "kernel_templates/sm80/query_state.cuh"

#include <gtest/gtest.h>

#include "kernel_templates/sm80/query_state.hpp"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::Array;
using kernel_test::dtype_of;
using kernel_test::run_on_host;
using kernel_test::test_seed;

struct Sizes {
  int b = 1, t = 96, hq = 1, hk = 1, chunk = 64;
  bool initial_state = false;
  bool head_first = false;  // (b, h, t, d)
};

StageProblem stage_problem(const QueryStateConfig& c, const Sizes& n) {
  const Problem problem{.b = n.b,
                        .t = n.t,
                        .hq = n.hq,
                        .hk = n.hk,
                        .d = c.d,
                        .e = c.e,
                        .p = c.p,
                        .dtype = dtype_of(c.input),
                        .gated = c.gated,
                        .normalisation = c.normalised ? Normalisation::sum : Normalisation::none,
                        .layout = n.head_first ? Layout::bhtd : Layout::bthd,
                        .initial_state = n.initial_state};
  const PlanShape shape{.chunk = n.chunk, .d_tile = c.d_tile, .state = dtype_of(c.state), .partial = dtype_of(c.partial)};
  return {problem, shape, Stage::query_state, Path::sm80};
}

// Random operands of one call and what it should compute from them.
class Case {
 public:
  Case(const QueryStateConfig& c, const Sizes& n, std::mt19937_64& rng)
      : c_(c),
        n_(n),
        rows_(tspow::rows(c.d / c.d_tile, c.p, c.d_tile)),
        columns_(c.e + (c.normalised ? 8 : 0)),
        chunks_((n.t + n.chunk - 1) / n.chunk),
        q_(c.input, std::int64_t{n.b} * n.t * n.hq * c.d),
        y_(c.input, std::int64_t{n.b} * n.t * n.hq * c.e),
        partial_(c.partial, std::int64_t{n.b} * n.hq * n.t * c.e),
        row_sum_(Storage::fp32, std::int64_t{n.b} * n.hq * n.t),
        gates_(Storage::fp32, std::int64_t{n.b} * n.hk * n.t * 2),
        state_(c.state, std::int64_t{n.b} * n.hk * chunks_ * rows_ * columns_),
        initial_(Storage::fp32, 1) {
    // Uniform, so that no few rows of a high degree decide the error.
    std::uniform_real_distribution<double> feature(-1.7, 1.7);
    q_.fill([&] { return feature(rng); });
    partial_.fill_normal(rng, 10.0);
    fill_state(rng);
    std::uniform_real_distribution<double> step(-0.2, 0.0), tiny(-1e-6, 1e-6), positive(1.0, 2.0);
    // Large enough to keep the denominators away from zero, small enough for z to matter.
    row_sum_.fill([&] { return positive(rng) * 10.0 * std::sqrt(static_cast<double>(rows_)); });
    double gate = 0;
    for (std::int64_t i = 0; i < gates_.size() / 2; ++i) {
      gate = i % n.t % n.chunk == 0 ? step(rng) : gate + step(rng);
      gates_.set(2 * i, gate);
      gates_.set(2 * i + 1, tiny(rng));
    }
  }

  Args args() {
    Args a;
    a.q = q_.data(), a.y = y_.data(), a.partial = partial_.data(), a.state = state_.data();
    a.row_sum = c_.normalised ? row_sum_.floats() : nullptr;
    a.gates = c_.gated ? gates_.floats() : nullptr;
    a.initial_state = n_.initial_state ? initial_.floats() : nullptr;
    a.q_strides = strides(c_.d), a.y_strides = strides(c_.e);
    a.b = n_.b, a.t = n_.t, a.hq = n_.hq, a.hk = n_.hk, a.chunk = n_.chunk, a.chunks = static_cast<int>(chunks_);
    return a;
  }

  std::vector<double> expected() const {
    std::vector<double> out(static_cast<std::size_t>(y_.size()));
    for (int b = 0; b < n_.b; ++b)
      for (int h = 0; h < n_.hq; ++h)
        for (int t = 0; t < n_.t; ++t) expect_row(out, b, h, t);
    return out;
  }

  [[nodiscard]] const Array& y() const { return y_; }
  void zero_row(int b, int h, int t) {
    for (int i = 0; i < c_.d; ++i) q_.set(offset(b, h, t, c_.d) + i, 0.0);
    row_sum_.set((std::int64_t{b} * n_.hq + h) * n_.t + t, 0.0);
    for (int i = 0; i < c_.e; ++i) partial_.set(((std::int64_t{b} * n_.hq + h) * n_.t + t) * c_.e + i, 0.0);
  }
  [[nodiscard]] std::int64_t offset(int b, int h, int t, int width) const {
    const Strides s = strides(width);
    return b * s.b + h * s.h + t * s.t;
  }

 private:
  [[nodiscard]] Strides strides(int width) const {
    if (n_.head_first) return {.b = std::int64_t{n_.hq} * n_.t * width, .t = width, .h = std::int64_t{n_.t} * width};
    return {.b = std::int64_t{n_.t} * n_.hq * width, .t = std::int64_t{n_.hq} * width, .h = width};
  }

  // The denominator is the sum of all columns from e on, however scan spreads it. The first chunk's states stay NaN unless they are to be
  // read.
  void fill_state(std::mt19937_64& rng) {
    std::normal_distribution<double> normal;
    for (std::int64_t i = 0; i < state_.size(); ++i) {
      const std::int64_t chunk = i / (rows_ * columns_) % chunks_;
      if (chunk == 0 && !n_.initial_state) continue;
      state_.set(i, normal(rng));
    }
  }

  void expect_row(std::vector<double>& out, int b, int h, int t) const {
    const int kv = h / (n_.hq / n_.hk);
    const std::int64_t chunk = t / n_.chunk;
    const std::int64_t row = (std::int64_t{b} * n_.hq + h) * n_.t + t;
    std::vector<double> sums(static_cast<std::size_t>(columns_));
    if (chunk > 0 || n_.initial_state) {
      for (int r = 0; r < rows_; ++r) {
        const tspow::Indices x = tspow::decode(r, c_.p, c_.d_tile);
        double phi = 1;
        for (int k = 0; k < c_.p; ++k) phi *= q_.at(offset(b, h, t, c_.d) + x.i[k]);
        const std::int64_t at = (((std::int64_t{b} * n_.hk + kv) * chunks_ + chunk) * rows_ + r) * columns_;
        for (std::int64_t i = 0; i < columns_; ++i) sums[static_cast<std::size_t>(i)] += phi * state_.at(at + i);
      }
    }
    const std::int64_t gate = ((std::int64_t{b} * n_.hk + kv) * n_.t + t) * 2;
    const double factor = c_.gated ? std::exp(gates_.at(gate) + gates_.at(gate + 1)) : 1.0;
    double denominator = 1;
    if (c_.normalised) {
      denominator = row_sum_.at(row);
      for (int i = c_.e; i < columns_; ++i) denominator += factor * sums[static_cast<std::size_t>(i)];
    }
    for (int i = 0; i < c_.e; ++i) {
      const double numerator = partial_.at(row * c_.e + i) + factor * sums[static_cast<std::size_t>(i)];
      out[static_cast<std::size_t>(offset(b, h, t, c_.e) + i)] = denominator == 0 ? 0 : numerator / denominator;
    }
  }

  QueryStateConfig c_;
  Sizes n_;
  std::int64_t rows_, columns_, chunks_;
  Array q_, y_, partial_, row_sum_, gates_, state_, initial_;
};

Config config_of(const QueryStateConfig& c) {
  return {{"warps", c.warps}, {"m_tiles", c.m_tiles}, {"steps", c.steps}, {"stages", c.stages}, {"min_blocks", 1}};
}

double relative_l2(const std::vector<double>& actual, const std::vector<double>& expected) {
  double errors = 0, squares = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    errors += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    squares += expected[i] * expected[i];
  }
  return std::sqrt(errors / squares);
}

// p roundings of 2^-9 and one of y, or one of y alone. One wrong row of D <= 5280 would give at least sqrt(2 / D) = 2e-2.
double tolerance(const QueryStateConfig& c) { return c.state == Storage::bf16 ? 6e-3 : c.input == Storage::bf16 ? 3e-3 : 8e-4; }

template <QueryStateConfig C>
void check(const Sizes& n, bool zero_first_row = false) {
  std::mt19937_64 rng(test_seed());
  Case data(C, n, rng);
  if (zero_first_row) data.zero_row(0, 0, 0);
  const Launch launch = query_state_template().launch(stage_problem(C, n), config_of(C));
  ASSERT_EQ(launch.block[0], static_cast<unsigned>(C.warps * 32));
  const Args args = data.args();
  // Warps and lanes in a random order: a barrier that is missing shows.
  run_on_host(launch, [&args] { query_state<C>(args); }, {.seed = test_seed()});
  EXPECT_LT(relative_l2(data.y().values(), data.expected()), tolerance(C));
  if (zero_first_row) {
    EXPECT_EQ(data.y().at(data.offset(0, 0, 0, C.e)), 0.0);
  }
}

constexpr QueryStateConfig base{.d = 32,
                                .e = 32,
                                .p = 2,
                                .d_tile = 8,
                                .input = Storage::bf16,
                                .state = Storage::bf16,
                                .partial = Storage::bf16,
                                .gated = true,
                                .normalised = true,
                                .warps = 4,
                                .m_tiles = 1,
                                .steps = 4,
                                .stages = 2};

template <class Change>
constexpr QueryStateConfig with(Change change) {
  QueryStateConfig c = base;
  change(c);
  return c;
}

constexpr QueryStateConfig degree(int p, int d, int d_tile, int steps, Storage state = Storage::bf16) {
  return with([=](QueryStateConfig& c) { c.p = p, c.d = d, c.d_tile = d_tile, c.steps = steps, c.e = 16, c.state = state; });
}

TEST(QueryState, EveryTileWidthOfDegreeTwo) {
  check<degree(2, 32, 2, 2)>({});
  check<degree(2, 32, 4, 2)>({});
  check<degree(2, 32, 8, 4)>({});
  check<degree(2, 32, 16, 8)>({});
}

TEST(QueryState, EveryTileWidthOfDegreeThree) {
  check<degree(3, 16, 2, 2)>({});
  check<degree(3, 16, 4, 4)>({});
  check<degree(3, 16, 8, 8)>({});
  check<degree(3, 16, 16, 8)>({});
}

TEST(QueryState, EveryTileWidthOfDegreeFour) {
  check<degree(4, 16, 2, 8)>({});
  check<degree(4, 16, 4, 8)>({});
  check<degree(4, 16, 8, 8)>({});
}

TEST(QueryState, DegreeOne) {
  check<degree(1, 64, 16, 2)>({});
  check<degree(1, 16, 16, 2)>({});
  check<degree(1, 128, 16, 4, Storage::fp32)>({});
}

TEST(QueryState, Fp32StateInTf32) {
  check<degree(2, 32, 8, 4, Storage::fp32)>({});
  check<degree(2, 32, 2, 2, Storage::fp32)>({});
  check<degree(3, 16, 4, 4, Storage::fp32)>({});
  check<with([](QueryStateConfig& c) { c.input = Storage::fp16, c.state = c.partial = Storage::fp32; })>({});
  check<with([](QueryStateConfig& c) { c.input = Storage::fp16, c.state = c.partial = Storage::fp32, c.normalised = false; })>({});
}

TEST(QueryState, WidthsThatDiffer) {
  check<with([](QueryStateConfig& c) { c.d = 16, c.e = 128; })>({});
  check<with([](QueryStateConfig& c) { c.d = 128, c.e = 16; })>({});
}

TEST(QueryState, SeveralTilesStagesAndWarps) {
  check<with([](QueryStateConfig& c) { c.m_tiles = 2, c.stages = 3, c.steps = 8; })>({.t = 300, .chunk = 128});
  check<with([](QueryStateConfig& c) { c.m_tiles = 4, c.stages = 4, c.d = 64; })>({.t = 300, .chunk = 256});
  check<with([](QueryStateConfig& c) { c.warps = 8, c.stages = 4; })>({.t = 300, .chunk = 128});
}

// D = 2304 rows is 36 groups of 4 steps: with 8 steps per stage of d_tile 8 all stages are whole, with d = 48 (D = 1344) the last is not.
TEST(QueryState, LastStageIsPartial) {
  check<with([](QueryStateConfig& c) { c.d = 48, c.steps = 8, c.stages = 3; })>({});
}

TEST(QueryState, UngatedAndUnnormalised) {
  check<with([](QueryStateConfig& c) { c.gated = false; })>({});
  check<with([](QueryStateConfig& c) { c.normalised = false; })>({});
  check<with([](QueryStateConfig& c) { c.gated = c.normalised = false, c.partial = Storage::fp32; })>({});
}

TEST(QueryState, RaggedTokensHeadsAndLayouts) {
  check<base>({.t = 1});
  check<base>({.t = 65});
  check<base>({.b = 2, .t = 150, .hq = 6, .hk = 2});
  check<base>({.b = 2, .t = 150, .hq = 2, .hk = 2, .head_first = true});
}

TEST(QueryState, InitialStateReachesTheFirstChunk) { check<base>({.t = 70, .initial_state = true}); }

TEST(QueryState, ZeroDenominatorGivesZero) { check<base>({.initial_state = true}, true); }

TEST(QueryState, EveryRowOfAGroupHasItsOwnPlace) {
  for (const int d_tile : {2, 4, 8, 16}) {
    std::vector<bool> taken(static_cast<std::size_t>(8 * d_tile));
    for (int row = 0; row < 8 * d_tile; ++row) {
      const int position = state_product_position(row, 2, d_tile);
      ASSERT_LT(position, 8 * d_tile);
      EXPECT_FALSE(taken[static_cast<std::size_t>(position)]) << "d_tile " << d_tile << " row " << row;
      taken[static_cast<std::size_t>(position)] = true;
    }
  }
}

DeviceInfo h200() {
  DeviceInfo device;
  device.name = "NVIDIA H200";
  device.shared_per_block = 227 * 1024;
  device.shared_per_multiprocessor = 228 * 1024;
  return device;
}

TEST(QueryState, SpaceOffersConfigsForEverySupportedProblemAndSaysWhatItRemoved) {
  for (const auto& [p, widest] : {std::pair{1, 128}, {2, 128}, {3, 64}, {4, 32}}) {
    for (int d = 16; d <= widest; d *= 2) {
      for (int d_tile = 2; d_tile <= 16; d_tile *= 2) {
        if (p == 1 && d_tile != 16) continue;
        for (const Storage state : {Storage::bf16, Storage::fp32}) {
          QueryStateConfig c = degree(p, d, d_tile, 8, state);
          c.e = 128;
          const Space space = query_state_template().space(stage_problem(c, {.t = 4096, .chunk = 1024}), h200());
          EXPECT_FALSE(space.empty()) << "p " << p << " d " << d << " d_tile " << d_tile;
          for (const auto& removal : space.removals()) EXPECT_FALSE(removal.reason.empty());
        }
      }
    }
  }
}

}  // namespace
}  // namespace phitune
