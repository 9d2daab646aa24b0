// What the expand kernels write, on the CPU emulator, against float64.
#include "kernel_templates/sm80/expand.cuh"

#include <gtest/gtest.h>

#include "kernel_templates/sm80/expand.hpp"
#include "tests/kernel_templates/kernel_test.hpp"

namespace phitune {
namespace {

using kernel_test::Array;
using kernel_test::dtype_of;
using kernel_test::run_on_host;
using kernel_test::test_seed;

struct Sizes {
  int b = 1, t = 100, heads = 1, chunk = 64;
  bool head_first = false;
};

StageProblem stage_problem(const ExpandConfig& c, const Sizes& n) {
  const Problem problem{.b = n.b,
                        .t = n.t,
                        .hq = n.heads,
                        .hk = n.heads,
                        .d = c.d,
                        .e = c.e,
                        .p = c.p,
                        .dtype = dtype_of(c.input),
                        .gated = c.gated,
                        .normalisation = c.normalised ? Normalisation::sum : Normalisation::none,
                        .layout = n.head_first ? Layout::bhtd : Layout::bthd};
  const PlanShape shape{.fusion = Fusion::materialized, .chunk = n.chunk, .d_tile = c.d_tile, .state = dtype_of(c.state)};
  return {problem, shape, c.key ? Stage::expand_key : Stage::expand_query, Path::sm80};
}

class Case {
 public:
  Case(const ExpandConfig& c, const Sizes& n, std::mt19937_64& rng)
      : c_(c),
        n_(n),
        rows_(tspow::rows(c.d / c.d_tile, c.p, c.d_tile)),
        columns_(c.e + (c.normalised ? 8 : 0)),
        padded_((n.t + n.chunk - 1) / n.chunk * n.chunk),
        x_(c.input, std::int64_t{n.b} * n.t * n.heads * c.d),
        v_(c.input, std::int64_t{n.b} * n.t * n.heads * c.e),
        gates_(Storage::fp32, std::int64_t{n.b} * n.heads * n.t * 2),
        phi_(c.state, std::int64_t{n.b} * n.heads * padded_ * rows_),
        v_aug_(c.state, std::int64_t{n.b} * n.heads * padded_ * columns_) {
    x_.fill_normal(rng);
    v_.fill_normal(rng);
    std::uniform_real_distribution<double> step(-0.1, 0.0);
    double gate = 0;
    for (std::int64_t i = 0; i < gates_.size() / 2; ++i) {
      gate = i % n.t % n.chunk == 0 ? step(rng) : gate + step(rng);
      const auto high = static_cast<float>(gate);
      gates_.set(2 * i, high);
      gates_.set(2 * i + 1, gate - high);
    }
  }

  Args args() {
    Args a;
    (c_.key ? a.k : a.q) = x_.data();
    (c_.key ? a.k_strides : a.q_strides) = strides(c_.d);
    (c_.key ? a.phi_k : a.phi_q) = phi_.data();
    if (c_.key) a.v = v_.data(), a.v_strides = strides(c_.e), a.v_aug = v_aug_.data();
    a.gates = c_.gated ? gates_.floats() : nullptr;
    a.b = n_.b, a.t = n_.t, a.hq = a.hk = n_.heads;
    a.chunk = n_.chunk, a.chunks = static_cast<int>(padded_ / n_.chunk);
    return a;
  }

  // Every element is one product rounded once, so each is held to its own size.
  void expect_phi(double tolerance) const {
    for (std::int64_t i = 0; i < phi_.size(); ++i) {
      const std::int64_t token = i / rows_ % padded_;
      const double expected = token < n_.t ? value(i / rows_ / padded_, token, static_cast<int>(i % rows_)) : 0.0;
      ASSERT_NEAR(phi_.at(i), expected, tolerance * std::abs(expected)) << "token " << token << " row " << i % rows_;
    }
  }

  void expect_values() const {
    for (std::int64_t i = 0; i < v_aug_.size(); ++i) {
      const std::int64_t token = i / columns_ % padded_, column = i % columns_;
      double expected = 0;
      if (token < n_.t && column < c_.e) expected = v_.at(at(i / columns_ / padded_, token, c_.e) + column);
      if (token < n_.t && column == c_.e) expected = 1;
      ASSERT_EQ(v_aug_.at(i), expected) << "token " << token << " column " << column;
    }
  }

 private:
  [[nodiscard]] Strides strides(int width) const {
    if (n_.head_first) return {.b = std::int64_t{n_.heads} * n_.t * width, .t = width, .h = std::int64_t{n_.t} * width};
    return {.b = std::int64_t{n_.t} * n_.heads * width, .t = std::int64_t{n_.heads} * width, .h = width};
  }
  [[nodiscard]] std::int64_t at(std::int64_t batch_head, std::int64_t token, int width) const {
    const Strides s = strides(width);
    return batch_head / n_.heads * s.b + batch_head % n_.heads * s.h + token * s.t;
  }
  [[nodiscard]] double value(std::int64_t batch_head, std::int64_t token, int row) const {
    double product = 1;
    const tspow::Indices x = tspow::decode(row, c_.p, c_.d_tile);
    for (int k = 0; k < c_.p; ++k) product *= x_.at(at(batch_head, token, c_.d) + x.i[k]);
    if (!c_.gated) return product;
    const std::int64_t end = std::min<std::int64_t>((token / n_.chunk + 1) * n_.chunk, n_.t) - 1;
    return product * std::exp(gate(batch_head * n_.t + end) - gate(batch_head * n_.t + token));
  }
  [[nodiscard]] double gate(std::int64_t i) const { return gates_.at(2 * i) + gates_.at(2 * i + 1); }

  ExpandConfig c_;
  Sizes n_;
  std::int64_t rows_, columns_, padded_;
  Array x_, v_, gates_, phi_, v_aug_;
};

template <ExpandConfig C>
void check(const Sizes& n) {
  std::mt19937_64 rng(test_seed());
  Case data(C, n, rng);
  const StageTemplate& host = C.key ? expand_key_template() : expand_query_template();
  const Launch launch = host.launch(stage_problem(C, n), {{"threads", C.threads}, {"tokens", C.tokens}});
  const Args args = data.args();
  run_on_host(launch, [&args] { expand<C>(args); }, {.seed = test_seed()});
  data.expect_phi(C.state == Storage::bf16 ? 4.0e-3 : 2e-6);
  if (C.key) data.expect_values();
}

constexpr ExpandConfig base{.d = 32,
                            .e = 16,
                            .p = 2,
                            .d_tile = 8,
                            .input = Storage::bf16,
                            .state = Storage::bf16,
                            .key = true,
                            .gated = true,
                            .normalised = true,
                            .threads = 128,
                            .tokens = 16};

template <class Change>
constexpr ExpandConfig with(Change change) {
  ExpandConfig c = base;
  change(c);
  return c;
}

constexpr ExpandConfig degree(int p, int d, int d_tile) {
  return with([=](ExpandConfig& c) { c.p = p, c.d = d, c.d_tile = d_tile; });
}

TEST(Expand, EveryDegreeAndTileWidth) {
  check<degree(1, 32, 16)>({});
  check<degree(2, 32, 2)>({});
  check<degree(2, 32, 4)>({});
  check<degree(2, 32, 8)>({});
  check<degree(2, 32, 16)>({});
  check<degree(3, 16, 2)>({});
  check<degree(3, 16, 8)>({});
  check<degree(4, 16, 4)>({.t = 10});
  check<degree(4, 16, 2)>({.t = 10});
}

TEST(Expand, QueriesAreNotGated) {
  check<with([](ExpandConfig& c) { c.key = c.gated = c.normalised = false; })>({.heads = 2});
}

TEST(Expand, Fp16IsWrittenInFp32) {
  check<with([](ExpandConfig& c) { c.input = Storage::fp16, c.state = Storage::fp32; })>({});
}

TEST(Expand, WithoutGatesOrColumnOfOnes) {
  check<with([](ExpandConfig& c) { c.gated = false; })>({});
  check<with([](ExpandConfig& c) { c.normalised = false; })>({});
}

TEST(Expand, RaggedTokensBatchesHeadsAndLayouts) {
  check<base>({.t = 1});
  check<base>({.b = 2, .t = 130, .heads = 3});
  check<base>({.b = 2, .t = 130, .heads = 3, .head_first = true});
  // Blocks of more tokens than there is room for.
  check<with([](ExpandConfig& c) { c.tokens = 64; })>({.t = 40, .chunk = 48});
}

TEST(Expand, SpaceIsNeverEmpty) {
  DeviceInfo device;
  device.shared_per_block = 99 * 1024;
  for (const auto& [p, d, d_tile] : {std::tuple{1, 16, 16}, {2, 16, 2}, {2, 128, 8}, {4, 32, 16}}) {
    const ExpandConfig c = degree(p, d, d_tile);
    EXPECT_FALSE(expand_key_template().space(stage_problem(c, {}), device).empty());
    EXPECT_FALSE(expand_query_template().space(stage_problem(c, {}), device).empty());
  }
}

}  // namespace
}  // namespace phitune
