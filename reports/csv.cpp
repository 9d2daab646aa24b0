// Tables for a spreadsheet or a data frame: RFC 4180, first row names, empty where a value is not known.
#include <fmt/format.h>

#include <string_view>
#include <vector>

#include "reports/text.hpp"
#include "reports/writers.hpp"

namespace phitune {
namespace {

std::string quoted(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out.push_back('"');
    out.push_back(c);
  }
  return out + "\"";
}

/// One row: cells are appended and quoted where they need it.
class Row {
 public:
  Row& text(std::string_view cell) {
    if (!first_) line_ += ',';
    line_ += quoted(cell);
    first_ = false;
    return *this;
  }
  Row& integer(std::int64_t cell) { return text(std::to_string(cell)); }
  /// Shortest form that reads back exactly; empty when not known.
  Row& known(double cell) { return text(cell > 0 ? fmt::format("{}", cell) : ""); }
  Row& real(double cell) { return text(fmt::format("{}", cell)); }
  Row& boolean(bool cell) { return text(cell ? "true" : "false"); }
  [[nodiscard]] std::string line() const { return line_ + "\r\n"; }

 private:
  std::string line_;
  bool first_ = true;
};

std::string header(const std::vector<std::string_view>& names) {
  Row row;
  for (const auto name : names) row.text(name);
  return row.line();
}

void add_device(Row& row, const DeviceView& device) {
  row.text(device.info.name).text(device.info.uuid).text(device.info.architecture).text(device.info.driver).text(device.origin());
}

void add_problem(Row& row, const Problem& p) {
  row.integer(p.b)
      .integer(p.t)
      .integer(p.hq)
      .integer(p.hk)
      .integer(p.d)
      .integer(p.e)
      .integer(p.p)
      .text(to_string(p.dtype))
      .boolean(p.gated);
  row.text(to_string(p.normalisation)).text(to_string(p.layout)).boolean(p.initial_state).boolean(p.final_state);
}

void add_plan(Row& row, const Plan& plan) {
  std::string configs;
  for (const PlanStage& stage : plan.stages)
    configs += fmt::format("{}{} [{}]", configs.empty() ? "" : "; ", to_string(stage.problem.stage), stage.config.text());
  row.text(to_string(plan.shape.fusion)).integer(plan.shape.chunk).integer(plan.shape.d_tile).text(to_string(plan.shape.state));
  row.text(to_string(plan.shape.partial)).text(to_string(plan.shape.path)).text(configs);
}

void add_timing(Row& row, const std::optional<Timing>& timing) {
  const Timing none;
  const Timing& t = timing ? *timing : none;
  row.known(t.median_ms);
  if (timing)
    row.real(t.iqr_ms).integer(static_cast<std::int64_t>(t.samples_ms.size())).boolean(t.regime.cold()).text(to_string(t.regime));
  else
    row.text("").text("").text("").text("");
  row.known(t.sm_clock_mhz).text(t.throttle_reasons);
}

void add_errors(Row& row, const std::optional<Errors>& errors) {
  if (errors)
    row.real(errors->relative_l2).real(errors->worst_row).real(errors->tolerance).boolean(errors->bitwise_repeatable);
  else
    row.text("").text("").text("").text("");
}

void add_resources(Row& row, const std::optional<Resources>& r) {
  if (r)
    row.integer(r->registers).integer(r->spill_bytes).integer(r->static_shared_bytes + r->dynamic_shared_bytes).integer(r->code_bytes);
  else
    row.text("").text("").text("").text("");
}

}  // namespace

std::string write_csv(const Model& model) {
  std::string out = header({"device",
                            "uuid",
                            "architecture",
                            "driver",
                            "origin",
                            "name",
                            "b",
                            "t",
                            "hq",
                            "hk",
                            "d",
                            "e",
                            "p",
                            "dtype",
                            "gated",
                            "normalisation",
                            "layout",
                            "initial_state",
                            "final_state",
                            "fusion",
                            "chunk",
                            "d_tile",
                            "state",
                            "partial",
                            "path",
                            "configs",
                            "time_ms",
                            "iqr_ms",
                            "samples",
                            "cold_l2",
                            "regime",
                            "sm_clock_mhz",
                            "throttle_reasons",
                            "relative_l2",
                            "worst_row",
                            "tolerance",
                            "bitwise_repeatable",
                            "floor_ms",
                            "time_over_floor",
                            "bound",
                            "workspace_bytes",
                            "set_at",
                            "stale_reason"});
  for (const DeviceView& device : model.devices) {
    for (const ProblemView& view : device.problems) {
      if (!view.winner) continue;
      const PlanTrial& trial = view.winner->trial;
      Row row;
      add_device(row, device);
      row.text(view.name);
      add_problem(row, view.problem);
      add_plan(row, trial.plan);
      add_timing(row, trial.result.timing);
      add_errors(row, trial.result.errors);
      row.known(view.floor.ms).known(view.over_floor).text(report_text::bound(view.floor.bound)).integer(trial.workspace_bytes);
      row.text(view.winner->set_at).text(view.winner->stale_reason);
      out += row.line();
    }
  }
  return out;
}

std::string write_trials_csv(const Model& model) {
  std::string out = header({"device",       "uuid",
                            "architecture", "driver",
                            "origin",       "stage",
                            "path",         "stage_problem",
                            "config",       "outcome",
                            "reason",       "time_ms",
                            "iqr_ms",       "samples",
                            "cold_l2",      "regime",
                            "sm_clock_mhz", "throttle_reasons",
                            "relative_l2",  "worst_row",
                            "tolerance",    "bitwise_repeatable",
                            "registers",    "local_bytes",
                            "shared_bytes", "code_bytes",
                            "compile_ms",   "cache_hit",
                            "cubin",        "created_at",
                            "beaten_low",   "beaten_high"});
  for (const DeviceView& device : model.devices) {
    for (const Trial& trial : device.trials) {
      Row row;
      add_device(row, device);
      row.text(to_string(trial.problem.stage)).text(to_string(trial.problem.path)).text(trial.problem.key()).text(trial.config.text());
      row.text(to_string(trial.result.outcome)).text(trial.result.reason);
      add_timing(row, trial.result.timing);
      add_errors(row, trial.result.errors);
      add_resources(row, trial.resources);
      row.real(trial.compile_ms).boolean(trial.cache_hit).text(trial.cubin_hash).text(trial.created_at);
      if (const auto& timing = trial.result.timing; timing && timing->beaten)
        row.real(timing->beaten->low).real(timing->beaten->high);
      else
        row.text("").text("");
      out += row.line();
    }
  }
  return out;
}

}  // namespace phitune
