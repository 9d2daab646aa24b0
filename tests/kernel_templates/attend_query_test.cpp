// What the attend_query kernel of the path sm80 computes, on the CPU emulator, against float64; and what its host side says about it.
#include "kernel_templates/sm80/attend_query.cuh"

#include <gtest/gtest.h>

#include "kernel_templates/sm80/attend_query.hpp"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::Array;
using kernel_test::dtype_of;
using kernel_test::run_on_host;
using kernel_test::test_seed;

struct Sizes {
  int b = 1, t = 200, hq = 1, hk = 1, chunk = 128;
  bool initial_state = false;
  bool head_first = false;      // (b, h, t, d)
  double strongest_gate = 0.1;  // log gates are uniform in [-strongest, 0]
};

StageProblem stage_problem(const AttendQueryConfig& c, const Sizes& n) {
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
  const PlanShape shape{.fusion = Fusion::attend_query, .chunk = n.chunk, .d_tile = c.d_tile, .state = dtype_of(c.state)};
  return {problem, shape, Stage::attend_query, Path::sm80};
}

Config knobs(const AttendQueryConfig& c) {
  return {{"warps", c.warps},           {"m_tiles", c.m_tiles},         {"steps", c.steps}, {"stages", c.stages}, {"key_tile", c.key_tile},
          {"key_stages", c.key_stages}, {"q_registers", c.q_registers}, {"min_blocks", 1}};
}

// Random operands of one call, and the float64 answer. The first chunk's state stays NaN unless it is to be read.
class Case {
 public:
  Case(const AttendQueryConfig& c, const Sizes& n, std::mt19937_64& rng)
      : c_(c),
        n_(n),
        stage_(stage_problem(c, n)),
        rows_(stage_.rows()),
        columns_(c.e + (c.normalised ? 8 : 0)),
        tokens_(std::int64_t{n.b} * n.t),
        q_(c.input, tokens_ * n.hq * c.d),
        k_(c.input, tokens_ * n.hk * c.d),
        v_(c.input, tokens_ * n.hk * c.e),
        y_(c.input, tokens_ * n.hq * c.e),
        gates_(Storage::fp32, tokens_ * n.hk * 2),
        state_(c.state, std::int64_t{n.b} * n.hk * stage_.chunks() * rows_ * columns_),
        initial_(Storage::fp32, 1),
        exact_gates_(static_cast<std::size_t>(tokens_ * n.hk)) {
    // Uniform, so that no few rows of a high degree decide the error.
    std::uniform_real_distribution<double> feature(-1.7, 1.7);
    q_.fill([&] { return feature(rng); });
    k_.fill([&] { return feature(rng); });
    v_.fill_normal(rng);
    fill_gates(rng);
    fill_state(rng);
    bind_workspace(args, stage_.problem, stage_.shape, nullptr);
    args.q = q_.data(), args.k = k_.data(), args.v = v_.data(), args.y = y_.data(), args.state = state_.data();
    args.gates = c.gated ? gates_.floats() : nullptr;
    args.initial_state = n.initial_state ? initial_.floats() : nullptr;
  }

  [[nodiscard]] Launch launch() const { return attend_query_template().launch(stage_, knobs(c_)); }
  void zero_queries() {
    q_.fill([] { return 0.0; });
  }
  [[nodiscard]] std::vector<double> results() const { return y_.values(); }

  // Relative error of all of y; infinite where a result is not a number.
  [[nodiscard]] double error() const {
    double errors = 0, squares = 0;
    for (int b = 0; b < n_.b; ++b)
      for (int h = 0; h < n_.hq; ++h)
        for (int i = 0; i < n_.t; ++i) {
          const std::vector<double> expected = row(b, h, i);
          for (int x = 0; x < c_.e; ++x) {
            const double value = expected[static_cast<std::size_t>(x)], off = y_.at(index(b, i, h, n_.hq, c_.e) + x) - value;
            errors += off * off, squares += value * value;
          }
        }
    return std::isnan(errors) ? std::numeric_limits<double>::infinity() : std::sqrt(errors / squares);
  }

  Args args;

 private:
  void fill_gates(std::mt19937_64& rng) {
    std::uniform_real_distribution<double> log_gate(-n_.strongest_gate, 0.0);
    for (std::int64_t at = 0; at < tokens_ * n_.hk; ++at) {
      const double before = at % n_.t % n_.chunk == 0 ? 0 : exact_gates_[static_cast<std::size_t>(at - 1)];
      const double sum = c_.gated ? before + log_gate(rng) : 0;
      exact_gates_[static_cast<std::size_t>(at)] = sum;
      gates_.set(2 * at, sum);
      gates_.set(2 * at + 1, sum - gates_.at(2 * at));
    }
  }

  // Values as large as what a few hundred keys leave. Denominators are positive for every query: multiplicities of squares, no others.
  void fill_state(std::mt19937_64& rng) {
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> part(0.5, 1.0);
    const double size = 10 * std::pow(stage_.problem.scale(), c_.p);
    for (std::int64_t i = 0; i < state_.size(); ++i) {
      const std::int64_t chunk = i / (rows_ * columns_) % stage_.chunks(), column = i % columns_;
      if (chunk == 0 && !n_.initial_state) continue;
      const tspow::Indices x = tspow::decode(static_cast<int>(i / columns_ % rows_), c_.p, c_.d_tile);
      const bool square = c_.p % 2 == 0 && x.i[0] == x.i[1] && (c_.p == 2 || x.i[2] == x.i[3]);
      state_.set(i, column < c_.e ? size * normal(rng) : square ? 20 * size * part(rng) : 0.0);
    }
  }

  [[nodiscard]] std::int64_t index(int b, int i, int h, int heads, int width) const {
    return (n_.head_first ? (std::int64_t{b} * heads + h) * n_.t + i : (std::int64_t{b} * n_.t + i) * heads + h) * width;
  }

  [[nodiscard]] std::vector<double> row(int b, int h, int i) const {
    const int kv = h / (n_.hq / n_.hk), chunk = i / n_.chunk;
    const double* gate = exact_gates_.data() + (static_cast<std::size_t>(b) * n_.hk + kv) * n_.t;
    std::vector<double> out(static_cast<std::size_t>(c_.e));
    double denominator = 0;
    for (int j = chunk * n_.chunk; j <= i; ++j) {
      double score = 0;
      for (int x = 0; x < c_.d; ++x) score += q_.at(index(b, i, h, n_.hq, c_.d) + x) * k_.at(index(b, j, kv, n_.hk, c_.d) + x);
      const double w = std::pow(score * stage_.problem.scale(), c_.p) * std::exp(gate[i] - gate[j]);
      denominator += w;
      for (int x = 0; x < c_.e; ++x) out[static_cast<std::size_t>(x)] += w * v_.at(index(b, j, kv, n_.hk, c_.e) + x);
    }
    for (std::int64_t r = 0; r < rows_ && (chunk > 0 || n_.initial_state); ++r) {
      const tspow::Indices x = tspow::decode(static_cast<int>(r), c_.p, c_.d_tile);
      double phi = std::exp(gate[i]);
      for (int f = 0; f < c_.p; ++f) phi *= q_.at(index(b, i, h, n_.hq, c_.d) + x.i[f]);
      const std::int64_t at = (((std::int64_t{b} * n_.hk + kv) * stage_.chunks() + chunk) * rows_ + r) * columns_;
      for (int column = 0; column < c_.e; ++column) out[static_cast<std::size_t>(column)] += phi * state_.at(at + column);
      for (std::int64_t column = c_.e; column < columns_; ++column) denominator += phi * state_.at(at + column);
    }
    for (double& x : out) x = !c_.normalised ? x : denominator == 0 ? 0 : x / denominator;
    return out;
  }

  AttendQueryConfig c_;
  Sizes n_;
  StageProblem stage_;
  std::int64_t rows_, columns_, tokens_;
  Array q_, k_, v_, y_, gates_, state_, initial_;
  std::vector<double> exact_gates_;
};

// p roundings of 2^-9 and one of y, or one of y alone.
double tolerance(const AttendQueryConfig& c) { return c.input == Storage::bf16 ? 6e-3 : 8e-4; }

template <AttendQueryConfig C>
void check(const std::vector<Sizes>& cases) {
  std::mt19937_64 rng(test_seed());
  for (const Sizes& n : cases) {
    Case run(C, n, rng);
    // Warps and lanes in a random order: a barrier that is missing shows.
    run_on_host(run.launch(), [&] { attend_query<C>(run.args); }, {.seed = rng() | 1});
    EXPECT_LT(run.error(), tolerance(C)) << "b" << n.b << " t" << n.t << " hq" << n.hq << " hk" << n.hk << " chunk" << n.chunk;
  }
}

constexpr AttendQueryConfig base{.d = 32,
                                 .e = 32,
                                 .p = 2,
                                 .d_tile = 8,
                                 .input = Storage::bf16,
                                 .state = Storage::bf16,
                                 .gated = true,
                                 .normalised = true,
                                 .warps = 4,
                                 .m_tiles = 1,
                                 .steps = 4,
                                 .stages = 2,
                                 .key_tile = 32,
                                 .key_stages = 2,
                                 .q_registers = true};

template <class Change>
constexpr AttendQueryConfig with(Change change) {
  AttendQueryConfig c = base;
  change(c);
  return c;
}

TEST(AttendQuery, RaggedTokensHeadsLayoutsAndInitialStates) {
  check<base>({{.t = 1},
               {.t = 1, .initial_state = true},
               {.t = 129},
               {.b = 2, .t = 150, .hq = 4, .hk = 2, .chunk = 64},
               {.b = 2, .t = 130, .hq = 2, .hk = 2, .chunk = 64, .initial_state = true, .head_first = true}});
}

// Blocks of a chunk's first rows begin at the diagonal; those of its last have tiles before it, where the state is weighed as keys are.
TEST(AttendQuery, TilesBeforeTheDiagonalOfEveryWidth) {
  check<base>({{.t = 300, .hq = 2, .chunk = 256, .initial_state = true}});
  check<with([](AttendQueryConfig& c) { c.key_tile = 64, c.key_stages = 3, c.stages = 3; })>({{.t = 450, .chunk = 256}});
  check<with([](AttendQueryConfig& c) { c.key_tile = 128, c.key_stages = 1, c.stages = 4; })>(
      {{.t = 330, .chunk = 256, .initial_state = true}});
}

TEST(AttendQuery, SeveralTilesOfRowsAndWarpsAndQueriesReadAgain) {
  check<with([](AttendQueryConfig& c) { c.m_tiles = 2, c.d = 64, c.q_registers = false; })>({{.t = 300, .chunk = 256}});
  check<with([](AttendQueryConfig& c) { c.warps = 8, c.m_tiles = 2, c.key_tile = 64, c.steps = 8; })>({{.t = 600, .chunk = 512}});
}

TEST(AttendQuery, EveryDegree) {
  check<with([](AttendQueryConfig& c) { c.p = 1, c.d_tile = 16, c.normalised = false; })>({{}});
  check<with([](AttendQueryConfig& c) { c.p = 3, c.d = 16, c.d_tile = 4, c.normalised = false; })>({{}});
  check<with([](AttendQueryConfig& c) { c.p = 4, c.d = c.e = 16, c.d_tile = 2; })>({{}});
}

TEST(AttendQuery, DtypesAndWidths) {
  check<with([](AttendQueryConfig& c) { c.state = Storage::fp32, c.d_tile = 2; })>({{}});
  check<with([](AttendQueryConfig& c) { c.input = Storage::fp16, c.state = Storage::fp32; })>({{.initial_state = true}});
  check<with([](AttendQueryConfig& c) { c.input = Storage::fp16, c.state = Storage::fp32, c.gated = c.normalised = false; })>({{}});
  check<with([](AttendQueryConfig& c) { c.d = 16, c.e = 128; })>({{}});
  check<with([](AttendQueryConfig& c) { c.d = 128, c.e = 16, c.d_tile = 16, c.steps = 8; })>({{.t = 150, .chunk = 64}});
}

TEST(AttendQuery, UngatedAndUnnormalised) {
  check<with([](AttendQueryConfig& c) { c.gated = false; })>({{.t = 300, .chunk = 256, .initial_state = true}});
  check<with([](AttendQueryConfig& c) { c.normalised = false; })>({{.t = 300, .chunk = 256, .initial_state = true}});
}

// Gates that close within a few tokens: the state must vanish without its frame, or another's, overflowing.
TEST(AttendQuery, StrongGatesNeitherOverflowNorLoseWhatIsNear) {
  check<base>({{.t = 300, .chunk = 256, .initial_state = true, .strongest_gate = 100},
               {.t = 300, .chunk = 256, .initial_state = true, .strongest_gate = 3}});
}

TEST(AttendQuery, ZeroDenominatorsGiveZeros) {
  std::mt19937_64 rng(test_seed());
  Case run(base, {.t = 140, .initial_state = true}, rng);
  run.zero_queries();
  run_on_host(run.launch(), [&] { attend_query<base>(run.args); });
  for (const double y : run.results()) ASSERT_EQ(y, 0.0);
}

DeviceInfo h200() {
  DeviceInfo device;
  device.shared_per_block = 227 << 10;
  device.shared_per_multiprocessor = 228 << 10;
  return device;
}

TEST(AttendQueryTemplate, OffersConfigsForEverySupportedProblemAndAllFitTheDevice) {
  for (const auto& [p, widest] : {std::pair{1, 128}, {2, 128}, {3, 64}, {4, 32}}) {
    for (int d = 16; d <= widest; d *= 2) {
      for (int d_tile = 2; d_tile <= 16; d_tile *= 2) {
        if (p == 1 && d_tile != 16) continue;
        for (const Storage state : {Storage::bf16, Storage::fp32}) {
          AttendQueryConfig c = base;
          c.p = p, c.d = d, c.d_tile = d_tile, c.e = 128, c.state = state;
          const StageProblem s = stage_problem(c, {.t = 4096, .chunk = 1024});
          const Space space = attend_query_template().space(s, h200());
          ASSERT_FALSE(space.empty()) << s.key();
          for (std::size_t i = 0; i < space.size(); i += 17) {
            const Launch launch = attend_query_template().launch(s, space.at(i));
            EXPECT_LE(launch.dynamic_shared_bytes, h200().shared_per_block);
            EXPECT_EQ(launch.grid[0] * static_cast<std::uint32_t>(space.at(i).at("warps") * space.at(i).at("m_tiles") * 16), 4096u);
          }
        }
      }
    }
  }
  for (const int t : {1, 16, 65})
    EXPECT_FALSE(attend_query_template().space(stage_problem(base, {.t = t, .chunk = 64}), h200()).empty()) << t;
}

// Both parts use the same memory in turn: a block needs what the larger needs, not their sum.
TEST(AttendQueryTemplate, SharedMemoryIsThatOfTheLargerPart) {
  const auto bytes = [](const AttendQueryConfig& c) {
    return static_cast<int>(attend_query_template().launch(stage_problem(c, {}), knobs(c)).dynamic_shared_bytes);
  };
  constexpr AttendQueryConfig long_state = with([](AttendQueryConfig& c) { c.steps = 8, c.stages = 4; });
  constexpr AttendQueryConfig long_keys = with([](AttendQueryConfig& c) { c.key_tile = 128, c.key_stages = 3; });
  EXPECT_EQ(bytes(long_state), state_product_layout(state_part(long_state)).shared_bytes);
  EXPECT_EQ(bytes(long_keys), attention_shared(key_part(long_keys)).bytes);
  EXPECT_GT(bytes(long_state), bytes(base));
  EXPECT_GT(bytes(long_keys), bytes(long_state));
}

TEST(AttendQueryTemplate, SourceDependsOnNothingThatIsKnownAtRunTime) {
  const std::string one = attend_query_template().source(stage_problem(base, {.t = 4096, .chunk = 1024}), knobs(base));
  EXPECT_EQ(one, attend_query_template().source(stage_problem(base, {.b = 3, .t = 77, .hq = 4, .hk = 2, .chunk = 64, .head_first = true}),
                                                knobs(base)));
  EXPECT_NE(one, attend_query_template().source(stage_problem(with([](AttendQueryConfig& c) { c.d_tile = 4; }), {.t = 4096, .chunk = 1024}),
                                                knobs(base)));
}

}  // namespace
}  // namespace phitune
