// phitune report: what the sweeps found, as Markdown and as one self-contained HTML page.
#include <fmt/format.h>

#include "harness/cli/command.hpp"
#include "harness/cli/output.hpp"
#include "harness/cli/records.hpp"
#include "reports/writers.hpp"

namespace phitune::cli {
namespace {

struct ReportFlags {
  std::string database = "phitune.db";
  std::string markdown, html, suite;
  bool json = false;
};

int report(const ReportFlags& flags) {
  Store store = open_read_only(flags.database);
  const Model model = build_model(records_of(store, flags.suite), utc_now());
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
  command->add_flag("--json", flags->json, "print the model as JSON");
  command->footer("Example: phitune report --db phitune.db --suite data/suites/paper.toml --html report.html");
  command->callback([flags, &action] { action = [flags] { return report(*flags); }; });
}

}  // namespace phitune::cli
