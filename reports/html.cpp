// The report as one page: styles and pictures inside, nothing fetched.
#include <fmt/format.h>

#include <algorithm>

#include "reports/charts.hpp"
#include "reports/html_style.hpp"
#include "reports/svg.hpp"
#include "reports/text.hpp"
#include "reports/writers.hpp"

namespace phitune {
namespace {

namespace rt = report_text;

constexpr std::size_t kPlansShown = 12;
constexpr std::size_t kFailuresShown = 20;

/// How a column's cells stand: numbers at the right, lines unbroken.
enum class Cells { text, number, line };
struct Column {
  std::string name;
  Cells cells = Cells::text;
};

std::string_view attribute(Cells cells) { return cells == Cells::number ? " class=\"n\"" : cells == Cells::line ? " class=\"u\"" : ""; }

/// Rows of cells; text is escaped here and nowhere else.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {
    body_ = "<div class=\"wide\"><table>\n<tr>";
    for (const Column& c : columns_) body_ += fmt::format("<th{}>{}</th>", attribute(c.cells), escape_html(c.name));
    body_ += "</tr>\n";
  }
  void row(const std::vector<std::string>& cells, bool won = false) {
    body_ += won ? "<tr class=\"won\">" : "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i)
      body_ += fmt::format("<td{}>{}</td>", attribute(columns_.at(i).cells), escape_html(cells[i]));
    body_ += "</tr>\n";
  }
  [[nodiscard]] std::string str() const { return body_ + "</table></div>\n"; }

 private:
  std::vector<Column> columns_;
  std::string body_;
};

std::string paragraph(std::string_view text, std::string_view style = "soft") {
  return fmt::format("<p class=\"{}\">{}</p>\n", style, escape_html(text));
}

std::string figure(std::string_view caption, const std::string& svg) {
  return svg.empty() ? std::string() : fmt::format("<figure><figcaption>{}</figcaption>\n{}</figure>\n", escape_html(caption), svg);
}

std::string tile(const std::string& value, std::string_view meaning) {
  return fmt::format("<div class=\"tile\"><b>{}</b><span>{}</span></div>\n", escape_html(value), escape_html(meaning));
}

/// The middle of the winners' distances from their floors; 0 when there are none.
double median_over_floor(const DeviceView& device) {
  std::vector<double> values;
  for (const ProblemView& view : device.problems)
    if (view.over_floor > 0) values.push_back(view.over_floor);
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::string tiles(const DeviceView& device) {
  const auto won = std::count_if(device.problems.begin(), device.problems.end(), [](const auto& v) { return v.winner.has_value(); });
  const auto ok = device.outcomes.find(Outcome::ok);
  const auto right = ok == device.outcomes.end() ? 0 : ok->second;
  std::string out =
      "<div class=\"tiles\">\n" + tile(fmt::format("{} of {}", won, device.problems.size()), "problems with a verified winner");
  out += tile(rt::times(median_over_floor(device)), "median time / floor");
  out += tile(fmt::format("{}", device.stage_trials), fmt::format("kernels tried, {} of them right", right));
  out += tile(fmt::format("{}", device.plan_trials), "plans run end to end");
  if (device.info.matrix_tflops > 0)
    out += tile(rt::number(device.info.matrix_tflops) + " TFLOP/s", fmt::format("matrix rate, {}", device.origin()));
  if (device.info.copy_tbps > 0)
    out += tile(rt::number(device.info.copy_tbps) + " TB/s", fmt::format("copy bandwidth, {}", device.origin()));
  return out + "</div>\n";
}

std::string device_head(const DeviceView& device) {
  const DeviceInfo& d = device.info;
  std::string out = fmt::format("<h2>{}{}</h2>\n", escape_html(d.name),
                                d.emulated || d.replayed ? fmt::format(" <span class=\"tag\">{}</span>", device.origin()) : "");
  for (const std::string& warning : rt::warnings(device)) out += paragraph(warning, "note");
  out += paragraph(fmt::format("{}, {} multiprocessors, {} memory, {} L2, driver {}, CUDA {}.", d.architecture, d.multiprocessors,
                               rt::bytes(d.memory_bytes), rt::bytes(d.l2_bytes), d.driver.empty() ? "not known" : d.driver,
                               d.runtime.empty() ? "not known" : d.runtime));
  out += tiles(device) + "<ul>\n";
  for (const std::string& finding : rt::findings(device)) out += fmt::format("<li>{}</li>\n", escape_html(finding));
  return out + "</ul>\n";
}

/// One word for a narrow column.
std::string short_bound(Bound bound) { return bound == Bound::unknown ? "-" : bound == Bound::matrix ? "matrix" : "memory"; }

std::string winners(const DeviceView& device) {
  Table table({{"problem", Cells::line},
               {"shape", Cells::line},
               {fmt::format("time ({})", device.origin()), Cells::number},
               {"IQR", Cells::number},
               {"floor", Cells::number},
               {"set by"},
               {"time / floor", Cells::number},
               {"error", Cells::number},
               {"plan"}});
  for (const ProblemView& view : device.problems) {
    const std::string floor = rt::ms(view.floor.ms), bound = short_bound(view.floor.bound);
    if (!view.winner) {
      table.row({view.name, short_name(view.problem), "no winner", "", floor, bound, "", "", ""});
      continue;
    }
    const Result& result = view.winner->trial.result;
    const std::string spread = result.timing ? fmt::format("{:.1f} %", 100 * result.timing->iqr_ms / result.timing->median_ms) : "-";
    table.row({view.name, short_name(view.problem), rt::ms(view.winner_ms), spread, floor, bound, rt::times(view.over_floor),
               result.errors ? rt::error(result.errors->relative_l2) : "-", view.winner->trial.plan.shape.text()});
  }
  return table.str();
}

std::string stage_table(const ProblemView& view, const DeviceView& device) {
  if (view.stages.empty()) return {};
  Table table({{"stage of the winner"},
               {fmt::format("alone ({})", device.origin()), Cells::number},
               {"TFLOP/s", Cells::number},
               {"TB/s", Cells::number},
               {"registers", Cells::number},
               {"shared", Cells::number},
               {"config"},
               {"candidates tried"}});
  for (const StageView& s : view.stages) {
    const std::string shared = s.resources ? rt::bytes(s.resources->static_shared_bytes + s.resources->dynamic_shared_bytes) : "-";
    table.row({std::string(to_string(s.problem.stage)), rt::ms(s.ms), rt::number(s.tflops), rt::number(s.tbps),
               s.resources ? std::to_string(s.resources->registers) : "-", shared,
               s.problem.path == Path::library ? "cuBLASLt" : s.config.text(), rt::outcomes(s.outcomes)});
  }
  return table.str();
}

std::string plan_table(const ProblemView& view, const DeviceView& device) {
  if (view.plans.empty()) return {};
  Table table({{"plan run end to end"},
               {fmt::format("time ({})", device.origin()), Cells::number},
               {"IQR", Cells::number},
               {"samples", Cells::number},
               {"error", Cells::number},
               {"worst row", Cells::number},
               {"worst element (eps)", Cells::number},
               {"tolerance", Cells::number},
               {"checked on"},
               {"outcome"}});
  for (std::size_t i = 0; i < std::min(kPlansShown, view.plans.size()); ++i) {
    const PlanView& plan = view.plans[i];
    const Result& r = plan.trial.result;
    table.row({plan.trial.plan.shape.text(), rt::ms(time_of(r).value_or(0)), r.timing ? rt::ms(r.timing->iqr_ms) : "-",
               r.timing ? std::to_string(r.timing->samples_ms.size()) : "-", r.errors ? rt::error(r.errors->relative_l2) : "-",
               r.errors ? rt::error(r.errors->worst_row) : "-", r.errors ? rt::number(r.errors->worst_element) : "-",
               r.errors ? rt::error(r.errors->tolerance) : "-", rt::checked_on(r), plan.verdict()},
              plan.winner);
  }
  std::string out = table.str();
  if (view.plans.size() > kPlansShown) out += paragraph(fmt::format("{} more plans are in the database.", view.plans.size() - kPlansShown));
  return out;
}

std::string problem_section(const ProblemView& view, const DeviceView& device, bool open) {
  const std::string time = view.winner_ms > 0
                               ? fmt::format("{} ({}), {} its floor", rt::ms(view.winner_ms), device.origin(), rt::times(view.over_floor))
                               : "no winner";
  std::string out = fmt::format("<details{}><summary><b>{}</b><span class=\"soft\">{}</span></summary>\n", open ? " open" : "",
                                escape_html(view.name), escape_html(time));
  out += paragraph(view.problem.key() + ". Trials of stages that its plans can use: " + rt::outcomes(view.outcomes) + ".");
  if (view.winner && !view.winner->stale_reason.empty()) out += paragraph("Stale: " + view.winner->stale_reason, "note");
  out += stage_table(view, device) + "<div class=\"pictures\">\n";
  out += figure("Fusion strategies: the best of each", charts::fusions(view, device)) +
         figure("Time by chunk size", charts::chunks(view, device)) + figure("Error against time", charts::errors(view, device));
  return out + "</div>\n" + plan_table(view, device) + "</details>\n";
}

std::string axes(const DeviceView& device) {
  if (device.axes.empty()) return {};
  std::string out = "<h3>Throughput along an axis</h3>\n<div class=\"pictures\">\n";
  for (const AxisView& axis : device.axes) out += figure(fmt::format("By {}: {}", axis.axis, axis.fixed), charts::axis(axis, device));
  return out + "</div>\n";
}

std::string failures(const DeviceView& device) {
  if (device.failures.empty()) return {};
  Table table({{"trials", Cells::number}, {"stage"}, {"outcome"}, {"reason"}, {"for example"}});
  for (std::size_t i = 0; i < std::min(kFailuresShown, device.failures.size()); ++i) {
    const FailureView& f = device.failures[i];
    table.row({std::to_string(f.count), std::string(to_string(f.stage)), std::string(to_string(f.outcome)), f.reason, f.example});
  }
  std::string out = "<h3>What failed, and why</h3>\n" + table.str();
  if (device.failures.size() > kFailuresShown)
    out += paragraph(fmt::format("{} more kinds are in the database.", device.failures.size() - kFailuresShown));
  return out;
}

std::string sweeps(const DeviceView& device) {
  Table table({{"started"}, {"ended"}, {"suite"}, {"strategy"}, {"seed", Cells::number}, {"status"}, {"phitune"}, {"NVRTC"}, {"driver"}});
  for (const SweepRecord& s : device.sweeps)
    table.row({s.started_at, s.ended_at, s.suite, s.strategy, std::to_string(s.seed),
               s.reason.empty() ? s.status : s.status + ": " + s.reason, s.phitune_version, s.nvrtc_version, s.device.driver});
  return "<h3>Sweeps behind these numbers</h3>\n" + table.str();
}

std::string device_section(const DeviceView& device) {
  std::string out = device_head(device);
  out += figure("Time over floor: how far each winner is from what the device could do", charts::over_floor(device)) +
         "<h3>Winners</h3>\n" + winners(device);
  out += figure("Where the winners' time goes", charts::stages(device)) + axes(device) + "<h3>Problem by problem</h3>\n";
  for (std::size_t i = 0; i < device.problems.size(); ++i) out += problem_section(device.problems[i], device, i == 0);
  return out + failures(device) + sweeps(device);
}

std::string peers_section(const Peers& peers) {
  std::string software;
  for (const auto& [name, version] : peers.software) software += fmt::format("{}{} {}", software.empty() ? "" : ", ", name, version);
  std::string out = fmt::format("<h2>Peers on {}</h2>\n", escape_html(peers.device));
  out +=
      paragraph(fmt::format("What a user would run instead, timed in one run with phitune: cold L2, medians of {} samples taken in turns, "
                            "10th to 90th percentile "
                            "beside them. Softmax attention has no gates and another formula. {}; {}.",
                            peers.samples, software, peers.generated_at));
  std::vector<std::string> families;
  for (const PeerResult& result : peers.results)
    if (std::ranges::find(families, result.family) == families.end()) families.push_back(result.family);
  out += "<div class=\"pictures\">\n";
  for (const std::string& family : families) out += figure("Throughput by context: " + family, charts::peers(peers, family));
  out += "</div>\n";
  if (!peers.crossovers.empty()) {
    out += "<ul>\n";
    for (const PeerCrossover& crossover : peers.crossovers) out += fmt::format("<li>{}.</li>\n", escape_html(crossover_text(crossover)));
    out += "</ul>\n";
  }
  Table table({{"problem", Cells::line},
               {"peer", Cells::line},
               {"time (measured)", Cells::number},
               {"10 % to 90 %", Cells::number},
               {"/ phitune", Cells::number},
               {"to the first result", Cells::number},
               {"error", Cells::number},
               {"note"}});
  for (const PeerResult& r : peers.results) {
    const double ours = phitune_ms(peers, r.problem);
    table.row({r.problem, r.peer, rt::ms(r.median_ms), fmt::format("{} to {}", rt::ms(r.p10_ms), rt::ms(r.p90_ms)),
               ours > 0 ? rt::times(r.median_ms / ours) : "-", fmt::format("{:.1f} s", r.first_call_s), r.error ? rt::error(*r.error) : "-",
               r.note},
              r.kind == PeerKind::phitune);
  }
  out += table.str();
  if (peers.skipped.empty()) return out;
  Table skipped({{"skipped", Cells::line}, {"problem", Cells::line}, {"because"}});
  for (const PeerSkipped& s : peers.skipped) skipped.row({s.peer, s.problem.empty() ? "all" : s.problem, s.reason});
  return out + skipped.str();
}

std::string glossary() {
  std::string out = "<h2>How to read this</h2>\n<dl>\n";
  for (const rt::Explanation& e : rt::explanations())
    out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape_html(e.term), escape_html(e.text));
  return out + "</dl>\n";
}

}  // namespace

std::string write_html(const Model& model) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n";
  out += "<title>phitune report</title>\n<style>" + std::string(html_style) + "</style>\n</head>\n<body>\n<h1>phitune report</h1>\n";
  out += paragraph(
      "The fastest correct power-attention kernels found, per GPU and problem, and what stands behind each number. Words are explained at "
      "the end.",
      "");
  out += paragraph(fmt::format("From {} at {}.", model.source, model.generated_at));
  if (model.devices.empty()) out += paragraph("There is no sweep in this database yet. Run phitune sweep first.", "note");
  for (const DeviceView& device : model.devices) out += device_section(device);
  if (model.peers) out += peers_section(*model.peers);
  return out + glossary() + "</body>\n</html>\n";
}

}  // namespace phitune
