// The report as Markdown: readable as it stands in a terminal, and rendered in a pull request.
#include <fmt/format.h>

#include <algorithm>

#include "reports/text.hpp"
#include "reports/writers.hpp"

namespace phitune {
namespace {

namespace rt = report_text;

constexpr std::size_t kPlansShown = 8;
constexpr std::size_t kFailuresShown = 12;

/// Text for a table cell: no pipe, no line end, no markup.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\r')
      out.push_back(' ');
    else if (c == '|' || c == '*' || c == '_' || c == '`' || c == '<' || c == '[' || c == ']' || c == '\\')
      out += std::string("\\") + c;
    else
      out.push_back(c);
  }
  return out;
}

std::string row(std::initializer_list<std::string> cells) {
  std::string line = "|";
  for (const std::string& text : cells) line += " " + text + " |";
  return line + "\n";
}

std::string heading_row(std::initializer_list<std::string> names) {
  std::string line = row(names) + "|";
  for (std::size_t i = 0; i < names.size(); ++i) line += "---|";
  return line + "\n";
}

std::string device_section(const DeviceView& device) {
  const DeviceInfo& d = device.info;
  std::string out = fmt::format("## {}{}\n\n", cell(d.name), d.emulated ? " (emulated)" : d.replayed ? " (replayed)" : "");
  for (const std::string& warning : rt::warnings(device)) out += "> **Note.** " + cell(warning) + "\n\n";
  out +=
      fmt::format("{}, {} multiprocessors, {} memory, {} L2, driver {}, CUDA {}. ", d.architecture, d.multiprocessors,
                  rt::bytes(d.memory_bytes), rt::bytes(d.l2_bytes), d.driver.empty() ? "-" : d.driver, d.runtime.empty() ? "-" : d.runtime);
  if (d.matrix_tflops > 0)
    out += fmt::format("Ceilings ({}): {} TFLOP/s, {} TB/s.", device.origin(), rt::number(d.matrix_tflops), rt::number(d.copy_tbps));
  out += fmt::format("\n{} stage trials ({}), {} plans run end to end.\n\n", device.stage_trials, rt::outcomes(device.outcomes),
                     device.plan_trials);
  for (const std::string& finding : rt::findings(device)) out += "- " + cell(finding) + "\n";
  return out + "\n";
}

std::string winners_table(const DeviceView& device) {
  std::string out = fmt::format("### Winners (times {})\n\n", device.origin());
  out += heading_row({"problem", "shape", "time", "IQR", "floor", "time / floor", "floor set by", "plan", "error"});
  for (const ProblemView& view : device.problems) {
    if (!view.winner) {
      out += row({cell(view.name), cell(short_name(view.problem)), "no winner", "-", rt::ms(view.floor.ms), "-",
                  std::string(rt::bound(view.floor.bound)), "-", "-"});
      continue;
    }
    const Result& result = view.winner->trial.result;
    out +=
        row({cell(view.name), cell(short_name(view.problem)), rt::ms(view.winner_ms), result.timing ? rt::ms(result.timing->iqr_ms) : "-",
             rt::ms(view.floor.ms), rt::times(view.over_floor), std::string(rt::bound(view.floor.bound)),
             cell(view.winner->trial.plan.shape.text()), result.errors ? rt::error(result.errors->relative_l2) : "-"});
  }
  return out + "\n";
}

std::string stages_table(const ProblemView& view, const DeviceView& device) {
  if (view.stages.empty()) return {};
  std::string out = heading_row(
      {"stage of the winner", fmt::format("alone ({})", device.origin()), "TFLOP/s", "TB/s", "registers", "shared", "config", "tried"});
  for (const StageView& s : view.stages) {
    const std::string shared = s.resources ? rt::bytes(s.resources->static_shared_bytes + s.resources->dynamic_shared_bytes) : "-";
    out += row({cell(to_string(s.problem.stage)), rt::ms(s.ms), rt::number(s.tflops), rt::number(s.tbps),
                s.resources ? std::to_string(s.resources->registers) : "-", shared,
                cell(s.problem.path == Path::library ? "cuBLASLt" : s.config.text()), cell(rt::outcomes(s.outcomes))});
  }
  return out + "\n";
}

std::string fusions_table(const ProblemView& view, const DeviceView& device) {
  std::string out = heading_row({"fusion strategy", fmt::format("best end to end ({})", device.origin()), "estimate", "plan"});
  for (const FusionView& f : view.fusions) {
    const bool any = f.end_to_end_ms || f.composed_ms;
    out += row({cell(to_string(f.fusion)), rt::ms(f.end_to_end_ms.value_or(0)), rt::ms(f.composed_ms.value_or(0)),
                cell(any ? f.shape.text() : rt::first_line(f.why_none))});
  }
  return out + "\n";
}

std::string chunks_table(const ProblemView& view, const DeviceView& device) {
  if (view.chunks.size() < 2) return {};
  std::string out = heading_row({"fusion strategy", "chunk", fmt::format("best end to end ({})", device.origin()), "estimate"});
  for (const ChunkView& c : view.chunks)
    out += row({cell(to_string(c.fusion)), c.chunk == 0 ? "none" : std::to_string(c.chunk), rt::ms(c.end_to_end_ms.value_or(0)),
                rt::ms(c.composed_ms.value_or(0))});
  return out + "\n";
}

std::string plans_table(const ProblemView& view, const DeviceView& device) {
  if (view.plans.empty()) return {};
  std::string out = heading_row({"plan run end to end", fmt::format("time ({})", device.origin()), "error", "tolerance", "checked on", "outcome"});
  for (std::size_t i = 0; i < std::min(kPlansShown, view.plans.size()); ++i) {
    const PlanTrial& trial = view.plans[i].trial;
    const auto& errors = trial.result.errors;
    out += row({cell(trial.plan.shape.text()), rt::ms(time_of(trial.result).value_or(0)), errors ? rt::error(errors->relative_l2) : "-",
                errors ? rt::error(errors->tolerance) : "-", cell(rt::checked_on(trial.result)), cell(view.plans[i].verdict())});
  }
  if (view.plans.size() > kPlansShown) out += fmt::format("\n{} more plans are in the database.\n", view.plans.size() - kPlansShown);
  return out + "\n";
}

std::string problem_section(const ProblemView& view, const DeviceView& device) {
  std::string out = fmt::format("### {}\n\n{}. Stage trials that its plans can use: {}.\n\n", cell(view.name), cell(view.problem.key()),
                                cell(rt::outcomes(view.outcomes)));
  return out + stages_table(view, device) + fusions_table(view, device) + chunks_table(view, device) + plans_table(view, device);
}

std::string axes_section(const DeviceView& device) {
  std::string out;
  for (const AxisView& axis : device.axes) {
    out += fmt::format("### By {} ({}, {})\n\n", axis.axis, cell(axis.fixed), device.origin());
    out += heading_row({axis.axis, "time", "floor", "10^9 token-heads/s"});
    for (const AxisPoint& p : axis.points)
      out += row({std::to_string(p.value), rt::ms(p.ms), rt::ms(p.floor_ms), rt::number(p.token_heads_per_s * 1e-9)});
    out += "\n";
  }
  return out;
}

std::string failures_section(const DeviceView& device) {
  if (device.failures.empty()) return {};
  std::string out = "### What failed, and why\n\n" + heading_row({"trials", "stage", "outcome", "reason", "for example"});
  for (std::size_t i = 0; i < std::min(kFailuresShown, device.failures.size()); ++i) {
    const FailureView& f = device.failures[i];
    out += row({std::to_string(f.count), cell(to_string(f.stage)), cell(to_string(f.outcome)), cell(f.reason), cell(f.example)});
  }
  if (device.failures.size() > kFailuresShown)
    out += fmt::format("\n{} more kinds are in the database.\n", device.failures.size() - kFailuresShown);
  return out + "\n";
}

std::string sweeps_section(const DeviceView& device) {
  std::string out =
      "### Sweeps\n\n" + heading_row({"started", "ended", "suite", "strategy", "seed", "status", "phitune", "NVRTC", "driver"});
  for (const SweepRecord& s : device.sweeps)
    out += row({s.started_at, s.ended_at.empty() ? "-" : s.ended_at, cell(s.suite), cell(s.strategy), std::to_string(s.seed),
                cell(s.reason.empty() ? s.status : s.status + ": " + s.reason), s.phitune_version, s.nvrtc_version, s.device.driver});
  return out + "\n";
}

std::string peers_section(const Peers& peers) {
  std::string out = fmt::format("## Peers on {}\n\nTimed in one run with phitune: cold L2, medians of {} samples taken in turns",
                                cell(peers.device), peers.samples);
  for (const auto& [name, version] : peers.software) out += fmt::format("; {} {}", cell(name), cell(version));
  out += ".\n\n" + heading_row({"problem", "peer", "time (measured)", "10 % to 90 %", "/ phitune", "to the first result", "error", "note"});
  for (const PeerResult& r : peers.results) {
    const double ours = phitune_ms(peers, r.problem);
    out += row({cell(r.problem), cell(r.peer), rt::ms(r.median_ms), fmt::format("{} to {}", rt::ms(r.p10_ms), rt::ms(r.p90_ms)),
                ours > 0 ? rt::times(r.median_ms / ours) : "-", fmt::format("{:.1f} s", r.first_call_s),
                r.error ? rt::error(*r.error) : "-", cell(r.note)});
  }
  out += "\n";
  for (const PeerCrossover& crossover : peers.crossovers) out += "- " + cell(crossover_text(crossover)) + ".\n";
  for (const PeerSkipped& s : peers.skipped)
    out += fmt::format("- {} was skipped{}: {}.\n", cell(s.peer), s.problem.empty() ? "" : " on " + cell(s.problem), cell(s.reason));
  return out + "\n";
}

}  // namespace

std::string write_markdown(const Model& model) {
  std::string out =
      "# phitune report\n\nThe fastest correct power-attention kernels found, per GPU and problem, and what stands behind each number.\n";
  out += fmt::format("From {} at {}.\n\n", cell(model.source), model.generated_at);
  if (model.devices.empty()) out += "There is no sweep in this database yet. Run `phitune sweep` first.\n\n";
  for (const DeviceView& device : model.devices) {
    out += device_section(device) + winners_table(device) + axes_section(device);
    for (const ProblemView& view : device.problems) out += problem_section(view, device);
    out += failures_section(device) + sweeps_section(device);
  }
  if (model.peers) out += peers_section(*model.peers);
  out += "## How to read this\n\n";
  for (const rt::Explanation& e : rt::explanations()) out += fmt::format("- **{}**: {}\n", e.term, cell(e.text));
  return out;
}

}  // namespace phitune
