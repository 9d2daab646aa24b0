// Sweeps and checks on this CPU, end to end.
#include "tests/harness/cli/cli_fixture.hpp"

namespace phitune {
namespace {

const char* const emulated_problem = "b1 t100 h1 d16 p2 bf16 gated";

TEST_F(Cli, HostSweepsASmallProblemAndKeepsItsTimesToItself) {
  const Words sweep = {"sweep",       "--device", "host", "--problem", emulated_problem, "--trials",         "1",     "--carried", "0",
                       "--finalists", "1",        "--db", "e.db",      "--cache",        PHITUNE_TEST_CACHE, "--json"};
  const json summary = parsed(sweep);
  EXPECT_EQ(summary["device"], "host");
  EXPECT_EQ(summary["emulated"], true);
  EXPECT_TRUE(summary["problems"][0].contains("winner"));
  for (const auto& [outcome, count] : summary["outcomes"].items()) EXPECT_EQ(outcome, "ok") << count;
  const json report = parsed({"report", "--db", "e.db", "--json"});
  EXPECT_EQ(report["devices"][0]["problems"][0]["origin"], "emulated");
  for (const char* format : {"json", "csv", "trials-csv", "t4", "header"}) {
    const Finished refused = run({"export", "--db", "e.db", "--format", format});
    EXPECT_EQ(refused.code, static_cast<int>(ExitCode::bad_input)) << format;
    EXPECT_NE(refused.err.find("nothing but CPU emulation"), std::string::npos) << refused.err;
    EXPECT_TRUE(refused.out.empty());
  }
  EXPECT_EQ(run({"bench", "--db", "e.db", "--device", "host"}).code, static_cast<int>(ExitCode::usage));
  EXPECT_EQ(run({"dispatch", "--db", "e.db", "--device", "host", "--run", "--problem", emulated_problem}).code,
            static_cast<int>(ExitCode::usage));
  // Beside a recording's numbers it is left out, and said to be.
  EXPECT_EQ(run(sweep_words("e.db", {"--quiet"})).code, 0);
  const Finished mixed = run({"export", "--db", "e.db", "--format", "csv"});
  EXPECT_EQ(mixed.code, 0) << mixed.err;
  EXPECT_EQ(mixed.out.find("emulated"), std::string::npos);
  EXPECT_NE(mixed.err.find("left out: 1 sweep of CPU emulation"), std::string::npos) << mixed.err;
}

TEST_F(Cli, HostVerifiesOneConfigAndWhatIsTooLargeIsPrunedWithTheMend) {
  const Words stage = {"verify",           "--device",       "host",
                       "--problem",        emulated_problem, "--cache",
                       PHITUNE_TEST_CACHE, "--shape",        "expand_mma c64 d_tile8 state_bf16 partial_bf16",
                       "--stage",          "scan",           "--json"};
  Words right = stage;
  right.insert(right.end(), {"--config", "threads=128 unroll=2 vector=8"});
  const json found = parsed(right);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["outcome"], "ok") << found[0]["reason"];
  EXPECT_NE(found[0]["what"].get<std::string>().find("[threads=128 unroll=2 vector=8]"), std::string::npos);
  Words shorter = stage;
  shorter.insert(shorter.end(), {"--config", "threads=128"});
  const json completed = parsed(shorter);
  ASSERT_EQ(completed.size(), 1u);
  EXPECT_NE(completed[0]["what"].get<std::string>().find("[threads=128 unroll="), std::string::npos) << "knobs left out have their first values";
  Words wrong = stage;
  wrong.insert(wrong.end(), {"--config", "threads=7 unroll=2 vector=8"});
  EXPECT_EQ(run(wrong).code, static_cast<int>(ExitCode::bad_input));
  Words small_limit = stage;
  small_limit.insert(small_limit.end(), {"--emulation-limit", "0"});
  const json pruned = parsed(small_limit);
  EXPECT_EQ(pruned[0]["outcome"], "pruned");
  EXPECT_NE(pruned[0]["reason"].get<std::string>().find("--emulation-limit"), std::string::npos);
}

TEST_F(Cli, HostVerifiesARecordingsWinnersOnASmallProblem) {
  EXPECT_EQ(run(sweep_words("a.db", {"--quiet"})).code, 0);
  const json found = parsed({"verify", "--device", "host", "--db", "a.db", "--winners", "1", "--cache", PHITUNE_TEST_CACHE, "--json"});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["outcome"], "ok") << found[0]["reason"];
  EXPECT_NE(found[0]["what"].get<std::string>().find("run as"), std::string::npos);
}

}  // namespace
}  // namespace phitune
