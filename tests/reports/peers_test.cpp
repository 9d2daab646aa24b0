// What scripts/compare_peers.py found, as reports show it: read strictly, drawn by context, escaped, and named where it was skipped.
#include "reports/peers.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "reports/charts.hpp"
#include "reports/writers.hpp"
#include "tests/reports/readers.hpp"

namespace phitune {
namespace {

using nlohmann::json;

// What the script wrote in its own test (tests/scripts/compare_peers_test.py): three contexts, and softmax ahead at the second.
json sample() { return json::parse(std::ifstream(PHITUNE_SOURCE_DIR "/tests/reports/peers.json")); }

std::string fault_of(const json& from) {
  try {
    (void)read_peers(from.dump());
    return "accepted";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

TEST(Peers, AreReadAsTheyWereWritten) {
  const Peers peers = read_peers(sample().dump());
  EXPECT_EQ(peers.device, "NVIDIA Test");
  EXPECT_EQ(peers.samples, 30);
  ASSERT_EQ(peers.results.size(), 8u);
  const PeerResult& ours = peers.results[2];
  EXPECT_EQ(ours.problem, "b1 t4096 h8 d64 p2 bf16 gated");
  EXPECT_EQ(ours.t, 4096);
  EXPECT_EQ(ours.kind, PeerKind::phitune);
  EXPECT_EQ(ours.error, 0.003);
  EXPECT_NEAR(ours.token_heads_per_s, 4096 * 8 / 0.05e-3, 1);
  EXPECT_EQ(peers.results[3].peer, "cuDNN softmax");
  EXPECT_FALSE(peers.results[3].error);
  EXPECT_EQ(phitune_ms(peers, ours.problem), 0.05);
  EXPECT_EQ(phitune_ms(peers, "another"), 0);
  ASSERT_EQ(peers.crossovers.size(), 2u);
  EXPECT_EQ(crossover_text(peers.crossovers[0]),
            "b1 h8 d64 p2 bf16 gated: phitune is ahead of softmax at every context from 65536 tokens up");
  json behind = sample();
  behind["crossovers"][0]["from_t"] = nullptr;
  EXPECT_NE(crossover_text(read_peers(behind.dump()).crossovers[0]).find("not ahead of softmax"), std::string::npos);
}

TEST(Peers, WhatIsWrongWithAFileIsNamed) {
  for (const auto& [field, value, part] : std::vector<std::tuple<std::string, json, std::string>>{
           {"median_ms", -1, "median_ms"}, {"median_ms", "fast", "type must be number"}, {"kind", "magic", "magic"}, {"t", 0, "t is 0"}}) {
    json bad = sample();
    bad["results"][1][field] = value;
    EXPECT_NE(fault_of(bad).find(part), std::string::npos) << field << ": " << fault_of(bad);
  }
  for (const char* field : {"format", "version", "results", "device", "skipped", "crossovers"}) {
    json bad = sample();
    bad.erase(field);
    EXPECT_NE(fault_of(bad).find(field), std::string::npos) << fault_of(bad);
  }
  json other = sample();
  other["version"] = 2;
  EXPECT_NE(fault_of(other).find("version 1"), std::string::npos);
  EXPECT_THROW((void)read_peers("[1, 2"), std::invalid_argument);
}

TEST(Peers, AreInThePagesWithTheirPicture) {
  Model model;
  model.peers = read_peers(sample().dump());
  const std::string page = write_html(model), text = write_markdown(model);
  EXPECT_EQ(readers::html_fault(page), "");
  for (const std::string words : {"Peers on NVIDIA Test", "throughput by context of phitune and its peers for b1 h8 d64 p2 bf16 gated",
                                  "ahead of softmax at every context from 65536", "left out by --skip", "PyTorch 2.11"})
    EXPECT_NE(page.find(words), std::string::npos) << words;
  for (const std::string words :
       {"## Peers on NVIDIA Test", "cuDNN softmax", "Flash softmax was skipped: left out by --skip", "from 65536 tokens up"})
    EXPECT_NE(text.find(words), std::string::npos) << words << " in\n" << text;
  EXPECT_EQ(write_html(Model{}).find("Peers on"), std::string::npos);
}

TEST(Peers, OneContextIsATableAndNoPicture) {
  json one = sample();
  one["results"].erase(0), one["results"].erase(0), one["results"].erase(0), one["results"].erase(0), one["results"].erase(0);
  one["crossovers"] = json::array();
  EXPECT_EQ(charts::peers(read_peers(one.dump()), "b1 h8 d64 p2 bf16 gated"), "");
  EXPECT_EQ(charts::peers(read_peers(sample().dump()), "another family"), "");
  EXPECT_NE(charts::peers(read_peers(sample().dump()), "b1 h8 d64 p2 bf16 gated").find("<svg"), std::string::npos);
}

TEST(Peers, TextFromOutsideIsEscaped) {
  json hostile = sample();
  for (auto& r : hostile["results"]) r["note"] = "<script>alert('x')</script> | \"&";
  hostile["device"] = "<b>";
  hostile["skipped"][0]["reason"] = "</table> `x` *y*";
  Model model;
  model.peers = read_peers(hostile.dump());
  EXPECT_EQ(readers::html_fault(write_html(model)), "");
  EXPECT_EQ(write_html(model).find("<script"), std::string::npos);
  EXPECT_EQ(write_markdown(model).find(" <script"), std::string::npos);
}

}  // namespace
}  // namespace phitune
