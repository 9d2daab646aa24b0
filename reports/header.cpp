// The tuned table as a C++ header: for programs that want the winners compiled in, without SQLite or phitune.
#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "reports/writers.hpp"

namespace phitune {
namespace {

/// A C++ string literal. Bytes outside printable ASCII become octal escapes, which end after three digits whatever follows.
std::string literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += std::string("\\") + c;
    else if (byte < 0x20 || byte > 0x7e || c == '?')
      out += fmt::format("\\{:03o}", byte);
    else
      out.push_back(c);
  }
  return out + "\"";
}

/// Infinities and NaN have no literal; 0 stands for "not known".
double finite(double value) { return std::isfinite(value) ? value : 0.0; }

/// Text that cannot end or extend a line comment.
std::string comment(std::string_view text) {
  std::string out;
  for (const char c : text) out.push_back(static_cast<unsigned char>(c) < 0x20 || c == '\\' ? ' ' : c);
  return out;
}

constexpr std::string_view kTypes = R"(struct Stage {
  std::string_view stage;   // "attention", ...
  std::string_view path;    // "sm80", "sm90", or "library" for cuBLASLt
  std::string_view config;  // "knob=value knob=value"
  double ms;                // its own median, alone; 0 when not known
};

struct Winner {
  std::string_view device;        // name of the GPU
  std::string_view architecture;  // "sm_90a"
  bool replayed;                  // the time is a recording's: nothing was measured when this file was written
  bool stale;                     // a kernel template has changed since
  std::string_view problem;       // canonical text
  long long b, t, hq, hk, d, e, p;
  std::string_view dtype, normalisation, layout;
  bool gated, initial_state, final_state;
  std::string_view fusion;
  long long chunk, d_tile;        // 0 for quadratic
  std::string_view state, partial, path;
  std::size_t first_stage, stage_count;  // in stages
  double time_ms;                 // median end to end
  double floor_ms;                // least time of this device; 0 when not known
  double relative_l2;             // error against float64
  long long workspace_bytes;
};
)";

constexpr std::string_view kFind = R"(
// The winner for a device and a problem's canonical text, or null. Recorded times count only when asked for; stale winners never do.
constexpr const Winner* find(std::string_view device, std::string_view problem, bool allow_replayed = false) {
  for (std::size_t i = 0; i < winners.size(); ++i)
    if (winners[i].device == device && winners[i].problem == problem && !winners[i].stale && (allow_replayed || !winners[i].replayed))
      return &winners[i];
  return nullptr;
}
)";

struct Tables {
  std::string stages, winners;
  std::size_t stage_count = 0, winner_count = 0;
};

void add_stages(Tables& tables, const PlanTrial& trial) {
  for (std::size_t i = 0; i < trial.plan.stages.size(); ++i) {
    const PlanStage& stage = trial.plan.stages[i];
    const double ms = i < trial.stage_ms.size() ? finite(trial.stage_ms[i]) : 0.0;
    tables.stages += fmt::format("    Stage{{{}, {}, {}, {}}},\n", literal(to_string(stage.problem.stage)),
                                 literal(to_string(stage.problem.path)), literal(stage.config.text()), ms);
    ++tables.stage_count;
  }
}

void add_winner(Tables& tables, const ProblemView& view, const DeviceView& device) {
  const PlanTrial& trial = view.winner->trial;
  const Problem& p = view.problem;
  const PlanShape& s = trial.plan.shape;
  tables.winners +=
      fmt::format("    // {}\n    Winner{{{}, {}, {}, {}, {},\n", comment(view.name), literal(device.info.name),
                  literal(device.info.architecture), device.info.replayed, !view.winner->stale_reason.empty(), literal(p.key()));
  tables.winners += fmt::format("           {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},\n", p.b, p.t, p.hq, p.hk, p.d, p.e, p.p,
                                literal(to_string(p.dtype)), literal(to_string(p.normalisation)), literal(to_string(p.layout)), p.gated,
                                p.initial_state, p.final_state);
  tables.winners += fmt::format("           {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}},\n", literal(to_string(s.fusion)), s.chunk,
                                s.d_tile, literal(to_string(s.state)), literal(to_string(s.partial)), literal(to_string(s.path)),
                                tables.stage_count, trial.plan.stages.size(), finite(view.winner_ms), view.floor.ms,
                                trial.result.errors ? finite(trial.result.errors->relative_l2) : 0.0, trial.workspace_bytes);
  add_stages(tables, trial);
  ++tables.winner_count;
}

}  // namespace

std::string write_header(const Model& model) {
  Tables tables;
  for (const DeviceView& device : model.devices)
    for (const ProblemView& view : device.problems)
      if (view.winner) add_winner(tables, view, device);

  std::string out = "// Winners of power attention as tuned by phitune. Generated from " + comment(model.source) + " at " +
                    comment(model.generated_at) + "; do not edit.\n";
  if (model.any_replayed()) out += "// Some of these times are REPLAYED from a recording: see Winner::replayed.\n";
  out += "#pragma once\n\n#include <array>\n#include <cstddef>\n#include <string_view>\n\nnamespace phitune_tuned {\n\n";
  out += kTypes;
  out += fmt::format("\ninline constexpr std::array<Stage, {}> stages = {{{{\n{}}}}};\n", tables.stage_count, tables.stages);
  out += fmt::format("\ninline constexpr std::array<Winner, {}> winners = {{{{\n{}}}}};\n", tables.winner_count, tables.winners);
  out += kFind;
  return out + "\n}  // namespace phitune_tuned\n";
}

}  // namespace phitune
