// Which tuned plan a problem gets: the exact one, else the nearest relative that the guard allows, else none; without allocating.
#include "harness/dispatch/tuned_table.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <random>

namespace {
// Counts what this program allocates, so that the hot path can be seen to allocate nothing.
std::atomic<long> allocations{0};
}  // namespace

// Not inlined, or the compiler sees malloc and free apart from the operators that pair them.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace phitune {
namespace {

Problem problem(const std::string& text) { return Problem::parse(text); }

TunedPlan tuned(const std::string& text, const std::string& shape = "expand_mma c256 d_tile8 state_bf16 partial_bf16") {
  TunedPlan plan;
  plan.plan.problem = problem(text);
  plan.plan.shape = PlanShape::parse(shape);
  plan.set_at = "2025-01-01T00:00:00Z";
  return plan;
}

const Problem* chosen(const TunedTable& table, const std::string& text) {
  const auto found = table.find(problem(text));
  return found.plan == nullptr ? nullptr : &found.plan->plan.problem;
}

TEST(TunedTable, FindsEveryTunedProblemExactly) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  const auto pick = [&](std::int64_t low, std::int64_t high) { return std::uniform_int_distribution<std::int64_t>(low, high)(rng); };
  std::vector<TunedPlan> plans;
  for (int i = 0; i < 500; ++i) {
    TunedPlan plan = tuned("b1 t4096 h8 d64 p2 bf16 gated");
    Problem& p = plan.plan.problem;
    p.b = pick(1, 4);
    p.t = pick(1, 100000);
    p.hk = pick(1, 8);
    p.hq = p.hk * pick(1, 4);
    p.d = 16 << pick(0, 3);
    p.e = 16 << pick(0, 3);
    p.p = pick(1, 4);
    p.dtype = pick(0, 1) == 0 ? Dtype::bf16 : Dtype::fp16;
    p.gated = pick(0, 1) == 0;
    p.normalisation = pick(0, 1) == 0 ? Normalisation::sum : Normalisation::none;
    p.layout = pick(0, 1) == 0 ? Layout::bthd : Layout::bhtd;
    p.initial_state = pick(0, 1) == 0;
    p.final_state = pick(0, 1) == 0;
    plans.push_back(plan);
  }
  const TunedTable table(plans);
  for (const TunedPlan& plan : plans) {
    const auto found = table.find(plan.plan.problem);
    EXPECT_EQ(found.why, Why::exact);
    ASSERT_NE(found.plan, nullptr);
    EXPECT_EQ(found.plan->plan.problem, plan.plan.problem);
  }
}

TEST(TunedTable, TheNearestIsTheLeastRatio) {
  const TunedTable table(
      {tuned("b1 t4096 h8 d64 p2 bf16 gated"), tuned("b1 t65536 h8 d64 p2 bf16 gated"), tuned("b8 t4096 h8 d64 p2 bf16 gated")});
  EXPECT_EQ(chosen(table, "b1 t5000 h8 d64 p2 bf16 gated")->t, 4096);
  EXPECT_EQ(chosen(table, "b1 t40000 h8 d64 p2 bf16 gated")->t, 65536);
  EXPECT_EQ(chosen(table, "b6 t5000 h8 d64 p2 bf16 gated")->b, 8);
  EXPECT_EQ(table.find(problem("b6 t5000 h8 d64 p2 bf16 gated")).why, Why::nearest);
}

TEST(TunedTable, OnlyTheSameFamilyIsNear) {
  const TunedTable table({tuned("b1 t4096 hq8 hk2 d64 p2 bf16 gated")});
  EXPECT_NE(chosen(table, "b1 t4000 hq8 hk2 d64 p2 bf16 gated"), nullptr);
  EXPECT_NE(chosen(table, "b1 t4000 hq16 hk4 d64 p2 bf16 gated"), nullptr);
  for (const char* other :
       {"b1 t4000 hq8 hk4 d64 p2 bf16 gated", "b1 t4000 hq8 hk2 d32 p2 bf16 gated", "b1 t4000 hq8 hk2 d64 e32 p2 bf16 gated",
        "b1 t4000 hq8 hk2 d64 p4 bf16 gated", "b1 t4000 hq8 hk2 d64 p2 fp16 gated", "b1 t4000 hq8 hk2 d64 p2 bf16 ungated",
        "b1 t4000 hq8 hk2 d64 p2 bf16 gated none", "b1 t4000 hq8 hk2 d64 p2 bf16 gated bhtd"}) {
    EXPECT_EQ(chosen(table, other), nullptr) << other;
    EXPECT_EQ(table.find(problem(other)).why, Why::builtin) << other;
    EXPECT_NE(table.why_none(problem(other)).find("nothing is tuned for d"), std::string::npos) << other;
  }
}

TEST(TunedTable, TheGuardRefusesWhatIsTooFar) {
  const TunedTable table({tuned("b1 t4096 h8 d64 p2 bf16 gated")});
  EXPECT_NE(chosen(table, "b1 t32768 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_EQ(chosen(table, "b1 t32769 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_NE(chosen(table, "b1 t512 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_EQ(chosen(table, "b1 t511 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_NE(chosen(table, "b16 t4096 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_EQ(chosen(table, "b17 t4096 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_NE(table.why_none(problem("b17 t4096 h8 d64 p2 bf16 gated")).find("too far"), std::string::npos);
}

TEST(TunedTable, AQuadraticPlanGoesNeitherFarNorWithStates) {
  const TunedTable table({tuned("b1 t1024 h8 d64 p2 bf16 gated", "quadratic")});
  EXPECT_NE(chosen(table, "b1 t2048 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_EQ(chosen(table, "b1 t2049 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_NE(chosen(table, "b1 t128 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_EQ(chosen(table, "b1 t1024 h8 d64 p2 bf16 gated final"), nullptr);
}

TEST(TunedTable, AChunkLongerThanTheProblemIsNotTaken) {
  const TunedTable table({tuned("b1 t4096 h8 d64 p2 bf16 gated", "expand_mma c1024 d_tile8 state_bf16 partial_bf16")});
  EXPECT_NE(chosen(table, "b1 t1000 h8 d64 p2 bf16 gated"), nullptr);
  EXPECT_EQ(chosen(table, "b1 t512 h8 d64 p2 bf16 gated"), nullptr);
}

TEST(TunedTable, AFreshRelativeIsPreferredToAStaleOne) {
  TunedPlan stale = tuned("b1 t4096 h8 d64 p2 bf16 gated");
  stale.stale = true;
  const TunedTable table({stale, tuned("b1 t6000 h8 d64 p2 bf16 gated")});
  EXPECT_EQ(chosen(table, "b1 t4100 h8 d64 p2 bf16 gated")->t, 6000);
  EXPECT_EQ(chosen(table, "b1 t4096 h8 d64 p2 bf16 gated")->t, 4096);
}

TEST(TunedTable, AnotherBoardsWinnerIsNearestNotExact) {
  TunedPlan other = tuned("b1 t4096 h8 d64 p2 bf16 gated");
  other.same_device = false;
  EXPECT_EQ(TunedTable({other}).find(problem("b1 t4096 h8 d64 p2 bf16 gated")).why, Why::nearest);
  const TunedTable both({other, tuned("b1 t4096 h8 d64 p2 bf16 gated")});
  EXPECT_EQ(both.find(problem("b1 t4096 h8 d64 p2 bf16 gated")).why, Why::exact);
  EXPECT_EQ(both.plans().size(), 1U);
}

TEST(TunedTable, OfTwoWinnersTheRealAndLaterOneStays) {
  TunedPlan replayed = tuned("b1 t4096 h8 d64 p2 bf16 gated");
  replayed.device.replayed = true;
  replayed.set_at = "2026-01-01T00:00:00Z";
  TunedPlan late = tuned("b1 t4096 h8 d64 p2 bf16 gated");
  late.set_at = "2025-06-01T00:00:00Z";
  const TunedTable table({replayed, tuned("b1 t4096 h8 d64 p2 bf16 gated"), late});
  EXPECT_EQ(table.find(problem("b1 t4096 h8 d64 p2 bf16 gated")).plan->set_at, late.set_at);
}

TEST(TunedTable, ImpossibleProblemsFindNothing) {
  const TunedTable table({tuned("b1 t4096 h8 d64 p2 bf16 gated")});
  Problem nonsense = problem("b1 t4096 h8 d64 p2 bf16 gated");
  for (std::int64_t Problem::*field : {&Problem::b, &Problem::t, &Problem::hq, &Problem::hk, &Problem::d}) {
    for (const std::int64_t value : {std::int64_t{0}, std::int64_t{-5}}) {
      Problem bad = nonsense;
      bad.*field = value;
      EXPECT_EQ(table.find(bad).plan, nullptr);
    }
  }
  EXPECT_EQ(TunedTable({}).find(nonsense).why, Why::builtin);
}

TEST(TunedTable, LookingUpAllocatesNothing) {
  std::vector<TunedPlan> plans;
  for (int t = 64; t < 100000; t += 997) plans.push_back(tuned("b1 t" + std::to_string(t) + " h8 d64 p2 bf16 gated"));
  const TunedTable table(plans);
  const Problem exact = plans.front().plan.problem;
  const Problem near = problem("b2 t777 h8 d64 p2 bf16 gated");
  const Problem none = problem("b1 t777 h8 d32 p2 bf16 gated");
  const long before = allocations;
  const auto a = table.find(exact);
  const auto b = table.find(near);
  const auto c = table.find(none);
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(a.why, Why::exact);
  EXPECT_EQ(b.why, Why::nearest);
  EXPECT_EQ(c.why, Why::builtin);
}

}  // namespace
}  // namespace phitune
