// phitune report: what the sweeps found, as Markdown and as one self-contained HTML page.
#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "harness/cli/command.hpp"
#include "harness/cli/output.hpp"
#include "harness/cli/records.hpp"
#include "harness/error.hpp"
#include "reports/writers.hpp"

namespace phitune::cli {
namespace {

struct ReportFlags {
  std::string database = "phitune.db";
  std::string markdown, html, suite, peers;
  bool json = false;
};

Peers peers_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.good() && text.empty()) throw Error(ExitCode::io, fmt::format("cannot read {}", path));
  try {
    return read_peers(text);
  } catch (const std::invalid_argument& error) {
    throw Error(ExitCode::bad_input, fmt::format("{} is not what scripts/compare_peers.py --json writes: {}", path, error.what()));
  }
}

int report(const ReportFlags& flags) {
  Store store = open_read_only(flags.database);
  Model model = build_model(records_of(store, flags.suite), utc_now());
  if (!flags.peers.empty()) model.peers = peers_of(flags.peers);
  if (!flags.markdown.empty()) write_output(flags.markdown, write_markdown(model));
  if (!flags.html.empty()) write_output(flags.html, write_html(model));
  if (flags.json)
    fmt::print("{}", write_json(model));
  else if (flags.markdown.empty() && flags.html.empty())
    fmt::print("{}", write_markdown(model));
  return 0;
}

}  // namespace

void add_report(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "report", "Winners, time over floor, stages, fusion strategies, chunk sizes, errors, failures; Markdown to the terminal by default");
  auto flags = std::make_shared<ReportFlags>();
  command->add_option("--db", flags->database, "database")->capture_default_str();
  command->add_option("--markdown", flags->markdown, "write Markdown here");
  command->add_option("--html", flags->html, "write one self-contained HTML page here");
  command->add_option("--suite", flags->suite, "suite whose names the problems get");
  command->add_option("--peers", flags->peers, "what scripts/compare_peers.py --json wrote: its table and picture go into the pages");
  command->add_flag("--json", flags->json, "print the model as JSON");
  command->footer("Example: phitune report --db phitune.db --suite data/suites/paper.toml --html report.html");
  command->callback([flags, &action] { action = [flags] { return report(*flags); }; });
}

}  // namespace phitune::cli
