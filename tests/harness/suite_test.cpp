#include "harness/suite.hpp"

#include <filesystem>
#include <map>

#include <gtest/gtest.h>

#include "harness/error.hpp"

namespace phitune {
namespace {

std::string error_of(const std::string& toml) {
  try {
    return "accepted " + std::to_string(parse_suite(toml, "s.toml").problems.size());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_input);
    return error.what();
  }
}

void expect_error(const std::string& toml, const std::string& part) {
  EXPECT_NE(error_of(toml).find(part), std::string::npos) << "got: " << error_of(toml) << "\nwanted: " << part;
}

constexpr const char* one = "[[problem]]\nname = \"one\"\nb = 1\nt = 128\nh = 2\nd = 32\n";

TEST(Suite, ThePaperSuiteIsTheDocumentedTable) {
  const Suite suite = load_suite(std::filesystem::path(PHITUNE_SOURCE_DIR) / "data/suites/paper.toml");
  EXPECT_EQ(suite.name, "paper");
  std::map<std::string, std::string> keys;
  for (const SuiteProblem& problem : suite.problems) keys[problem.name] = problem.problem.key();
  const std::map<std::string, std::string> expected{
      {"headline", "forward b1 t65536 hq8 hk8 d64 e64 p2 bf16 gated sum bthd"},
      {"wide", "forward b1 t16384 hq16 hk16 d128 e128 p2 bf16 gated sum bthd"},
      {"paper-d32", "forward b8 t65536 hq12 hk12 d32 e32 p2 bf16 gated sum bthd"},
      {"paper-d64", "forward b8 t65536 hq12 hk12 d64 e64 p2 bf16 gated sum bthd"},
      {"cubic", "forward b1 t65536 hq8 hk8 d32 e32 p3 bf16 gated none bthd"},
      {"quartic", "forward b4 t8192 hq8 hk8 d16 e16 p4 bf16 gated sum bthd"},
      {"gqa", "forward b1 t32768 hq32 hk8 d128 e128 p2 bf16 gated sum bthd"},
      {"ragged", "forward b2 t10007 hq8 hk8 d64 e64 p2 fp16 ungated sum bthd"},
      {"short", "forward b16 t1024 hq16 hk16 d64 e64 p2 bf16 gated sum bthd"},
      {"linear", "forward b1 t65536 hq8 hk8 d64 e64 p1 bf16 gated none bthd"},
  };
  EXPECT_EQ(keys, expected);
  EXPECT_EQ(suite.problems.size(), 10);
}

TEST(Suite, TheHopperSuiteAddsFourHardShapes) {
  const Suite suite = load_suite(std::filesystem::path(PHITUNE_SOURCE_DIR) / "data/suites/hopper.toml");
  EXPECT_EQ(suite.name, "hopper");
  std::map<std::string, std::string> keys;
  for (const SuiteProblem& problem : suite.problems) {
    keys[problem.name] = problem.problem.key();
    EXPECT_EQ(problem.problem.invalid(), std::nullopt) << problem.name;
  }
  const std::map<std::string, std::string> expected{
      {"very-long", "forward b1 t262144 hq8 hk8 d64 e64 p2 bf16 gated sum bthd"},
      {"many-heads", "forward b1 t4096 hq32 hk32 d128 e128 p2 bf16 gated sum bthd"},
      {"many-short", "forward b64 t512 hq8 hk8 d64 e64 p2 bf16 gated sum bthd"},
      {"one-head", "forward b1 t65536 hq1 hk1 d64 e64 p2 bf16 gated sum bthd"},
  };
  EXPECT_EQ(keys, expected);
}

TEST(Suite, ListsAreAxesExpandedInFileOrder) {
  const Suite suite =
      parse_suite("p = [2, 4]\n[[problem]]\nname = \"grid\"\nt = [4096, 1024]\nh = 8\nd = 32\ngated = [true, false]\n", "s.toml");
  std::vector<std::string> names;
  for (const SuiteProblem& problem : suite.problems) names.push_back(problem.name);
  EXPECT_EQ(names, (std::vector<std::string>{"grid[p=2,t=4096,gated=true]", "grid[p=2,t=4096,gated=false]", "grid[p=2,t=1024,gated=true]",
                                             "grid[p=2,t=1024,gated=false]", "grid[p=4,t=4096,gated=true]", "grid[p=4,t=4096,gated=false]",
                                             "grid[p=4,t=1024,gated=true]", "grid[p=4,t=1024,gated=false]"}));
  const SuiteProblem& last = suite.problems.back();
  EXPECT_EQ(last.family, "grid");
  EXPECT_EQ(last.axes, (std::vector<std::pair<std::string, std::string>>{{"p", "4"}, {"t", "1024"}, {"gated", "false"}}));
  EXPECT_EQ(last.problem.key(), "forward b1 t1024 hq8 hk8 d32 e32 p4 bf16 ungated sum bthd");
}

TEST(Suite, EveryFieldIsRead) {
  const Suite suite = parse_suite(
      "name = \"mine\"\n[[problem]]\nname = \"all\"\nb = 2\nt = 77\nhq = 8\nhk = 2\nd = 32\ne = 16\np = 3\ndtype = \"fp16\"\ngated = "
      "false\n"
      "normalisation = \"none\"\nlayout = \"bhtd\"\ninitial_state = true\nfinal_state = true\n",
      "s.toml");
  EXPECT_EQ(suite.name, "mine");
  EXPECT_EQ(suite.problems.at(0).problem.key(), "forward b2 t77 hq8 hk2 d32 e16 p3 fp16 ungated none bhtd initial final");
}

TEST(Suite, AProblemOverridesTheDefaults) {
  const auto key = [](const std::string& toml) { return parse_suite(toml, "s.toml").problems.at(0).problem.key(); };
  EXPECT_EQ(key(std::string("p = 4\nd = 64\ne = 16\n") + one), "forward b1 t128 hq2 hk2 d32 e16 p4 bf16 gated sum bthd");
  EXPECT_EQ(key("h = 4\n[[problem]]\nname = \"x\"\nhq = 8\nhk = 2\n"), "forward b1 t1 hq8 hk2 d64 e64 p2 bf16 gated sum bthd");
  EXPECT_EQ(parse_suite("h = [4, 2]\n[[problem]]\nname = \"x\"\nhq = 8\nhk = 2\n", "s.toml").problems.size(), 1)
      << "an axis that was overridden";
  EXPECT_EQ(key("hq = 8\nhk = 2\n[[problem]]\nname = \"x\"\nh = 4\n"), "forward b1 t1 hq4 hk4 d64 e64 p2 bf16 gated sum bthd");
  EXPECT_EQ(key("hq = 8\nhk = 2\n[[problem]]\nname = \"x\"\nhk = 4\n"), "forward b1 t1 hq8 hk4 d64 e64 p2 bf16 gated sum bthd");
}

TEST(Suite, ATypoNamesItsPlaceAndTheNearestKey) {
  EXPECT_EQ(error_of("[[problem]]\nname = \"x\"\ndytpe = \"bf16\"\n"), "s.toml:3:1: unknown key 'dytpe': did you mean 'dtype'?");
  EXPECT_EQ(error_of(std::string("  normalization = \"sum\"\n") + one),
            "s.toml:1:3: unknown key 'normalization': did you mean 'normalisation'?");
  expect_error("[[problem]]\nname = \"x\"\ndtype = \"b16\"\n",
               "s.toml:3:9: 'b16' is not a dtype (bf16, fp16 or fp32): did you mean 'bf16'?");
  expect_error("[[probelm]]\nname = \"x\"\n", "did you mean 'problem'?");
  expect_error("[[problem]]\nname = \"x\"\nzzzzzzzzzz = 1\n", "known are b, t, h");
  expect_error("[[problem]\n", "s.toml:1:");
}

TEST(Suite, AValueOfTheWrongTypeNamesItsPlace) {
  expect_error("[[problem]]\nname = \"x\"\nt = \"long\"\n", "s.toml:3:5: 't' must be a whole number, not the text long");
  expect_error("[[problem]]\nname = \"x\"\nt = [64, 6.5]\n", "s.toml:3:10: 't' must be a whole number");
  expect_error("[[problem]]\nname = \"x\"\ngated = 1\n", "'gated' must be true or false, not 1");
  expect_error("[[problem]]\nname = \"x\"\ndtype = 16\n", "'dtype' must be a text in quotes");
  expect_error("[[problem]]\nname = 7\n", "'name' must be a text in quotes");
  expect_error("[[problem]]\nname = \"x\"\nt = []\n", "empty list");
  expect_error("[[problem]]\nname = \"x\"\nt = [64, 64]\n", "lists 64 twice");
  expect_error("[problem]\nname = \"x\"\n", "double brackets");
}

TEST(Suite, AnImpossibleShapeIsNamedWithTheReason) {
  expect_error("[[problem]]\nname = \"odd\"\np = [2, 3]\n", "problem 'odd[p=3]': normalisation sum needs an even p");
  expect_error("[[problem]]\nname = \"heads\"\nhq = 6\nhk = 4\n", "problem 'heads': hq 6 is not a multiple of hk 4");
  expect_error("[[problem]]\nname = \"x\"\nt = 0\n", "t must be at least 1");
  expect_error("[[problem]]\nname = \"x\"\nh = 2\nhq = 4\n", "gives both h and hq");
  expect_error("[[problem]]\nname = \"x\"\nhq = 4\n", "one of hq and hk");
}

TEST(Suite, NamesMustBeThereAndDiffer) {
  expect_error("[[problem]]\nt = 64\n", "s.toml:1:1: this problem has no name");
  expect_error(std::string(one) + one, "a problem named 'one' is there already");
  expect_error("[[problem]]\nname = \"a[b]\"\n", "cannot be a name");
  expect_error("", "no problems");
  expect_error("problem = []\n", "no problems");
}

TEST(Suite, TooManyProblemsAreRefusedBeforeTheyAreMade) {
  std::string list;
  for (int i = 1; i <= 200; ++i) list += std::to_string(i) + ",";
  expect_error("[[problem]]\nname = \"x\"\nt = [" + list + "]\nb = [" + list + "]\nh = [" + list + "]\n", "more than 10000 problems");
}

TEST(Suite, AMissingFileSaysSo) {
  try {
    (void)load_suite("/nowhere/at/all.toml");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::io);
    EXPECT_NE(std::string(error.what()).find("/nowhere/at/all.toml"), std::string::npos);
  }
  EXPECT_THROW((void)load_suite(std::filesystem::temp_directory_path()), Error);
}

TEST(Suite, HashIsOfWhatTheSuiteMeansNotOfHowItIsWritten) {
  const auto hash = [](const std::string& toml) { return suite_hash(parse_suite(toml, "s.toml")); };
  EXPECT_EQ(hash(one), hash(std::string("# a comment\np = 2\n") + one));
  EXPECT_NE(hash(one), hash(std::string("p = 4\n") + one));
  EXPECT_EQ(hash(one).size(), 16);
}

TEST(SuiteOf, BarsListTheValuesOfAnAxis) {
  const Suite suite = suite_of({"b1 t1024|4096 h8 d64 p2 bf16|fp16", "b2 t64 h1 d16 ungated"});
  ASSERT_EQ(suite.problems.size(), 5);
  EXPECT_EQ(suite.problems[2].name, "b1 t4096 h8 d64 p2 bf16");
  EXPECT_EQ(suite.problems[2].family, "b1 t1024|4096 h8 d64 p2 bf16|fp16");
  EXPECT_EQ(suite.problems[2].axes, (std::vector<std::pair<std::string, std::string>>{{"t", "4096"}, {"dtype", "bf16"}}));
  EXPECT_EQ(suite.problems[1].problem.key(), "forward b1 t1024 hq8 hk8 d64 e64 p2 fp16 gated sum bthd");
  EXPECT_TRUE(suite.problems[4].axes.empty());
  EXPECT_EQ(suite_of({"gated|ungated"}).problems[0].axes, (std::vector<std::pair<std::string, std::string>>{{"gated", "gated"}}));
  EXPECT_EQ(suite_of({"hq8 hk2|4 t64|t128"}).problems.back().problem.key(), "forward b1 t128 hq8 hk4 d64 e64 p2 bf16 gated sum bthd");
}

TEST(SuiteOf, AWrongWordIsNamed) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      return "accepted " + suite_of({text}).problems.at(0).name;
    } catch (const Error& error) {
      return error.what();
    }
  };
  EXPECT_NE(message("b1 tt64").find("problem \"b1 tt64\": 'tt64' is no part of a problem"), std::string::npos) << message("b1 tt64");
  EXPECT_NE(message("p3").find("even p"), std::string::npos);
  EXPECT_NE(message("").find("empty problem"), std::string::npos);
  EXPECT_NE(message("|").find("problem \"|\""), std::string::npos) << message("|");
  EXPECT_NE(message("t64|bf16").find("both t and dtype"), std::string::npos) << message("t64|bf16");
  EXPECT_NE(message("t64|t64").find("lists a value twice"), std::string::npos) << message("t64|t64");
  EXPECT_NE(message("t64|").find("two values or more"), std::string::npos) << message("t64|");
}

}  // namespace
}  // namespace phitune
