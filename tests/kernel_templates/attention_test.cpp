// What the attention kernel computes, on the CPU emulator, against float64; and what its host side says about it.
#include "kernel_templates/sm80/attention.cuh"

#include <gtest/gtest.h>

#include "kernel_templates/sm80/attention.hpp"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::Array;
using kernel_test::dtype_of;
using kernel_test::run_on_host;
using kernel_test::test_seed;

struct Sizes {
  int b = 1, t = 200, hq = 1, hk = 1, chunk = 128;
  bool head_first = false;      // (b, h, t, d)
  double strongest_gate = 0.1;  // log gates are uniform in [-strongest, 0]
  double deviation = 1.0;       // of q and k
};

StageProblem stage_problem(const AttentionConfig& c, const Sizes& n) {
  const Problem problem{.b = n.b,
                        .t = n.t,
                        .hq = n.hq,
                        .hk = n.hk,
                        .d = c.d,
                        .e = c.e,
                        .p = c.p,
                        .dtype = dtype_of(c.input),
                        .gated = c.gated,
                        .normalisation = c.sum ? Normalisation::sum : Normalisation::none,
                        .layout = n.head_first ? Layout::bhtd : Layout::bthd};
  PlanShape shape{.fusion = Fusion::quadratic};
  if (!c.complete) shape = {.fusion = Fusion::expand_mma, .chunk = n.chunk, .partial = dtype_of(c.output)};
  return {problem, shape, Stage::attention, Path::sm80};
}

Config knobs(const AttentionConfig& c) {
  return {{"warps", c.warps},   {"m_tiles", c.m_tiles},         {"key_tile", c.key_tile},
          {"stages", c.stages}, {"q_registers", c.q_registers}, {"min_blocks", 1}};
}

// Random operands of one call, and the float64 answer.
class Case {
 public:
  Case(const AttentionConfig& c, const Sizes& n, std::mt19937_64& rng)
      : c_(c),
        n_(n),
        stage_(stage_problem(c, n)),
        tokens_(std::int64_t{n.b} * n.t),
        q_(c.input, tokens_ * n.hq * c.d),
        k_(c.input, tokens_ * n.hk * c.d),
        v_(c.input, tokens_ * n.hk * c.e),
        y_(c.input, tokens_ * n.hq * c.e),
        partial_(c.output, tokens_ * n.hq * c.e),
        row_sum_(Storage::fp32, tokens_ * n.hq),
        gates_(Storage::fp32, tokens_ * n.hk * 2),
        exact_gates_(static_cast<std::size_t>(tokens_ * n.hk)) {
    q_.fill_normal(rng, n.deviation);
    k_.fill_normal(rng, n.deviation);
    v_.fill_normal(rng);
    fill_gates(rng);
    bind_workspace(args, stage_.problem, workspace_shape(), nullptr);
    args.q = q_.data(), args.k = k_.data(), args.v = v_.data(), args.y = y_.data();
    args.partial = partial_.data(), args.row_sum = c.sum && !c.complete ? row_sum_.floats() : nullptr;
    args.gates = c.gated ? gates_.floats() : nullptr;
  }

  [[nodiscard]] Launch launch() const { return attention_template().launch(stage_, knobs(c_)); }

  // Largest error over what rounding the weights and the result once each may cost; NaN anywhere gives infinity.
  [[nodiscard]] double worst_error() const {
    const double epsilon = c_.input == Storage::bf16 ? 0x1p-8 : 0x1p-11;
    double worst = 0;
    for (int b = 0; b < n_.b; ++b)
      for (int h = 0; h < n_.hq; ++h)
        for (int i = 0; i < n_.t; ++i) worst = std::max(worst, row_error(b, h, i) / epsilon);
    return worst;
  }

  Args args;

 private:
  // bind_workspace wants a whole plan shape; only chunk matters here.
  [[nodiscard]] PlanShape workspace_shape() const {
    PlanShape shape = stage_.shape;
    if (!c_.complete) shape.d_tile = 16;
    return shape;
  }
  [[nodiscard]] int chunk() const { return c_.complete ? n_.t : n_.chunk; }

  void fill_gates(std::mt19937_64& rng) {
    std::uniform_real_distribution<double> log_gate(-n_.strongest_gate, 0.0);
    for (int row = 0; row < n_.b * n_.hk; ++row) {
      double sum = 0;
      for (int i = 0; i < n_.t; ++i) {
        sum = (i % chunk() == 0 ? 0 : sum) + log_gate(rng);
        const auto at = static_cast<std::int64_t>(row) * n_.t + i;
        exact_gates_[static_cast<std::size_t>(at)] = c_.gated ? sum : 0;
        gates_.set(2 * at, sum);
        gates_.set(2 * at + 1, sum - gates_.at(2 * at));
      }
    }
  }

  [[nodiscard]] std::int64_t index(int b, int i, int h, int heads, int width) const {
    return (n_.head_first ? (std::int64_t{b} * heads + h) * n_.t + i : (std::int64_t{b} * n_.t + i) * heads + h) * width;
  }

  [[nodiscard]] double row_error(int b, int h, int i) const {
    const int kv = h / (n_.hq / n_.hk);
    const double* gate = exact_gates_.data() + (static_cast<std::size_t>(b) * n_.hk + kv) * n_.t;
    std::vector<double> sum(static_cast<std::size_t>(c_.e)), noise(static_cast<std::size_t>(c_.e));
    double weights = 0;
    for (int j = i / chunk() * chunk(); j <= i; ++j) {
      double score = 0;
      for (int x = 0; x < c_.d; ++x) score += q_.at(index(b, i, h, n_.hq, c_.d) + x) * k_.at(index(b, j, kv, n_.hk, c_.d) + x);
      const double w = std::pow(score * stage_.problem.scale(), c_.p) * std::exp(gate[i] - gate[j]);
      weights += w;
      for (std::size_t x = 0; x < sum.size(); ++x) {
        const double term = w * v_.at(index(b, j, kv, n_.hk, c_.e) + static_cast<std::int64_t>(x));
        sum[x] += term, noise[x] += term * term;
      }
    }
    const std::int64_t row = (std::int64_t{b} * n_.hq + h) * n_.t + i;
    const double divisor = c_.complete && c_.sum ? weights : 1;
    double worst = 0;
    for (std::size_t x = 0; x < sum.size(); ++x) {
      const auto column = static_cast<std::int64_t>(x);
      const double actual = c_.complete ? y_.at(index(b, i, h, n_.hq, c_.e) + column) : partial_.at(row * c_.e + column);
      const double expected = divisor == 0 ? 0 : sum[x] / divisor;
      const double bound = std::fabs(expected) + (divisor == 0 ? 0 : std::sqrt(noise[x]) / divisor) + 1e-30;
      worst = max_or_infinity(worst, std::fabs(actual - expected) / bound);
    }
    if (c_.sum && !c_.complete) worst = max_or_infinity(worst, std::fabs(row_sum_.at(row) - weights) / (std::fabs(weights) + 1e-30));
    return worst;
  }

  static double max_or_infinity(double a, double b) { return std::isnan(b) ? std::numeric_limits<double>::infinity() : std::max(a, b); }

  AttentionConfig c_;
  Sizes n_;
  StageProblem stage_;
  std::int64_t tokens_;
  Array q_, k_, v_, y_, partial_, row_sum_, gates_;
  std::vector<double> exact_gates_;
};

template <AttentionConfig C>
void check(const std::vector<Sizes>& cases) {
  std::mt19937_64 rng(test_seed());
  for (const Sizes& n : cases) {
    Case run(C, n, rng);
    run_on_host(run.launch(), [&] { attention<C>(run.args); }, {.seed = rng() | 1});
    EXPECT_LT(run.worst_error(), 4.0) << "b" << n.b << " t" << n.t << " hq" << n.hq << " hk" << n.hk << " chunk" << n.chunk;
  }
}

TEST(Attention, PartialOutputsOfRaggedChunksInBf16) {
  check<AttentionConfig{.d = 64, .e = 64, .p = 2, .warps = 4, .m_tiles = 1, .key_tile = 32, .stages = 2}>(
      {{.t = 1}, {.t = 17}, {.t = 200, .chunk = 128}, {.b = 2, .t = 130, .hq = 4, .hk = 2, .chunk = 64}, {.t = 64, .chunk = 256}});
}

TEST(Attention, SeveralTilesBeforeTheDiagonal) {
  check<AttentionConfig{.d = 32, .e = 32, .p = 2, .warps = 4, .m_tiles = 1, .key_tile = 64, .stages = 3}>(
      {{.t = 470, .hq = 2, .chunk = 512, .head_first = true}});
}

TEST(Attention, KeyTileWiderThanTheQueryTile) {
  check<AttentionConfig{.d = 16, .e = 32, .p = 2, .warps = 4, .m_tiles = 1, .key_tile = 128, .stages = 1}>({{.t = 300, .chunk = 320}});
}

TEST(Attention, TwoTilesOfRowsPerWarpAndQueriesReadAgain) {
  check<AttentionConfig{.d = 128, .e = 128, .p = 2, .warps = 4, .m_tiles = 2, .key_tile = 32, .stages = 2, .q_registers = false}>(
      {{.t = 180, .chunk = 192}});
}

TEST(Attention, QuadraticGivesTheNormalisedResult) {
  check<AttentionConfig{.d = 64, .e = 32, .p = 2, .complete = true, .warps = 8, .m_tiles = 1, .key_tile = 64, .stages = 2}>(
      {{.t = 1}, {.b = 2, .t = 300, .hq = 2, .hk = 1}, {.t = 129, .hq = 2, .hk = 2, .head_first = true}});
}

TEST(Attention, QuadraticUngatedWithoutNormalisation) {
  check<AttentionConfig{
      .d = 32, .e = 64, .p = 3, .gated = false, .sum = false, .complete = true, .warps = 4, .m_tiles = 2, .key_tile = 64}>({{.t = 333}});
}

TEST(Attention, Fp16KeepsTheRangeOfWeights) {
  // Scores near 300 to the fourth power are far beyond fp16.
  check<AttentionConfig{
      .d = 64, .e = 16, .p = 4, .input = Storage::fp16, .output = Storage::fp32, .warps = 4, .m_tiles = 2, .key_tile = 32}>(
      {{.t = 150, .chunk = 128, .deviation = 6}});
  check<AttentionConfig{.d = 16, .e = 64, .p = 2, .input = Storage::fp16, .output = Storage::fp16, .complete = true, .key_tile = 64}>(
      {{.t = 200}});
}

TEST(Attention, Bf16WithPartialOutputsInFp32AndDegreeOne) {
  check<AttentionConfig{.d = 64, .e = 64, .p = 1, .output = Storage::fp32, .sum = false, .key_tile = 64}>({{.t = 256, .chunk = 256}});
}

TEST(Attention, StrongGatesNeitherOverflowNorLoseNearTokens) {
  check<AttentionConfig{.d = 32, .e = 32, .p = 2, .warps = 4, .m_tiles = 1, .key_tile = 32}>(
      {{.t = 256, .chunk = 256, .strongest_gate = 100}});
  check<AttentionConfig{.d = 32, .e = 32, .p = 2, .input = Storage::fp16, .output = Storage::fp16, .complete = true, .key_tile = 32}>(
      {{.t = 256, .strongest_gate = 100}, {.t = 200, .strongest_gate = 3}});
}

TEST(Attention, ZeroDenominatorsGiveZeros) {
  constexpr AttentionConfig c{.d = 16, .e = 16, .p = 2, .complete = true, .key_tile = 32};
  std::mt19937_64 rng(test_seed());
  Case run(c, {.t = 40, .deviation = 0}, rng);
  run_on_host(run.launch(), [&] { attention<c>(run.args); });
  EXPECT_EQ(run.worst_error(), 0.0);
}

DeviceInfo h200() {
  DeviceInfo device;
  device.shared_per_block = 227 << 10;
  device.shared_per_multiprocessor = 228 << 10;
  return device;
}

TEST(AttentionTemplate, EveryConfigFitsTheDevice) {
  for (const int width : {16, 64, 128}) {
    const StageProblem s = stage_problem({.d = width, .e = width}, {.t = 4096, .chunk = 1024});
    const Space space = attention_template().space(s, h200());
    ASSERT_FALSE(space.empty());
    for (std::size_t i = 0; i < space.size(); ++i) {
      const Launch launch = attention_template().launch(s, space.at(i));
      EXPECT_LE(launch.dynamic_shared_bytes, h200().shared_per_block);
      EXPECT_EQ(launch.grid[0] * static_cast<std::uint32_t>(space.at(i).at("warps") * space.at(i).at("m_tiles") * 16), 4096u);
    }
  }
}

TEST(AttentionTemplate, ShortProblemsHaveConfigsToo) {
  for (const int t : {1, 16, 65}) EXPECT_FALSE(attention_template().space(stage_problem({}, {.t = t, .chunk = 64}), h200()).empty()) << t;
}

TEST(AttentionTemplate, SourceDependsOnNothingThatIsKnownAtRunTime) {
  const Config config = knobs({});
  const std::string one = attention_template().source(stage_problem({}, {.t = 4096, .chunk = 1024}), config);
  EXPECT_EQ(one,
            attention_template().source(stage_problem({}, {.b = 3, .t = 77, .hq = 4, .hk = 2, .chunk = 64, .head_first = true}), config));
  EXPECT_NE(one, attention_template().source(stage_problem({.p = 4}, {.t = 4096, .chunk = 1024}), config));
}

}  // namespace
}  // namespace phitune
