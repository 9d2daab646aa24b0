// Protects the verification of stages: every real kernel, run on the CPU emulator, meets its stage's references, and a result that is wrong
// in one place does not.
#include <gtest/gtest.h>

#include <iostream>
#include <random>

#include "kernel_templates/sm80/combine.cuh"
#include "kernel_templates/sm80/expand.cuh"
#include "kernel_templates/sm80/gates.cuh"
#include "stage_oracle_cases.hpp"

namespace phitune {
namespace {

using namespace verify_test;

// Several times sixteen features, for what goes by sixteen.
Problem wide_problem() {
  Problem problem = kProblem;
  problem.d = 32;
  return problem;
}

Problem quartic_problem() {
  Problem problem = kProblem;
  problem.p = 4;
  return problem;
}

std::vector<Case> cases() {
  constexpr AttentionConfig quadratic_config = [](AttentionConfig config) {
    config.complete = true;
    return config;
  }(attention_config);
  constexpr ScanConfig core_scan_config = [](ScanConfig config) {
    config.cores = true;
    return config;
  }(scan_config);
  constexpr ScanConfig wide_core_scan_config = [](ScanConfig config) {
    config.d = 32, config.rows = 640;
    return config;
  }(core_scan_config);
  constexpr ScanConfig quartic_core_scan_config = [](ScanConfig config) {
    config.p = 4, config.d_tile = 2, config.rows = 5280;
    return config;
  }(core_scan_config);
  constexpr ScanConfig gemm_scan_config = [](ScanConfig config) {
    config.update = Storage::fp32, config.z_in_update = true;
    return config;
  }(scan_config);
  constexpr ExpandConfig key_config{.d = 16,
                                    .e = 16,
                                    .p = 2,
                                    .d_tile = 8,
                                    .input = bf16,
                                    .state = bf16,
                                    .key = true,
                                    .gated = true,
                                    .normalised = true,
                                    .threads = 128,
                                    .tokens = 8};
  constexpr ExpandConfig expand_query_config = [](ExpandConfig config) {
    config.key = config.gated = config.normalised = false;
    return config;
  }(key_config);
  constexpr CombineConfig combine_config{.e = 16, .output = bf16, .partial = bf16, .gated = true, .sum = true, .threads = 128, .unroll = 1};
  return {
      {"gates",
       stage_of(Fusion::expand_mma, Stage::gates),
       {{"heads", 1}, {"items", 1}, {"segments", 1}, {"threads", 64}},
       [](const Args& args) { gates<GatesConfig{.threads = 64, .items = 1}>(args); }},
      {"attention", stage_of(Fusion::expand_mma, Stage::attention), kAttentionKnobs,
       [](const Args& args) { attention<attention_config>(args); }},
      {"quadratic", stage_of(Fusion::quadratic, Stage::attention), kAttentionKnobs,
       [](const Args& args) { attention<quadratic_config>(args); }},
      {"update_state", stage_of(Fusion::expand_mma, Stage::update_state), kUpdateKnobs,
       [](const Args& args) { update_state<update_config>(args); }},
      {"scan", stage_of(Fusion::expand_mma, Stage::scan), kScanKnobs, [](const Args& args) { scan<scan_config>(args); }},
      {"scan_in_cores", stage_of(Fusion::expand_mma, Stage::scan, Path::sm90), kScanKnobs,
       [](const Args& args) { scan<core_scan_config>(args); }},
      {"wide_scan_in_cores", stage_of(Fusion::expand_mma, Stage::scan, Path::sm90, wide_problem()), kScanKnobs,
       [](const Args& args) { scan<wide_core_scan_config>(args); }},
      {"quartic_scan_in_cores", stage_of(Fusion::expand_mma, Stage::scan, Path::sm90, quartic_problem(), 2), kScanKnobs,
       [](const Args& args) { scan<quartic_core_scan_config>(args); }},
      {"scan_of_gemm", stage_of(Fusion::materialized, Stage::scan), kScanKnobs, [](const Args& args) { scan<gemm_scan_config>(args); }},
      {"query_state", stage_of(Fusion::expand_mma, Stage::query_state), kQueryKnobs,
       [](const Args& args) { query_state<query_config>(args); }},
      {"attend_query", stage_of(Fusion::attend_query, Stage::attend_query), kAttendQueryKnobs,
       [](const Args& args) { attend_query<attend_query_config>(args); }},
      {"expand_key",
       stage_of(Fusion::materialized, Stage::expand_key),
       {{"threads", 128}, {"tokens", 8}},
       [](const Args& args) { expand<key_config>(args); }},
      {"expand_query",
       stage_of(Fusion::materialized, Stage::expand_query),
       {{"threads", 128}, {"tokens", 8}},
       [](const Args& args) { expand<expand_query_config>(args); }},
      {"combine",
       stage_of(Fusion::materialized, Stage::combine),
       {{"threads", 128}, {"unroll", 1}},
       [](const Args& args) { combine<combine_config>(args); }},
  };
}

class StageOracle : public testing::TestWithParam<Case> {
 protected:
  void run() {
    std::cout << "seed " << seed_ << ", " << GetParam().problem.key() << std::endl;
    device_.fill_inputs(seed_);
    const StageTemplate& source = stage_template(GetParam().problem.stage, Path::sm80);
    device_.run(source.launch(GetParam().problem, config_of(GetParam(), source)), GetParam().kernel);
    checks_ = stage_checks(GetParam().problem, seed_);
  }

  std::uint64_t seed_ = std::random_device{}();
  HostDevice device_{GetParam().problem};
  std::vector<Check> checks_;
};

TEST_P(StageOracle, AcceptsTheKernel) {
  run();
  const Verdict verdict = compare(checks_, device_.reader());
  EXPECT_TRUE(verdict.ok) << verdict.reason;
  EXPECT_GE(verdict.errors.rows_checked, 6);
  std::cout << "relative l2 " << verdict.errors.relative_l2 << " of " << verdict.errors.tolerance << ", " << verdict.errors.rows_checked
            << " rows" << std::endl;
  for (const Buffer output : outputs_of(GetParam().problem)) {
    const Inspection seen = device_.inspect(output);
    EXPECT_EQ(seen.unwritten, 0u) << to_string(output) << " at " << seen.first_bad;
    EXPECT_EQ(seen.nonfinite, 0u) << to_string(output) << " at " << seen.first_bad;
  }
}

TEST_P(StageOracle, RefusesOneRowOffByAFewPercentInEveryOutput) {
  run();
  for (const Check& check : checks_) {
    for (const std::size_t which : {std::size_t{0}, check.rows.size() - 1}) {
      const CheckRow& row = check.rows[which];
      std::size_t i = 0;
      for (std::size_t n = 0; n < row.reference.size(); ++n) {
        if (std::abs(row.reference[n]) > std::abs(row.reference[i])) i = n;
      }
      if (row.reference[i] == 0) continue;
      const auto size = static_cast<std::size_t>(bytes(check.dtype));
      // Each term that the value is the sum of.
      for (int term = 0; term < row.sum_of; ++term) {
        const auto element = static_cast<std::size_t>(row.element(i) + term * row.sum_stride);
        char* at = device_.data(check.buffer) + element * size;
        std::vector<char> kept(at, at + size);
        const double wrong = decode(check.dtype, at) + 0.25 * row.reference[i];
        const float single = static_cast<float>(wrong);
        const u16 half = check.dtype == Dtype::bf16 ? float_to_bf16(single) : float_to_fp16(single);
        std::memcpy(at, check.dtype == Dtype::fp32 ? static_cast<const void*>(&single) : &half, size);
        EXPECT_FALSE(compare(checks_, device_.reader()).ok) << to_string(check.buffer) << " row " << which << " term " << term;
        std::memset(at, 0xFF, size);
        const Verdict verdict = compare(checks_, device_.reader());
        EXPECT_FALSE(verdict.ok);
        EXPECT_NE(verdict.reason.find("NaN"), std::string::npos) << verdict.reason;
        std::memcpy(at, kept.data(), size);
      }
    }
  }
  EXPECT_TRUE(compare(checks_, device_.reader()).ok);
}

TEST_P(StageOracle, InspectionFindsWhatWasNotWritten) {
  run();
  for (const Buffer output : outputs_of(GetParam().problem)) {
    const Inspection before = device_.inspect(output);
    const auto size = static_cast<std::size_t>(bytes(buffer_shape(output, GetParam().problem).dtype));
    std::memset(device_.data(output) + 5 * size, 0xFF, size);
    const Inspection after = device_.inspect(output);
    EXPECT_EQ(after.unwritten, 1u);
    EXPECT_EQ(after.first_bad, 5);
    EXPECT_NE(after.checksum, before.checksum);
  }
}

INSTANTIATE_TEST_SUITE_P(Sm80, StageOracle, testing::ValuesIn(cases()), [](const auto& c) { return std::string(c.param.name); });

}  // namespace
}  // namespace phitune
