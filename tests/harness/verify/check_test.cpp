// Protects the comparison with references: what is refused, what is reported, and that nothing passes unchecked.
#include "harness/verify/check.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "harness/verify/inputs.hpp"

namespace phitune {
namespace {

/// fp32 memory of one buffer.
ReadElements reader(const std::vector<float>& memory) {
  return [&memory](Buffer, std::int64_t offset, std::int64_t count, void* out) {
    ASSERT_LE(static_cast<std::size_t>(offset + count), memory.size());
    std::memcpy(out, memory.data() + offset, static_cast<std::size_t>(count) * sizeof(float));
  };
}

Check row_of(std::vector<double> reference, double condition = 0) {
  return {.buffer = Buffer::partial,
          .dtype = Dtype::fp32,
          .tolerance = {.relative_l2 = 0.01, .worst_row = 0.03},
          .rows = {{.offset = 0, .reference = std::move(reference), .condition = condition}},
          .cancels = condition > 0};
}

TEST(Compare, AcceptsWithinAndRefusesBeyondTheBound) {
  const std::vector<Check> checks{row_of({1, 2, 2, 0})};
  std::vector<float> memory{1, 2, 2, 0.029f};  // relative l2 0.0097
  EXPECT_TRUE(compare(checks, reader(memory)).ok);
  memory[3] = 0.031f;  // 0.0103: beyond the bound over all rows, within that of one row
  const Verdict verdict = compare(checks, reader(memory));
  EXPECT_FALSE(verdict.ok);
  EXPECT_NEAR(verdict.errors.relative_l2, 0.0103, 1e-4);
  EXPECT_EQ(verdict.errors.tolerance, 0.01);
  EXPECT_NE(verdict.reason.find("partial"), std::string::npos);
}

TEST(Compare, OneBadRowAmongManyGoodOnesIsRefused) {
  Check check = row_of({100, 100});
  check.rows.push_back({.offset = 2, .reference = {0.1, 0.1}});
  const std::vector<float> memory{100, 100, 0.1f, 0.105f};
  const Verdict verdict = compare({check}, reader(memory));
  EXPECT_FALSE(verdict.ok);
  EXPECT_LT(verdict.errors.relative_l2, 0.001);
  EXPECT_NEAR(verdict.errors.worst_row, 0.0354, 1e-3);
  EXPECT_NE(verdict.reason.find("element 2"), std::string::npos) << verdict.reason;
}

TEST(Compare, NanAndInfinityAreRefused) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> memory{1, bad};
    EXPECT_FALSE(compare({row_of({1, 1})}, reader(memory)).ok);
  }
}

TEST(Compare, NothingToCheckIsNotAPass) {
  EXPECT_FALSE(compare({}, reader({})).ok);
  Check empty = row_of({1});
  empty.rows.clear();
  EXPECT_FALSE(compare({empty}, reader({})).ok);
  const std::vector<float> memory{std::numeric_limits<float>::infinity()};
  EXPECT_FALSE(compare({row_of({1e300})}, reader(memory)).ok);  // fp32 cannot hold the only reference
}

TEST(Compare, StridedSumsOfTermsAreOneValueEach) {
  Check check = row_of({3, 30});
  check.rows[0].stride = 4;
  check.rows[0].sum_of = 2;
  const std::vector<float> memory{1, 2, 99, 99, 10, 20};
  const Verdict verdict = compare({check}, reader(memory));
  EXPECT_TRUE(verdict.ok) << verdict.reason;
}

// As in a denominator matrix, whose two parts of an entry are rows apart while values beside each other follow in runs.
TEST(Compare, TermsThatLieApartAreOneValueTogether) {
  Check check = row_of({11, 22, 33, 44});
  check.rows[0].stride = 3;
  check.rows[0].run = 2;
  check.rows[0].sum_of = 2;
  check.rows[0].sum_stride = 5;
  // The reader refuses what lies behind: no more is read than the last value's last term.
  std::vector<float> memory{1, 2, 99, 3, 4, 10, 20, 99, 30, 40};
  const Verdict verdict = compare({check}, reader(memory));
  EXPECT_TRUE(verdict.ok) << verdict.reason;
  for (const std::size_t term : {0, 4, 5, 9}) {
    const float right = memory[term];
    memory[term] += 5;
    EXPECT_FALSE(compare({check}, reader(memory)).ok) << "element " << term;
    memory[term] = right;
  }
  memory[2] = memory[7] = 0;
  EXPECT_TRUE(compare({check}, reader(memory)).ok) << "what lies between is not looked at";
}

TEST(Compare, InputsThatCancelAreMeasuredAgainstTheirTermsToo) {
  const std::vector<float> memory{1.5f, 0};
  EXPECT_FALSE(compare({row_of({1, 0})}, reader(memory)).ok);
  // An error of 0.5 beside terms of a million is a rounding in fp32; beside terms of a thousand it is wrong.
  const double step = 0x1p-23;
  EXPECT_TRUE(compare({row_of({1, 0}, 0.51 / (conditioning() * step))}, reader(memory)).ok);
  EXPECT_FALSE(compare({row_of({1, 0}, 0.4 / (conditioning() * step))}, reader(memory)).ok);
}

TEST(Compare, TermsOfANarrowerTypeRoundAsThatDoes) {
  const std::vector<float> memory{1.5f, 0};
  Check check = row_of({1, 0}, 0.51 / (conditioning() * epsilon(Dtype::bf16)));
  EXPECT_FALSE(compare({check}, reader(memory)).ok) << "fp32 terms of that size round by less";
  check.operands = Dtype::bf16;
  EXPECT_TRUE(compare({check}, reader(memory)).ok);
  check.rows[0].condition *= 0.8;
  EXPECT_FALSE(compare({check}, reader(memory)).ok);
}

TEST(Compare, ReportsTheBufferNearestToItsBound) {
  Check good = row_of({1});
  Check close = row_of({1});
  close.tolerance.relative_l2 = 1e-5;
  close.tolerance.worst_row = 1e-4;
  const std::vector<float> memory{1.000009f};
  const Verdict verdict = compare({good, close}, reader(memory));
  EXPECT_TRUE(verdict.ok);
  EXPECT_EQ(verdict.errors.tolerance, 1e-5);
  EXPECT_EQ(verdict.errors.rows_checked, 2);
}

}  // namespace
}  // namespace phitune
