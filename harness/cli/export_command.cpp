// phitune export: the tuned table and the trials in formats that other tools read.
#include <fmt/format.h>

#include <map>

#include "harness/cli/command.hpp"
#include "harness/cli/output.hpp"
#include "harness/cli/records.hpp"
#include "harness/error.hpp"
#include "reports/writers.hpp"

namespace phitune::cli {
namespace {

struct ExportFlags {
  std::string database = "phitune.db";
  std::string format = "json";
  std::string output, suite;
};

using Writer = std::string (*)(const Model&);
const std::map<std::string, Writer>& writers() {
  static const std::map<std::string, Writer> all = {
      {"json", write_json}, {"csv", write_csv}, {"trials-csv", write_trials_csv}, {"t4", write_t4}, {"header", write_header}};
  return all;
}

int run(const ExportFlags& flags) {
  Store store = open_read_only(flags.database);
  std::size_t emulated = 0;
  const Records records = without_emulation(records_of(store, flags.suite), emulated);
  if (emulated > 0 && records.sweeps.empty()) {
    throw Error(ExitCode::bad_input,
                fmt::format("{} holds nothing but CPU emulation, whose times are no GPU's, so there is nothing to export. Tune on a GPU; "
                            "phitune report shows what is there.",
                            flags.database));
  }
  if (emulated > 0) fmt::print(stderr, "left out: {} of CPU emulation\n", counted(emulated, "sweep"));
  const std::string text = writers().at(flags.format)(build_model(records, utc_now()));
  if (flags.output.empty())
    fmt::print("{}", text);
  else
    write_output(flags.output, text);
  return 0;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("export", "The tuned table as JSON, CSV or a C++ header; every trial as CSV or in the T4 format");
  auto flags = std::make_shared<ExportFlags>();
  std::vector<std::string> names;
  for (const auto& [name, writer] : writers()) names.push_back(name);
  command->add_option("--db", flags->database, "database")->capture_default_str();
  command->add_option("--format", flags->format, "json, csv, trials-csv, t4 or header")->check(CLI::IsMember(names))->capture_default_str();
  command->add_option("--output", flags->output, "file to write; standard output by default");
  command->add_option("--suite", flags->suite, "suite whose names the problems get");
  command->footer("Example: phitune export --db phitune.db --format header --output tuned.hpp");
  command->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace phitune::cli
