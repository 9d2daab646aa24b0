#include "search/plan.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "search/trial.hpp"
#include "tests/search/random_problem.hpp"

namespace phitune {
namespace {

const Problem headline = Problem::parse("b1 t65536 h8 d64 p2 bf16 gated sum");
constexpr std::size_t chunk_sizes = 10;  // of a long problem
constexpr PlanShape fused{Fusion::expand_mma, 1024, 8, Dtype::bf16, Dtype::bf16};
constexpr PlanShape in_cores{Fusion::expand_mma, 1024, 8, Dtype::bf16, Dtype::bf16, Path::sm90};

std::vector<std::string> stage_texts(const Problem& problem, const PlanShape& shape) {
  std::vector<std::string> names;
  for (const StageProblem& stage : stages_of(problem, shape)) {
    names.push_back(fmt::format("{}/{}", to_string(stage.stage), to_string(stage.path)));
  }
  return names;
}

std::string pruned_reason(const Problem& problem, const PlanShape& shape) {
  for (const auto& [pruned, reason] : plan_shapes(problem).pruned) {
    if (pruned == shape) return reason;
  }
  return "not pruned";
}

bool has_shape(const Problem& problem, const PlanShape& shape) { return std::ranges::count(plan_shapes(problem).shapes, shape) == 1; }

TEST(PlanShape, TextIsTheDocumentedOne) {
  EXPECT_EQ(fused.text(), "expand_mma c1024 d_tile8 state_bf16 partial_bf16");
  EXPECT_EQ(in_cores.text(), "expand_mma c1024 d_tile8 state_bf16 partial_bf16 sm90");
  EXPECT_EQ(PlanShape{.fusion = Fusion::quadratic}.text(), "quadratic");
}

// Databases and recordings from before there was a second path have no word for it.
TEST(PlanShape, ATextWithoutALayoutMeansRows) {
  EXPECT_EQ(PlanShape::parse("expand_mma c1024 d_tile8 state_bf16 partial_bf16"), fused);
  EXPECT_EQ(PlanShape::parse("expand_mma c1024 d_tile8 state_bf16 partial_bf16 sm80"), fused);
  EXPECT_EQ(PlanShape::parse(in_cores.text()), in_cores);
  EXPECT_NE(in_cores, fused);
  EXPECT_LT(fused, in_cores);
}

TEST(PlanShape, AWrongTextIsRefusedWithTheWord) {
  const auto error_of = [](std::string_view text) -> std::string {
    try {
      return "accepted as " + PlanShape::parse(text).text();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
  };
  EXPECT_NE(error_of("expand_mmma c64").find("did you mean 'expand_mma'"), std::string::npos);
  EXPECT_NE(error_of("expand_mma c1024 d_tile8 state_bf16").find("all needed"), std::string::npos);
  EXPECT_NE(error_of("expand_mma c1024 c512 d_tile8 state_bf16").find("'c512' sets chunk a second time"), std::string::npos);
  EXPECT_NE(error_of("expand_mma cx d_tile8 state_bf16 partial_bf16").find("'cx'"), std::string::npos);
  EXPECT_NE(error_of("expand_mma c64 d_tile8 state_bf17 partial_bf16").find("'bf17'"), std::string::npos);
  EXPECT_NE(error_of("expand_mma c64 d_tile8 state_bf16 partial_bf16 sm91").find("no part of a plan shape"), std::string::npos);
  EXPECT_NE(error_of("expand_mma c1024 d_tile8 state_bf16 sm90").find("all needed"), std::string::npos);
  EXPECT_EQ(PlanShape::parse("quadratic sm90").text(), "quadratic sm90");
  EXPECT_NE(error_of("quadratic c64").find("quadratic has no chunk"), std::string::npos);
  EXPECT_NE(error_of("").find("empty"), std::string::npos);
}

TEST(Plan, StagesComeInLaunchOrder) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(stage_texts(headline, fused), (Texts{"gates/sm80", "attention/sm80", "update_state/sm80", "scan/sm80", "query_state/sm80"}));
  EXPECT_EQ(stage_texts(headline, {.fusion = Fusion::quadratic}), (Texts{"gates/sm80", "attention/sm80"}));
  PlanShape unfused = fused;
  unfused.fusion = Fusion::materialized;
  EXPECT_EQ(stage_texts(headline, unfused), (Texts{"gates/sm80", "expand_key/sm80", "update_gemm/library", "scan/sm80", "expand_query/sm80",
                                                   "query_gemm/library", "attention/sm80", "combine/sm80"}));
  EXPECT_EQ(stage_texts(headline, in_cores), (Texts{"gates/sm80", "attention/sm90", "update_state/sm90", "scan/sm80", "query_state/sm90"}));
  Problem ungated = headline;
  ungated.gated = false;
  EXPECT_EQ(stage_texts(ungated, fused), (Texts{"attention/sm80", "update_state/sm80", "scan/sm80", "query_state/sm80"}));
}

TEST(Plan, StageProblemKeyIsTheDocumentedTextAndCountsItsState) {
  const StageProblem query = make_stage_problem(headline, fused, Stage::query_state);
  EXPECT_EQ(
      query.key(),
      "query_state sm80 | expand_mma c1024 d_tile8 state_bf16 partial_bf16 | forward b1 t65536 hq8 hk8 d64 e64 p2 bf16 gated sum bthd");
  EXPECT_EQ(query.chunks(), 64);
  EXPECT_EQ(query.rows(), 2304);
  const StageProblem quadratic = make_stage_problem(headline, {.fusion = Fusion::quadratic}, Stage::attention);
  EXPECT_EQ(quadratic.chunks(), 1);
  EXPECT_EQ(quadratic.rows(), 0);
  EXPECT_THROW((void)StageProblem::parse("attention sm80 | quadratic"), std::invalid_argument);
  EXPECT_THROW((void)StageProblem::parse("attentoin sm80 | quadratic | b1"), std::invalid_argument);
}

// The stage problem of a stage problem. Where no state passes through, the stage's own path is all that is left of the shape's.
StageProblem again(const StageProblem& stage) {
  PlanShape shape = stage.shape;
  if (stage.path == Path::sm90) shape.path = Path::sm90;
  return make_stage_problem(stage.problem, shape, stage.stage);
}

// Everything stored is keyed by these texts, and every stage problem is handed to kernels as a problem in its own right.
TEST(Plan, EveryStageOfEveryShapeIsWellFormedAndReadsItsKeyBack) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 rng(seed);
  for (int i = 0; i < 200; ++i) {
    const Problem problem = random_problem(rng);
    for (const PlanShape& shape : plan_shapes(problem).shapes) {
      ASSERT_EQ(PlanShape::parse(shape.text()), shape);
      for (const StageProblem& stage : stages_of(problem, shape)) {
        ASSERT_EQ(stage.problem.invalid(), std::nullopt) << stage.key();
        ASSERT_EQ(StageProblem::parse(stage.key()), stage) << stage.key();
        // Neutral means that neutralising again changes nothing.
        ASSERT_EQ(again(stage), stage) << stage.key();
        ASSERT_GE(stage.chunks(), 1);
        ASSERT_GE(stage.rows(), 0);
      }
    }
  }
}

TEST(Plan, OnlyStagesThatThePathChangesKnowIt) {
  const std::vector<StageProblem> rows = stages_of(headline, fused), cores = stages_of(headline, in_cores);
  ASSERT_EQ(rows.size(), cores.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Stage stage = rows[i].stage;
    EXPECT_EQ(rows[i] != cores[i], stage != Stage::gates) << cores[i].key();
    EXPECT_EQ(StageProblem::parse(cores[i].key()), cores[i]);
    EXPECT_EQ(again(cores[i]), cores[i]) << cores[i].key();
  }
}

// What a stage does read must tell stage problems apart: a change here would let one problem's time stand for another's.
TEST(Plan, AStageKeepsTheFieldsThatChangeItsWork) {
  const auto differs = [](Stage stage, const auto& change) {
    Problem problem = headline;
    PlanShape shape = fused;
    if (stage != Stage::update_state && stage != Stage::query_state && stage != Stage::attention && stage != Stage::gates) {
      shape.fusion = Fusion::materialized;
    }
    const StageProblem before = make_stage_problem(problem, shape, stage);
    change(problem, shape);
    return make_stage_problem(problem, shape, stage) != before;
  };
  const auto tokens = [](Problem& p, PlanShape&) { p.t /= 2; };
  const auto batch = [](Problem& p, PlanShape&) { p.b = 2; };
  const auto chunk = [](Problem&, PlanShape& s) { s.chunk = 512; };
  const auto tile = [](Problem&, PlanShape& s) { s.d_tile = 4; };
  const auto state = [](Problem&, PlanShape& s) { s.state = Dtype::fp32; };
  const auto partial = [](Problem&, PlanShape& s) { s.partial = Dtype::fp32; };
  const auto degree = [](Problem& p, PlanShape&) { p.p = 4; };
  const auto value_width = [](Problem& p, PlanShape&) { p.e = 32; };
  const auto queries = [](Problem& p, PlanShape&) { p.hq = 32; };
  const auto final_state = [](Problem& p, PlanShape&) { p.final_state = true; };
  const auto initial_state = [](Problem& p, PlanShape&) { p.initial_state = true; };
  for (const Stage stage : {Stage::gates, Stage::attention, Stage::update_state, Stage::scan, Stage::query_state, Stage::expand_key,
                            Stage::expand_query, Stage::update_gemm, Stage::query_gemm, Stage::combine}) {
    SCOPED_TRACE(to_string(stage));
    const bool no_state = stage == Stage::gates || stage == Stage::attention || stage == Stage::combine;
    const bool writes_state = stage == Stage::update_state || stage == Stage::expand_key || stage == Stage::update_gemm;
    const bool reads_queries = !writes_state && stage != Stage::gates && stage != Stage::scan;
    EXPECT_TRUE(differs(stage, tokens));
    EXPECT_TRUE(differs(stage, batch));
    EXPECT_TRUE(differs(stage, chunk));
    EXPECT_EQ(differs(stage, tile), !no_state);
    EXPECT_EQ(differs(stage, state), !no_state);
    EXPECT_EQ(differs(stage, partial), stage == Stage::attention || stage == Stage::query_state || stage == Stage::combine);
    EXPECT_EQ(differs(stage, degree), stage != Stage::gates && stage != Stage::combine);
    EXPECT_EQ(differs(stage, value_width), stage != Stage::gates && stage != Stage::expand_query);
    EXPECT_EQ(differs(stage, queries), reads_queries);
    EXPECT_EQ(differs(stage, final_state), writes_state || stage == Stage::scan);
    EXPECT_EQ(differs(stage, initial_state),
              stage == Stage::scan || stage == Stage::query_state || stage == Stage::query_gemm || stage == Stage::combine);
  }
}

TEST(Plan, PlansShareTheStagesTheyHaveInCommon) {
  std::set<std::string> attention;
  std::set<std::string> all;
  std::size_t stages = 0;
  for (const PlanShape& shape : plan_shapes(headline).shapes) {
    for (const StageProblem& stage : stages_of(headline, shape)) {
      ++stages;
      all.insert(stage.key());
      if (stage.stage == Stage::attention) attention.insert(stage.key());
    }
  }
  // On two paths, every chunk size in two partial dtypes, and the quadratic one.
  EXPECT_EQ(attention.size(), 2 * (chunk_sizes * 2 + 1));
  EXPECT_LT(all.size() * 2, stages) << all.size() << " distinct of " << stages;
}

TEST(PlanShapes, EveryPointIsEitherAShapeOrPrunedWithAReason) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 rng(seed);
  const std::size_t points = 2 * (1 + 3 * chunk_sizes * 4 * 2 * 2 + 2 * chunk_sizes * 4 * 2);
  for (int i = 0; i < 300; ++i) {
    const Problem problem = random_problem(rng);
    const PlanShapes shapes = plan_shapes(problem);
    std::set<PlanShape> distinct(shapes.shapes.begin(), shapes.shapes.end());
    for (const auto& [shape, reason] : shapes.pruned) {
      EXPECT_FALSE(reason.empty());
      distinct.insert(shape);
    }
    ASSERT_EQ(distinct.size(), points);
    ASSERT_EQ(shapes.shapes.size() + shapes.pruned.size(), points);
  }
}

TEST(PlanShapes, OnlyQuadraticHasNoStateToHandOver) {
  Problem problem = headline;
  EXPECT_TRUE(has_shape(problem, {.fusion = Fusion::quadratic}));
  problem.final_state = true;
  EXPECT_NE(pruned_reason(problem, {.fusion = Fusion::quadratic}).find("final"), std::string::npos);
  problem.final_state = false;
  problem.initial_state = true;
  EXPECT_NE(pruned_reason(problem, {.fusion = Fusion::quadratic}).find("initial"), std::string::npos);
  EXPECT_TRUE(has_shape(problem, fused));
}

TEST(PlanShapes, ChunksReachAsFarAsTheTokensAndNoFurther) {
  const auto chunks = [](std::int64_t t) {
    Problem problem = headline;
    problem.t = t;
    std::set<std::int64_t> found;
    for (const PlanShape& shape : plan_shapes(problem).shapes) found.insert(shape.chunk);
    return found;
  };
  EXPECT_EQ(chunks(1), (std::set<std::int64_t>{0, 64})) << "one token still needs a shape that takes and gives states";
  EXPECT_EQ(chunks(65), (std::set<std::int64_t>{0, 64, 128}));
  EXPECT_EQ(chunks(300), (std::set<std::int64_t>{0, 64, 128, 256, 384})) << "384 holds all of it, so 512 would be the same";
  EXPECT_EQ(chunks(1024), (std::set<std::int64_t>{0, 64, 128, 256, 384, 512, 768, 1024}));
  EXPECT_EQ(chunks(65536).size(), chunk_sizes + 1);
  EXPECT_EQ(chunks(65536 * 64), (std::set<std::int64_t>{0, 128, 256, 384, 512, 768, 1024, 1536, 2048, 4096})) << "65536 chunks do not fit a grid";
}

TEST(PlanShapes, DegreesDtypesAndTilesAreThoseThatTheKernelsHave) {
  const auto count = [](std::string_view text) { return plan_shapes(Problem::parse(text)).shapes.size(); };
  // Both paths: quadratic, expand_mma and update_scan in every chunk, tile, state and partial dtype, attend_query and two_kernels without partial outputs; sm80
  // materialized too, sm90 states in bf16 alone.
  const std::size_t sm80 = 1 + chunk_sizes * 4 * (3 * 2 * 2 + 2 * 2), sm90 = 1 + chunk_sizes * 4 * (2 * 2 + 2);
  EXPECT_EQ(count("b1 t65536 h8 d64 p2 bf16"), sm80 + sm90);
  EXPECT_EQ(count("b1 t65536 h8 d16 p2 bf16"), sm80 + 1);
  EXPECT_EQ(count("b1 t65536 h8 d64 p2 fp16"), 1 + chunk_sizes * 4 * 5);
  EXPECT_EQ(count("b1 t65536 h8 d64 p1 bf16 none"), 1 + chunk_sizes * (3 * 2 * 2 + 2 * 2) + 1);
  EXPECT_EQ(count("b1 t65536 h8 d64 p3 bf16 none"), sm80 + sm90);
  EXPECT_EQ(count("b1 t65536 h8 d128 p3 bf16 none"), 2);
  EXPECT_EQ(count("b1 t65536 h8 d32 p4 bf16"), sm80 + sm90);
  EXPECT_EQ(count("b1 t65536 h8 d64 p4 bf16"), 2);
  EXPECT_EQ(count("b1 t65536 h8 d64 p3 bf16 sum"), 0);
  EXPECT_NE(pruned_reason(Problem::parse("b1 t65536 h8 d64 p2 fp16"), fused).find("fp16 lacks their range"), std::string::npos);
  EXPECT_NE(pruned_reason(Problem::parse("b1 t65536 h8 d64 p3 sum"), fused).find("even p"), std::string::npos);
  EXPECT_NE(pruned_reason(Problem::parse("b1 t65536 h8 d128 p3 none"), fused).find("supported up to d 64"), std::string::npos);
}

// A fusion shares the trials of the stages that it leaves as they are, and has no partial outputs to store.
TEST(PlanShapes, AttendQueryIsExpandMmaButForItsLastStage) {
  const PlanShape shape{Fusion::attend_query, 1024, 8, Dtype::bf16, Dtype::bf16, Path::sm90};
  EXPECT_EQ(shape.text(), "attend_query c1024 d_tile8 state_bf16 sm90");
  EXPECT_EQ(PlanShape::parse(shape.text()), shape);
  EXPECT_THROW((void)PlanShape::parse("attend_query c1024 d_tile8 state_bf16 partial_bf16 sm90"), std::invalid_argument);
  EXPECT_THROW((void)PlanShape::parse("attend_query c1024 d_tile8 partial_bf16 sm90"), std::invalid_argument);
  const std::vector<StageProblem> parts = stages_of(headline, in_cores), fused_parts = stages_of(headline, shape);
  ASSERT_EQ(fused_parts.size(), 4);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NE(std::ranges::find(parts, fused_parts[i]), parts.end()) << fused_parts[i].key();
  EXPECT_EQ(fused_parts.back().key(),
            "attend_query sm90 | attend_query c1024 d_tile8 state_bf16 sm90 | forward b1 t65536 hq8 hk8 d64 e64 p2 bf16 gated sum bthd");
}

// Every path has kernels for it, and there it takes the dtypes and degrees of its path's other strategies.
TEST(PlanShapes, AttendQueryIsForEveryPath) {
  const PlanShape shape{Fusion::attend_query, 1024, 8, Dtype::bf16, Dtype::bf16, Path::sm80};
  EXPECT_EQ(shape.text(), "attend_query c1024 d_tile8 state_bf16");
  EXPECT_EQ(PlanShape::parse("attend_query c1024 d_tile8 state_bf16 sm80"), shape);
  EXPECT_EQ(why_not(headline, shape), std::nullopt);
  const std::vector<StageProblem> parts = stages_of(headline, fused), fused_parts = stages_of(headline, shape);
  ASSERT_EQ(fused_parts.size(), 4);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NE(std::ranges::find(parts, fused_parts[i]), parts.end()) << fused_parts[i].key();
  EXPECT_EQ(fused_parts.back().key(),
            "attend_query sm80 | attend_query c1024 d_tile8 state_bf16 | forward b1 t65536 hq8 hk8 d64 e64 p2 bf16 gated sum bthd");
  const Problem half = Problem::parse("b1 t65536 h8 d64 p2 fp16");
  PlanShape in_fp32 = shape;
  in_fp32.state = Dtype::fp32;
  EXPECT_EQ(why_not(half, in_fp32), std::nullopt);
  EXPECT_NE(pruned_reason(half, shape).find("fp16 lacks their range"), std::string::npos);
}

TEST(PlanShapes, UpdateScanAndTwoKernelsShareWhatTheyHaveInCommon) {
  const PlanShape scanned{Fusion::update_scan, 1024, 8, Dtype::bf16, Dtype::fp32, Path::sm90};
  const PlanShape two{Fusion::two_kernels, 1024, 8, Dtype::bf16, Dtype::bf16, Path::sm90};
  EXPECT_EQ(scanned.text(), "update_scan c1024 d_tile8 state_bf16 partial_fp32 sm90");
  EXPECT_EQ(two.text(), "two_kernels c1024 d_tile8 state_bf16 sm90");
  for (const PlanShape& shape : {scanned, two}) EXPECT_EQ(PlanShape::parse(shape.text()), shape);
  const auto keys = [](const PlanShape& shape) {
    std::vector<std::string> out;
    for (const StageProblem& stage : stages_of(headline, shape)) out.push_back(stage.key().substr(0, stage.key().find(" | forward")));
    return out;
  };
  const std::string gates = "gates sm80 | expand_mma c1024 d_tile0 state_bf16 partial_bf16";
  const std::string update = "update_scan sm90 | update_scan c1024 d_tile8 state_bf16 partial_bf16 sm90";
  EXPECT_EQ(keys(two), (std::vector<std::string>{gates, update, "attend_query sm90 | attend_query c1024 d_tile8 state_bf16 sm90"}));
  EXPECT_EQ(keys(scanned), (std::vector<std::string>{gates, "attention sm90 | expand_mma c1024 d_tile0 state_bf16 partial_fp32", update,
                                                     "query_state sm90 | expand_mma c1024 d_tile8 state_bf16 partial_fp32 sm90"}));
  PlanShape in_rows = scanned;
  in_rows.path = Path::sm80;
  EXPECT_EQ(why_not(headline, in_rows), std::nullopt);
  EXPECT_EQ(keys(in_rows), (std::vector<std::string>{gates, "attention sm80 | expand_mma c1024 d_tile0 state_bf16 partial_fp32",
                                                     "update_scan sm80 | update_scan c1024 d_tile8 state_bf16 partial_bf16",
                                                     "query_state sm80 | expand_mma c1024 d_tile8 state_bf16 partial_fp32"}));
  PlanShape two_in_rows = two;
  two_in_rows.path = Path::sm80;
  EXPECT_EQ(why_not(headline, two_in_rows), std::nullopt);
  EXPECT_EQ(keys(two_in_rows), (std::vector<std::string>{gates, "update_scan sm80 | update_scan c1024 d_tile8 state_bf16 partial_bf16",
                                                         "attend_query sm80 | attend_query c1024 d_tile8 state_bf16"}));
}

TEST(PlanShapes, HopperIsForFusedBf16StatesOfDegreeTwoAndMore) {
  const auto reason = [](std::string_view problem, PlanShape shape) {
    return why_not(Problem::parse(problem), shape).value_or("possible");
  };
  PlanShape unfused = in_cores, wide = in_cores, linear = in_cores;
  unfused.fusion = Fusion::materialized;
  wide.state = wide.partial = Dtype::fp32;
  linear.d_tile = 16;
  EXPECT_EQ(reason("b1 t65536 h8 d64 p2 bf16", in_cores), "possible");
  EXPECT_EQ(reason("b1 t65536 h8 d64 p3 bf16 none", in_cores), "possible");
  EXPECT_NE(reason("b1 t65536 h8 d64 p2 bf16", unfused).find("materialized has no kernels"), std::string::npos);
  EXPECT_NE(reason("b1 t65536 h8 d64 p2 bf16", wide).find("bf16, not fp32"), std::string::npos);
  EXPECT_NE(reason("b1 t65536 h8 d64 p2 fp16", wide).find("too coarse for fp16"), std::string::npos);
  EXPECT_NE(reason("b1 t65536 h8 d64 p1 bf16 none", linear).find("with p 1"), std::string::npos);
}

TEST(Plan, TextNamesShapeStagesAndConfigs) {
  const Problem problem = Problem::parse("b1 t128 h1 d16 p2 ungated");
  Plan plan{problem, {.fusion = Fusion::quadratic}, {}};
  plan.stages.push_back({stages_of(problem, plan.shape)[0], Config{{"warps", 4}, {"stages", 2}}});
  EXPECT_EQ(plan.text(), "quadratic : attention{stages=2 warps=4}");
}

TEST(Outcome, NamesAreReadBack) {
  for (const Outcome outcome : {Outcome::ok, Outcome::pruned, Outcome::compile_failed, Outcome::launch_failed, Outcome::wrong_result,
                                Outcome::timed_out, Outcome::unstable}) {
    EXPECT_EQ(parse_outcome(to_string(outcome)), outcome);
  }
  EXPECT_THROW((void)parse_outcome("okay"), std::invalid_argument);
}

}  // namespace
}  // namespace phitune
