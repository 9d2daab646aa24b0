// docs/cli.md names what the binary has, and nothing else.
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "harness/error.hpp"
#include "tests/harness/cli/process.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace phitune {
namespace {

std::set<std::string> matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern, std::regex::ECMAScript | std::regex::multiline);
  std::set<std::string> found;
  for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match) found.insert((*match)[1]);
  return found;
}

class CliDocs : public testing::Test {
 protected:
  [[nodiscard]] std::string help(std::vector<std::string> command) const {
    command.emplace_back("--help");
    return testing_support::run(command, folder_.path()).out;
  }
  // The lines between "Subcommands:" and the next empty one.
  [[nodiscard]] std::set<std::string> subcommands(const std::vector<std::string>& command) const {
    const std::string text = help(command);
    const std::size_t from = text.find("Subcommands:");
    return from == std::string::npos ? std::set<std::string>() : matches(text.substr(from, text.find("\n\n", from) - from), "^  ([a-z]+)");
  }
  // From the command's heading to the next one.
  [[nodiscard]] std::string section(const std::string& command) const {
    const std::size_t from = docs.find("\n### `phitune " + command + "`\n");
    return from == std::string::npos ? "" : docs.substr(from, docs.find("\n#", from + 2) - from);
  }

  const std::string docs = testing_support::read_text(std::filesystem::path(PHITUNE_SOURCE_DIR) / "docs/cli.md");

 private:
  testing_support::TemporaryFolder folder_;
};

TEST_F(CliDocs, EveryCommandHasItsSectionWithItsOptionsAndAnExample) {
  const std::set<std::string> commands = subcommands({});
  EXPECT_EQ(commands.size(), 10u);
  EXPECT_EQ(matches(docs, "^### `phitune ([a-z]+)`$"), commands);
  for (const std::string& command : commands) {
    const std::string text = section(command);
    EXPECT_NE(text.find("\n    phitune " + command + " "), std::string::npos) << command << " has no example";
    std::string helps = help({command});
    for (const std::string& sub : subcommands({command})) {
      EXPECT_NE(text.find("`phitune " + command + " " + sub), std::string::npos) << command << " " << sub;
      helps += help({command, sub});
    }
    std::set<std::string> options = matches(helps, "^  (--[a-z-]+)");
    const std::set<std::string> named = matches(text, "(--[a-z][a-z-]+)");
    EXPECT_FALSE(options.empty()) << command;
    for (const std::string& option : options) EXPECT_TRUE(named.contains(option)) << command << ": " << option << " is not in docs/cli.md";
    for (const std::string& option : named) EXPECT_TRUE(options.contains(option)) << command << " has no " << option;
  }
}

TEST_F(CliDocs, EveryExitCodeIsNamed) {
  std::set<std::string> codes;
  for (const ExitCode code :
       {ExitCode::ok, ExitCode::failed, ExitCode::usage, ExitCode::bad_input, ExitCode::no_device, ExitCode::io, ExitCode::interrupted})
    codes.insert(std::to_string(static_cast<int>(code)));
  EXPECT_EQ(matches(docs.substr(docs.find("## Exit codes")), "^\\| ([0-9]+) \\|"), codes);
}

}  // namespace
}  // namespace phitune
