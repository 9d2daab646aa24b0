// Every stage finds its template, and every header a template includes is in the binary as it is on disk.
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

TEST(Registry, EveryKernelStageHasATemplate) {
  for (const Stage stage : {Stage::gates, Stage::attention, Stage::update_state, Stage::scan, Stage::update_scan, Stage::query_state, Stage::attend_query,
                            Stage::expand_key, Stage::expand_query, Stage::combine}) {
    EXPECT_NO_THROW((void)stage_template(stage, Path::sm80)) << to_string(stage);
  }
}

TEST(Registry, EveryHopperStageHasATemplate) {
  for (const Stage stage : {Stage::attention, Stage::update_state, Stage::update_scan, Stage::query_state, Stage::attend_query})
    EXPECT_NO_THROW((void)stage_template(stage, Path::sm90)) << to_string(stage);
}

TEST(Registry, LibraryStagesHaveNoTemplate) {
  EXPECT_THROW((void)stage_template(Stage::update_gemm, Path::library), std::out_of_range);
  EXPECT_THROW((void)stage_template(Stage::query_gemm, Path::sm80), std::out_of_range);
  EXPECT_THROW((void)stage_template(Stage::scan, Path::library), std::out_of_range);
}

TEST(EmbeddedHeaders, AreTheFilesByteForByte) {
  ASSERT_FALSE(embedded_headers().empty());
  for (const EmbeddedHeader& header : embedded_headers()) {
    std::ifstream file(std::string(PHITUNE_SOURCE_DIR "/") + std::string(header.name), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    EXPECT_TRUE(file.good() && text.str() == header.text) << header.name << " differs from the file; build again";
  }
}

// Host-only headers are left to the host: they are included where NVRTC does not look.
TEST(EmbeddedHeaders, HoldWhateverTheyInclude) {
  std::set<std::string> names;
  for (const EmbeddedHeader& header : embedded_headers()) names.emplace(header.name);
  const std::regex include("#include \"([^\"]+\\.cuh)\"");
  for (const EmbeddedHeader& header : embedded_headers()) {
    const std::string text(header.text);
    for (std::sregex_iterator it(text.begin(), text.end(), include), end; it != end; ++it)
      EXPECT_TRUE(names.contains((*it)[1].str())) << header.name << " includes " << (*it)[1];
    EXPECT_FALSE(std::regex_search(text, std::regex("#include <"))) << header.name << " includes a system header, which NVRTC lacks";
  }
}

}  // namespace
}  // namespace phitune
