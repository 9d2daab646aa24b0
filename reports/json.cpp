// The tuned table and the plans behind it as JSON.
#include <nlohmann/json.hpp>

#include "reports/text.hpp"
#include "reports/writers.hpp"

namespace phitune {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormatVersion = 1;

/// Null where a number is not known: 0 would read as a measurement.
Json known(double value) { return value > 0 ? Json(value) : Json(nullptr); }

Json json_of(const std::map<Outcome, std::int64_t>& counts) {
  Json json = Json::object();
  for (const auto& [outcome, count] : counts) json[std::string(to_string(outcome))] = count;
  return json;
}

Json json_of(const Config& config) {
  Json json = Json::object();
  for (const auto& [knob, value] : config.values()) json[knob] = value;
  return json;
}

Json json_of(const Problem& p) {
  return {{"key", p.key()},
          {"pass", to_string(p.pass)},
          {"b", p.b},
          {"t", p.t},
          {"hq", p.hq},
          {"hk", p.hk},
          {"d", p.d},
          {"e", p.e},
          {"p", p.p},
          {"dtype", to_string(p.dtype)},
          {"gated", p.gated},
          {"normalisation", to_string(p.normalisation)},
          {"layout", to_string(p.layout)},
          {"initial_state", p.initial_state},
          {"final_state", p.final_state}};
}

Json json_of(const PlanShape& shape) {
  return {{"text", shape.text()},         {"fusion", to_string(shape.fusion)}, {"chunk", shape.chunk},
          {"d_tile", shape.d_tile},       {"state", to_string(shape.state)},   {"partial", to_string(shape.partial)},
          {"path", to_string(shape.path)}};
}

Json json_of(const DeviceInfo& d) {
  return {{"name", d.name},
          {"uuid", d.uuid},
          {"compute_capability", d.compute_capability},
          {"architecture", d.architecture},
          {"multiprocessors", d.multiprocessors},
          {"l2_bytes", d.l2_bytes},
          {"memory_bytes", d.memory_bytes},
          {"driver", d.driver},
          {"runtime", d.runtime},
          {"copy_tbps", known(d.copy_tbps)},
          {"matrix_tflops", known(d.matrix_tflops)},
          {"replayed", d.replayed},
          {"emulated", d.emulated}};
}

Json json_of(const Timing& t) {
  return {{"median_ms", t.median_ms},
          {"iqr_ms", t.iqr_ms},
          {"samples_ms", t.samples_ms},
          {"cold_l2", t.regime.cold()},
          {"regime", to_string(t.regime)},
          {"sm_clock_mhz", known(t.sm_clock_mhz)},
          {"temperature_c", known(t.temperature_c)},
          {"throttle_reasons", t.throttle_reasons}};
}

Json json_of(const Errors& e) {
  return {{"relative_l2", e.relative_l2}, {"worst_row", e.worst_row},       {"worst_element", e.worst_element},
          {"tolerance", e.tolerance},     {"rows_checked", e.rows_checked}, {"bitwise_repeatable", e.bitwise_repeatable}};
}

Json json_of(const Resources& r) {
  return {{"registers", r.registers},
          {"spill_bytes", r.spill_bytes},
          {"static_shared_bytes", r.static_shared_bytes},
          {"dynamic_shared_bytes", r.dynamic_shared_bytes},
          {"code_bytes", r.code_bytes}};
}

Json json_of(const PlanTrial& trial, const char* origin) {
  Json stages = Json::array();
  for (std::size_t i = 0; i < trial.plan.stages.size(); ++i) {
    const PlanStage& stage = trial.plan.stages[i];
    Json json = {{"stage", to_string(stage.problem.stage)}, {"path", to_string(stage.problem.path)}, {"config", json_of(stage.config)}};
    json["stage_ms"] = i < trial.stage_ms.size() ? known(trial.stage_ms[i]) : Json(nullptr);
    json["cubin"] = i < trial.cubin_hashes.size() ? Json(trial.cubin_hashes[i]) : Json(nullptr);
    stages.push_back(std::move(json));
  }
  Json checks = Json::array();
  for (const InputCheck& check : trial.result.checks)
    checks.push_back(
        {{"inputs", check.inputs}, {"seed", check.seed}, {"outcome", to_string(check.outcome)}, {"errors", json_of(check.errors)}});
  return {{"origin", origin},
          {"outcome", to_string(trial.result.outcome)},
          {"reason", trial.result.reason},
          {"shape", json_of(trial.plan.shape)},
          {"stages", stages},
          {"timing", trial.result.timing ? json_of(*trial.result.timing) : Json(nullptr)},
          {"errors", trial.result.errors ? json_of(*trial.result.errors) : Json(nullptr)},
          {"checks", checks},
          {"seed", trial.result.seed},
          {"standing",
           trial.standing
               ? Json{{"difference_low", trial.standing->low}, {"difference_high", trial.standing->high}, {"tied", trial.standing->tied}}
               : Json(nullptr)},
          {"workspace_bytes", trial.workspace_bytes},
          {"created_at", trial.created_at}};
}

Json json_of(const StageView& s) {
  return {{"stage", to_string(s.problem.stage)},
          {"path", to_string(s.problem.path)},
          {"stage_problem", s.problem.key()},
          {"config", json_of(s.config)},
          {"ms", known(s.ms)},
          {"tflops", known(s.tflops)},
          {"tbps", known(s.tbps)},
          {"resources", s.resources ? json_of(*s.resources) : Json(nullptr)},
          {"outcomes", json_of(s.outcomes)}};
}

Json json_of(const Floor& f) {
  return {
      {"ms", known(f.ms)}, {"matrix_ms", known(f.matrix_ms)}, {"memory_ms", known(f.memory_ms)}, {"bound", report_text::bound(f.bound)}};
}

Json optional(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

Json json_of(const ProblemView& view, const char* origin) {
  Json json = {{"name", view.name},
               {"problem", json_of(view.problem)},
               {"origin", origin},
               {"floor", json_of(view.floor)},
               {"time_ms", known(view.winner_ms)},
               {"time_over_floor", known(view.over_floor)},
               {"outcomes", json_of(view.outcomes)}};
  json["winner"] = view.winner ? json_of(view.winner->trial, origin) : Json(nullptr);
  if (view.winner) {
    json["winner"]["set_at"] = view.winner->set_at;
    json["winner"]["stale"] = !view.winner->stale_reason.empty();
    json["winner"]["stale_reason"] = view.winner->stale_reason;
  }
  json["winner_stages"] = Json::array();
  for (const StageView& stage : view.stages) json["winner_stages"].push_back(json_of(stage));
  json["plans"] = Json::array();
  for (const PlanView& plan : view.plans) {
    json["plans"].push_back(json_of(plan.trial, origin));
    json["plans"].back()["front"] = plan.front;
  }
  json["fusions"] = Json::array();
  for (const FusionView& f : view.fusions)
    json["fusions"].push_back({{"fusion", to_string(f.fusion)},
                               {"end_to_end_ms", optional(f.end_to_end_ms)},
                               {"estimate_ms", optional(f.composed_ms)},
                               {"why_none", f.why_none}});
  json["chunks"] = Json::array();
  for (const ChunkView& c : view.chunks)
    json["chunks"].push_back({{"fusion", to_string(c.fusion)},
                              {"chunk", c.chunk},
                              {"end_to_end_ms", optional(c.end_to_end_ms)},
                              {"estimate_ms", optional(c.composed_ms)}});
  return json;
}

Json json_of(const SweepRecord& s) {
  return {{"uid", s.uid},
          {"suite", s.suite},
          {"strategy", s.strategy},
          {"policy", s.policy},
          {"seed", s.seed},
          {"status", s.status},
          {"reason", s.reason},
          {"started_at", s.started_at},
          {"ended_at", s.ended_at},
          {"phitune_version", s.phitune_version},
          {"nvrtc_version", s.nvrtc_version},
          {"driver", s.device.driver}};
}

Json json_of(const AxisView& a) {
  Json points = Json::array();
  for (const AxisPoint& p : a.points)
    points.push_back({{"value", p.value}, {"ms", p.ms}, {"floor_ms", known(p.floor_ms)}, {"token_heads_per_s", p.token_heads_per_s}});
  return {{"axis", a.axis}, {"fixed", a.fixed}, {"points", points}};
}

Json json_of(const DeviceView& device) {
  Json json = {{"device", json_of(device.info)},
               {"origin", device.origin()},
               {"stage_trials", device.stage_trials},
               {"plan_trials", device.plan_trials},
               {"outcomes", json_of(device.outcomes)}};
  json["sweeps"] = Json::array();
  for (const SweepRecord& sweep : device.sweeps) json["sweeps"].push_back(json_of(sweep));
  json["problems"] = Json::array();
  for (const ProblemView& problem : device.problems) json["problems"].push_back(json_of(problem, device.origin()));
  json["failures"] = Json::array();
  for (const FailureView& f : device.failures)
    json["failures"].push_back({{"stage", to_string(f.stage)},
                                {"outcome", to_string(f.outcome)},
                                {"reason", f.reason},
                                {"example", f.example},
                                {"count", f.count}});
  json["axes"] = Json::array();
  for (const AxisView& axis : device.axes) json["axes"].push_back(json_of(axis));
  return json;
}

}  // namespace

std::string write_json(const Model& model) {
  Json json = {{"format", "phitune"},
               {"version", kFormatVersion},
               {"source", model.source},
               {"generated_at", model.generated_at},
               {"any_replayed", model.any_replayed()}};
  json["devices"] = Json::array();
  for (const DeviceView& device : model.devices) json["devices"].push_back(json_of(device));
  // Bytes of a compiler log that are no UTF-8 become U+FFFD instead of ending the export.
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace phitune
