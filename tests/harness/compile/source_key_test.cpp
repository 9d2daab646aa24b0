#include "harness/compile/source_key.hpp"

#include <gtest/gtest.h>

namespace phitune {
namespace {

std::vector<EmbeddedHeader> headers(std::string_view deep = "int deep;\n") {
  return {{"t/a.cuh", "#pragma once\n#include \"t/b.cuh\"\n"}, {"t/b.cuh", deep}, {"t/unused.cuh", "int unused;\n"}};
}

std::vector<std::string> names(std::string_view source) {
  std::vector<std::string> found;
  for (const auto& header : included_headers(source, headers())) found.emplace_back(header.name);
  return found;
}

TEST(SourceKey, FollowsIncludesThroughHeaders) {
  EXPECT_EQ(names("#include \"t/a.cuh\"\nint x;\n"), (std::vector<std::string>{"t/a.cuh", "t/b.cuh"}));
  EXPECT_EQ(names("  #  include <t/b.cuh>"), std::vector<std::string>{"t/b.cuh"});
  EXPECT_EQ(names("int include; // #include \"t/a.cuh\"\n#define x\n#include"), std::vector<std::string>{});
  EXPECT_EQ(names("#include \"t/a.cuh\"\r\n#include \"t/a.cuh\"\r\n"), (std::vector<std::string>{"t/a.cuh", "t/b.cuh"}));
}

TEST(SourceKey, HeadersThatIncludeEachOtherEnd) {
  const std::vector<EmbeddedHeader> circle = {{"a", "#include \"b\"\n"}, {"b", "#include \"a\"\n"}};
  EXPECT_EQ(included_headers("#include \"a\"\n", circle).size(), 2U);
}

TEST(SourceKey, TextHashKnowsSourceAndEveryHeaderAndNothingElse) {
  const std::string source = "#include \"t/a.cuh\"\n";
  const std::string hash = template_text_hash(source, headers());
  EXPECT_EQ(template_text_hash(source, headers()), hash);
  EXPECT_NE(template_text_hash(source + " ", headers()), hash);
  EXPECT_NE(template_text_hash(source, headers("int deeper;\n")), hash);
  auto more = headers();
  more.push_back({"t/other.cuh", "int other;\n"});
  more[2].text = "int still_unused;\n";
  EXPECT_EQ(template_text_hash(source, more), hash);
}

TEST(SourceKey, CompileKeyKnowsOptionsAndCompiler) {
  const std::string key = compile_key("hash", {"--gpu-architecture=sm_90a", "--std=c++20"}, "13.0");
  EXPECT_NE(compile_key("hash", {"--gpu-architecture=sm_80", "--std=c++20"}, "13.0"), key);
  EXPECT_NE(compile_key("hash", {"--gpu-architecture=sm_90a"}, "13.0"), key);
  EXPECT_NE(compile_key("hash", {"--gpu-architecture=sm_90a", "--std=c++20"}, "13.1"), key);
  EXPECT_NE(compile_key("other", {"--gpu-architecture=sm_90a", "--std=c++20"}, "13.0"), key);
}

}  // namespace
}  // namespace phitune
