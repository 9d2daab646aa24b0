#include "harness/compile/cubin.hpp"

#include <gtest/gtest.h>

#include <random>

#include "harness/compile/nvrtc.hpp"
#include "tests/harness/compile/kernels.hpp"

namespace phitune {
namespace {

NvrtcResult compile(const std::string& source, const std::string& architecture) {
  auto result = nvrtc_compile(source, {}, {"--gpu-architecture=" + architecture, "--std=c++20", "--ptxas-options=-v"});
  EXPECT_TRUE(result.ok) << result.log;
  return result;
}

/// The figure before `words` in the compiler's own log; 0 when the log does not mention it.
std::int64_t logged(const std::string& log, const std::string& words) {
  const auto end = log.find(" " + words);
  if (end == std::string::npos) return 0;
  const auto before = log.find_last_not_of("0123456789", end - 1);
  return std::stoll(log.substr(before + 1, end - before - 1));
}

struct Case {
  std::string name;
  std::string source;
  bool spills;
};

class CubinResources : public testing::TestWithParam<std::string> {};

TEST_P(CubinResources, AgreeWithTheCompilersOwnLog) {
  const std::vector<Case> cases = {{"plain", test_kernels::plain(2), false},
                                   {"dynamic shared", test_kernels::dynamic_shared(), false},
                                   {"static shared", test_kernels::heavy(8, 33, 256, 1), false},
                                   {"many registers", test_kernels::heavy(150, 512, 256, 1), false},
                                   {"spills", test_kernels::heavy(180, 1000, 256, 2), true},
                                   {"spills much", test_kernels::heavy(160, 4000, 512, 1), true}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const auto result = compile(c.source, GetParam());
    const Resources r = read_resources(result.cubin);
    EXPECT_EQ(r.registers, logged(result.log, "registers"));
    EXPECT_EQ(r.spill_bytes, logged(result.log, "bytes stack frame"));
    EXPECT_EQ(r.static_shared_bytes, logged(result.log, "bytes smem"));
    EXPECT_EQ(r.spill_bytes > 0, c.spills);
    EXPECT_GT(r.registers, 0);
    EXPECT_GT(r.code_bytes, 0);
    EXPECT_EQ(r.code_bytes % 16, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, CubinResources, testing::Values("sm_80", "sm_90a", "sm_100a", "sm_120"),
                         [](const auto& instance) { return instance.param; });

TEST(CubinHash, SeesTheMachineCodeAndNotTheTool) {
  const auto hash_of = [](const std::string& source, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--gpu-architecture=sm_90a", "--std=c++20"});
    return machine_code_hash(nvrtc_compile(source, {}, more).cubin);
  };
  const std::string hash = hash_of(test_kernels::plain(2));
  EXPECT_EQ(hash_of("// a comment\n" + test_kernels::plain(2)), hash);
  EXPECT_EQ(hash_of(test_kernels::plain(2), {"--ptxas-options=-v"}), hash) << "the tool's note about its own options is not machine code";
  EXPECT_NE(hash_of(test_kernels::plain(3)), hash);
  EXPECT_NE(hash_of(test_kernels::heavy(8, 33, 256, 1)), hash_of(test_kernels::heavy(8, 33, 128, 1))) << "launch bounds are attributes";
}

TEST(CubinFile, BrokenFilesAreRefusedWithAReason) {
  EXPECT_THROW((void)read_resources({}), std::invalid_argument);
  EXPECT_THROW((void)read_resources(std::string(4096, 'x')), std::invalid_argument);
  const auto cubin = compile(test_kernels::plain(2), "sm_90a").cubin;
  for (std::size_t size = 0; size + 1 < cubin.size(); size += 97) {
    const std::vector<char> truncated(cubin.begin(), cubin.begin() + static_cast<std::ptrdiff_t>(size));
    try {
      // The section table lies near the end, so a file cut before it cannot be read; after it, what is read must be right.
      EXPECT_EQ(read_resources(truncated), read_resources(cubin)) << "cut at " << size;
    } catch (const std::invalid_argument& e) {
      EXPECT_NE(std::string(e.what()).find("not a complete cubin"), std::string::npos);
    }
  }
}

TEST(CubinFile, RandomDamageNeverReadsOutOfBounds) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  const auto cubin = compile(test_kernels::heavy(8, 33, 256, 1), "sm_90a").cubin;
  for (int i = 0; i < 2000; ++i) {
    auto damaged = cubin;
    for (int j = 0; j < 8; ++j) damaged[rng() % damaged.size()] = static_cast<char>(rng());
    try {
      (void)read_resources(damaged);
      (void)machine_code_hash(damaged);
    } catch (const std::invalid_argument&) {
    }
  }
}

}  // namespace
}  // namespace phitune
