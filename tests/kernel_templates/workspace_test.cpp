// Buffers do not overlap, are as large as the kernels' shapes say, and only what a plan needs is asked for.
#include <gtest/gtest.h>

#include <map>

#include "kernel_templates/library/gemm.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

const Problem problem = Problem::parse("b2 t1000 hq8 hk2 d64 e32 p2 bf16 gated");
const PlanShape fused{.fusion = Fusion::expand_mma, .chunk = 256, .d_tile = 8};
const PlanShape scanned{.fusion = Fusion::update_scan, .chunk = 256, .d_tile = 8, .path = Path::sm90};
const PlanShape unfused{.fusion = Fusion::materialized, .chunk = 256, .d_tile = 8};
const PlanShape in_cores{.fusion = Fusion::expand_mma, .chunk = 256, .d_tile = 8, .path = Path::sm90};
constexpr std::int64_t rows = 2304, columns = 40, chunks = 4;

TEST(Workspace, QuadraticNeedsGatesAlone) {
  const Workspace w = workspace_of(problem, {.fusion = Fusion::quadratic});
  EXPECT_EQ(w.total(), 2 * 2 * 1000 * 8 + (256 - 2 * 2 * 1000 * 8 % 256) % 256);
  Problem ungated = problem;
  ungated.gated = false;
  EXPECT_EQ(workspace_of(ungated, {.fusion = Fusion::quadratic}).total(), 0);
}

TEST(Workspace, FusedStatesReplaceTheirUpdates) {
  const Workspace w = workspace_of(problem, fused);
  EXPECT_EQ(w.update, 2 * 2 * chunks * rows * columns * 2);
  EXPECT_EQ(w.update_z, 2 * 2 * chunks * rows * 4);
  EXPECT_EQ(w.state, 0);
  EXPECT_EQ(w.partial, 2 * 8 * 1000 * 32 * 2);
  EXPECT_EQ(w.row_sum, 2 * 8 * 1000 * 4);
  EXPECT_EQ(w.phi_k + w.phi_q + w.v_aug + w.inter, 0);
  Args args;
  alignas(256) static char base[1];
  bind_workspace(args, problem, fused, base);
  EXPECT_EQ(args.state, args.update);
  EXPECT_EQ(args.state_z, nullptr) << "in rows denominators are columns of the state";
}

// Of degree 2 in core matrices: what chunks add to a denominator matrix gives way to the matrix, as their updates to states.
TEST(Workspace, DenominatorMatricesReplaceTheirShares) {
  const Workspace w = workspace_of(problem, in_cores);
  EXPECT_EQ(w.update, 2 * 2 * chunks * rows * 32 * 2);
  EXPECT_EQ(w.update_z, 2 * 2 * chunks * 64 * 64 * 4);
  EXPECT_EQ(w.state + w.state_z, 0);
  alignas(256) static char base[1];
  Args args;
  bind_workspace(args, problem, in_cores, base);
  EXPECT_EQ(args.state, args.update);
  EXPECT_EQ(args.state_z, args.update_z);
}

TEST(Workspace, NoDenominatorMatrixForOtherDegreesOrWithoutNormalisation) {
  Problem quartic = problem, plain = problem;
  quartic.d = quartic.e = 32, quartic.p = 4;
  plain.normalisation = Normalisation::none;
  EXPECT_TRUE(has_denominator_matrix(problem, Path::sm90));
  EXPECT_EQ(state_columns(problem, Path::sm90), 32);
  EXPECT_FALSE(has_denominator_matrix(problem, Path::sm80));
  EXPECT_EQ(state_columns(problem, Path::sm80), columns);
  EXPECT_FALSE(has_denominator_matrix(quartic, Path::sm90));
  EXPECT_EQ(state_columns(quartic, Path::sm90), columns);
  EXPECT_FALSE(has_denominator_matrix(plain, Path::sm90));
  EXPECT_EQ(state_columns(plain, Path::sm90), 32);
  for (const Problem& other : {quartic, plain}) {
    for (const PlanShape& shape : {in_cores, scanned}) {
      const std::int64_t states = 2 * 2 * chunks * state_rows(other.d, other.p, 8);
      const std::int64_t sums = other.normalisation == Normalisation::sum && shape.fusion == Fusion::expand_mma ? states * 4 : 0;
      const Workspace w = workspace_of(other, shape);
      EXPECT_EQ(w.state_z, 0);
      EXPECT_EQ(w.update_z, sums);
      EXPECT_EQ(w.update + w.state, states * state_columns(other, Path::sm90) * 2);
      alignas(256) static char base[1];
      Args args;
      bind_workspace(args, other, shape, base);
      EXPECT_EQ(args.state_z, nullptr);
    }
  }
}

TEST(Workspace, ScannedStatesAndTheirDenominatorsAreAllThereIsBesideCounters) {
  for (const Fusion fusion : {Fusion::update_scan, Fusion::two_kernels}) {
    const Workspace w = workspace_of(problem, {.fusion = fusion, .chunk = 256, .d_tile = 8, .path = Path::sm90});
    EXPECT_EQ(w.state, 2 * 2 * chunks * rows * 32 * 2);
    EXPECT_EQ(w.state_z, 2 * 2 * chunks * 2 * 64 * 64 * 2);
    EXPECT_EQ(w.progress, 2 * 2 * chunks * (rows / 64) * 4);
    EXPECT_EQ(w.update + w.update_z, 0);
    EXPECT_EQ(w.partial + w.row_sum, fusion == Fusion::two_kernels ? 0 : 2 * 8 * 1000 * (32 * 2 + 4));
  }
}

// In rows nobody waits for anybody, and denominators are columns.
TEST(Workspace, ScannedStatesInRowsAreAllThereIs) {
  PlanShape in_rows = scanned;
  in_rows.path = Path::sm80;
  const Workspace w = workspace_of(problem, in_rows);
  EXPECT_EQ(w.state, 2 * 2 * chunks * rows * columns * 2);
  EXPECT_EQ(w.update + w.update_z + w.state_z + w.progress, 0);
  EXPECT_EQ(w.partial + w.row_sum, 2 * 8 * 1000 * (32 * 2 + 4));
}

TEST(Workspace, NoDenominatorWithoutNormalisation) {
  Problem plain = problem;
  plain.normalisation = Normalisation::none;
  const Workspace w = workspace_of(plain, fused);
  EXPECT_EQ(w.row_sum + w.update_z, 0);
  EXPECT_EQ(w.update, 2 * 2 * chunks * rows * 32 * 2);
}

TEST(Workspace, BuffersLieOneAfterAnotherWithin) {
  for (const PlanShape& shape : {fused, unfused, in_cores, scanned}) {
    const Workspace w = workspace_of(problem, shape);
    Args args;
    char* const base = reinterpret_cast<char*>(0x10000);
    bind_workspace(args, problem, shape, base);
    std::map<const char*, std::int64_t> buffers;
    const auto add = [&](const void* p, std::int64_t size) {
      EXPECT_EQ(p == nullptr, size == 0);
      if (size > 0) buffers[static_cast<const char*>(p)] = size;
    };
    add(args.gates, w.gates), add(args.partial, w.partial), add(args.row_sum, w.row_sum), add(args.update, w.update);
    add(args.update_z, w.update_z), add(args.phi_k, w.phi_k), add(args.phi_q, w.phi_q), add(args.v_aug, w.v_aug), add(args.inter, w.inter),
        add(args.progress, w.progress);
    if (!w.state_aliases_update) add(args.state, w.state), add(args.state_z, w.state_z);
    std::int64_t sum = 0;
    for (const auto& buffer : buffers) sum += (buffer.second + 255) / 256 * 256;
    EXPECT_EQ(sum, w.total()) << shape.text();
    const char* end = base;
    for (const auto& [start, size] : buffers) {
      EXPECT_GE(start, end);
      EXPECT_EQ((start - base) % 256, 0);
      end = start + size;
    }
    EXPECT_LE(end, base + w.total());
  }
}

TEST(Workspace, StridesFollowTheLayout) {
  Args args;
  bind_workspace(args, problem, fused, nullptr);
  EXPECT_EQ(args.q_strides.t, 8 * 64);
  EXPECT_EQ(args.q_strides.h, 64);
  EXPECT_EQ(args.q_strides.b, 1000 * 8 * 64);
  EXPECT_EQ(args.g_strides.t, 2);
  Problem head_first = problem;
  head_first.layout = Layout::bhtd;
  bind_workspace(args, head_first, fused, nullptr);
  EXPECT_EQ(args.v_strides.t, 32);
  EXPECT_EQ(args.v_strides.h, 1000 * 32);
  EXPECT_EQ(args.y_strides.b, 8 * 1000 * 32);
  EXPECT_EQ(args.chunks, 4);
  EXPECT_FLOAT_EQ(args.scale, 0.125f);
}

// Every product of a GEMM stays inside the buffers that workspace_of asks for, and the last ends where they end.
TEST(Gemm, StridesCoverTheBuffersExactly) {
  const Workspace w = workspace_of(problem, unfused);
  const auto last = [](const Gemm& g, const GemmOperand& x, std::int64_t outer_rows, std::int64_t width) {
    const std::int64_t first = (g.batch - 1) * x.batch + (g.outer[0] - 1) * x.outer[0] + (g.outer[1] - 1) * x.outer[1];
    return (first + (outer_rows - 1) * x.leading + width) * bytes(x.dtype);
  };
  const Gemm update = gemm_of({problem, unfused, Stage::update_gemm, Path::library});
  EXPECT_EQ(last(update, update.a, update.k, update.m), w.phi_k);
  EXPECT_EQ(last(update, update.b, update.k, update.n), w.v_aug);
  EXPECT_EQ(last(update, update.c, update.m, update.n), w.update);
  const Gemm query = gemm_of({problem, unfused, Stage::query_gemm, Path::library});
  EXPECT_EQ(last(query, query.a, query.m, query.k), w.phi_q);
  EXPECT_EQ(last(query, query.b, query.k, query.n), w.state);
  EXPECT_EQ(last(query, query.c, query.m, query.n), w.inter);
  EXPECT_EQ(query.batch * query.outer[0] * query.outer[1], 2 * 8 * chunks);
  EXPECT_THROW((void)gemm_of({problem, unfused, Stage::scan, Path::sm80}), std::invalid_argument);
}

}  // namespace
}  // namespace phitune
