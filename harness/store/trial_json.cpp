#include "harness/store/trial_json.hpp"

#include <charconv>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace phitune {
namespace {

using Input = nlohmann::json;
using Output = nlohmann::ordered_json;

// JSON has no NaN and no infinities.
Output number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double number_from(const Input& value) {
  if (value.is_number()) return value.get<double>();
  const std::string text = value.get<std::string>();
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  throw std::invalid_argument("'" + text + "' is not a number");
}

// The double that prints as the few digits of a float32, when those digits read back as exactly that float32.
std::optional<double> short_float(double value) {
  const float narrow = static_cast<float>(value);
  if (!std::isfinite(narrow) || static_cast<double>(narrow) != value) return std::nullopt;
  char text[48];
  const char* end = std::to_chars(text, text + sizeof text, narrow).ptr;
  double brief = 0;
  std::from_chars(text, end, brief);
  if (static_cast<float>(brief) != narrow) return std::nullopt;
  return brief;
}

void put_samples(Output& to, const std::vector<double>& samples) {
  Output brief = Output::array();
  for (const double sample : samples) {
    const auto shorter = short_float(sample);
    if (!shorter) break;
    brief.push_back(*shorter);
  }
  if (brief.size() == samples.size()) {
    to["samples_f32"] = std::move(brief);
    return;
  }
  Output exact = Output::array();
  for (const double sample : samples) exact.push_back(number(sample));
  to["samples"] = std::move(exact);
}

std::vector<double> samples_from(const Input& from) {
  std::vector<double> samples;
  if (from.contains("samples_f32")) {
    for (const Input& value : from.at("samples_f32")) samples.push_back(static_cast<double>(static_cast<float>(value.get<double>())));
  } else {
    for (const Input& value : from.at("samples")) samples.push_back(number_from(value));
  }
  return samples;
}

Output errors_json(const Errors& errors) {
  Output json;
  json["relative_l2"] = number(errors.relative_l2);
  json["worst_row"] = number(errors.worst_row);
  json["worst_element"] = number(errors.worst_element);
  json["tolerance"] = number(errors.tolerance);
  json["rows_checked"] = errors.rows_checked;
  json["bitwise_repeatable"] = errors.bitwise_repeatable;
  return json;
}

void put_result(Output& to, const Result& result) {
  to["outcome"] = to_string(result.outcome);
  if (!result.reason.empty()) to["reason"] = result.reason;
  to["seed"] = result.seed;
  to["verify_ms"] = number(result.verify_ms);
  to["measure_ms"] = number(result.measure_ms);
  if (!result.board.empty()) to["board"] = result.board;
  if (const auto& timing = result.timing) {
    Output part;
    part["median_ms"] = number(timing->median_ms);
    part["iqr_ms"] = number(timing->iqr_ms);
    put_samples(part, timing->samples_ms);
    part["regime"] = to_string(timing->regime);
    part["sm_clock_mhz"] = number(timing->sm_clock_mhz);
    part["temperature_c"] = number(timing->temperature_c);
    part["throttle_reasons"] = timing->throttle_reasons;
    if (timing->discarded > 0) part["discarded"] = timing->discarded;
    if (!timing->sm_clocks_mhz.empty()) part["sm_clocks_mhz"] = timing->sm_clocks_mhz;
    if (const auto& beaten = timing->beaten)
      part["beaten"] = {{"by_ms", number(beaten->by_ms)}, {"low", number(beaten->low)}, {"high", number(beaten->high)}};
    to["timing"] = std::move(part);
  }
  if (result.errors) to["errors"] = errors_json(*result.errors);
  for (const InputCheck& check : result.checks)
    to["checks"].push_back(
        {{"inputs", check.inputs}, {"seed", check.seed}, {"outcome", to_string(check.outcome)}, {"errors", errors_json(check.errors)}});
}

Timing timing_from(const Input& from) {
  Timing timing;
  timing.samples_ms = samples_from(from);
  timing.median_ms = number_from(from.at("median_ms"));
  timing.iqr_ms = number_from(from.at("iqr_ms"));
  // Recordings from before there were more regimes than two say whether the cache was cold.
  timing.regime = parse_regime(from.contains("cold_l2") ? from.at("cold_l2").get<bool>() ? "flush" : "hot" : from.at("regime").get<std::string>());
  timing.sm_clock_mhz = number_from(from.at("sm_clock_mhz"));
  timing.temperature_c = number_from(from.at("temperature_c"));
  timing.throttle_reasons = from.at("throttle_reasons").get<std::string>();
  timing.discarded = from.value("discarded", 0);
  timing.sm_clocks_mhz = from.value("sm_clocks_mhz", std::vector<double>());
  if (from.contains("beaten")) {
    const Input& beaten = from.at("beaten");
    timing.beaten = Beaten{number_from(beaten.at("by_ms")), number_from(beaten.at("low")), number_from(beaten.at("high"))};
  }
  return timing;
}

Errors errors_from(const Input& from) {
  Errors errors;
  errors.relative_l2 = number_from(from.at("relative_l2"));
  errors.worst_row = number_from(from.at("worst_row"));
  errors.worst_element = number_from(from.at("worst_element"));
  errors.tolerance = number_from(from.at("tolerance"));
  errors.rows_checked = from.at("rows_checked").get<std::int64_t>();
  errors.bitwise_repeatable = from.at("bitwise_repeatable").get<bool>();
  return errors;
}

}  // namespace

Output result_json(const Result& result) {
  Output json;
  put_result(json, result);
  return json;
}

Result result_from(const Input& from) {
  Result result;
  result.outcome = parse_outcome(from.at("outcome").get<std::string>());
  result.reason = from.value("reason", std::string());
  result.seed = from.at("seed").get<std::uint64_t>();
  result.verify_ms = number_from(from.at("verify_ms"));
  result.measure_ms = number_from(from.at("measure_ms"));
  result.board = from.value("board", std::string());
  if (from.contains("timing")) result.timing = timing_from(from.at("timing"));
  if (from.contains("errors")) result.errors = errors_from(from.at("errors"));
  if (from.contains("checks"))
    for (const Input& check : from.at("checks"))
      result.checks.push_back({.inputs = check.at("inputs").get<std::string>(),
                               .seed = check.at("seed").get<std::uint64_t>(),
                               .outcome = parse_outcome(check.at("outcome").get<std::string>()),
                               .errors = errors_from(check.at("errors"))});
  return result;
}

Output resources_json(const Resources& resources) {
  Output json;
  json["registers"] = resources.registers;
  json["spill_bytes"] = resources.spill_bytes;
  json["static_shared_bytes"] = resources.static_shared_bytes;
  json["dynamic_shared_bytes"] = resources.dynamic_shared_bytes;
  json["code_bytes"] = resources.code_bytes;
  return json;
}

Resources resources_from(const Input& from) {
  Resources resources;
  resources.registers = from.at("registers").get<std::int64_t>();
  resources.spill_bytes = from.at("spill_bytes").get<std::int64_t>();
  resources.static_shared_bytes = from.at("static_shared_bytes").get<std::int64_t>();
  resources.dynamic_shared_bytes = from.at("dynamic_shared_bytes").get<std::int64_t>();
  resources.code_bytes = from.at("code_bytes").get<std::int64_t>();
  return resources;
}

Output device_json(const DeviceInfo& device) {
  Output json;
  json["name"] = device.name;
  json["uuid"] = device.uuid;
  json["compute_capability"] = device.compute_capability;
  json["architecture"] = device.architecture;
  json["multiprocessors"] = device.multiprocessors;
  json["l2_bytes"] = device.l2_bytes;
  json["memory_bytes"] = device.memory_bytes;
  json["shared_per_block"] = device.shared_per_block;
  json["shared_per_multiprocessor"] = device.shared_per_multiprocessor;
  json["registers_per_multiprocessor"] = device.registers_per_multiprocessor;
  json["driver"] = device.driver;
  json["runtime"] = device.runtime;
  json["copy_tbps"] = number(device.copy_tbps);
  json["matrix_tflops"] = number(device.matrix_tflops);
  json["replayed"] = device.replayed;
  json["emulated"] = device.emulated;
  return json;
}

DeviceInfo device_from(const Input& from) {
  DeviceInfo device;
  device.name = from.at("name").get<std::string>();
  device.uuid = from.at("uuid").get<std::string>();
  device.compute_capability = from.at("compute_capability").get<int>();
  device.architecture = from.at("architecture").get<std::string>();
  device.multiprocessors = from.at("multiprocessors").get<int>();
  device.l2_bytes = from.at("l2_bytes").get<std::int64_t>();
  device.memory_bytes = from.at("memory_bytes").get<std::int64_t>();
  device.shared_per_block = from.at("shared_per_block").get<std::int64_t>();
  device.shared_per_multiprocessor = from.at("shared_per_multiprocessor").get<std::int64_t>();
  device.registers_per_multiprocessor = from.at("registers_per_multiprocessor").get<std::int64_t>();
  device.driver = from.at("driver").get<std::string>();
  device.runtime = from.at("runtime").get<std::string>();
  device.copy_tbps = number_from(from.at("copy_tbps"));
  device.matrix_tflops = number_from(from.at("matrix_tflops"));
  device.replayed = from.at("replayed").get<bool>();
  // Recordings from before there was emulation are of GPUs.
  device.emulated = from.value("emulated", false);
  return device;
}

Output sweep_json(const SweepInfo& sweep) {
  Output json;
  json["uid"] = sweep.uid;
  json["suite"] = sweep.suite;
  json["suite_hash"] = sweep.suite_hash;
  json["strategy"] = sweep.strategy;
  json["seed"] = sweep.seed;
  json["policy"] = sweep.policy;
  json["phitune_version"] = sweep.phitune_version;
  json["nvrtc_version"] = sweep.nvrtc_version;
  json["status"] = to_string(sweep.status);
  json["reason"] = sweep.reason;
  json["started_at"] = sweep.started_at;
  json["ended_at"] = sweep.ended_at;
  return json;
}

SweepInfo sweep_from(const Input& from) {
  SweepInfo sweep;
  sweep.uid = from.at("uid").get<std::string>();
  sweep.suite = from.at("suite").get<std::string>();
  sweep.suite_hash = from.at("suite_hash").get<std::string>();
  sweep.strategy = from.at("strategy").get<std::string>();
  sweep.seed = from.at("seed").get<std::uint64_t>();
  sweep.policy = from.at("policy").get<std::string>();
  sweep.phitune_version = from.at("phitune_version").get<std::string>();
  sweep.nvrtc_version = from.at("nvrtc_version").get<std::string>();
  sweep.status = parse_sweep_status(from.at("status").get<std::string>());
  sweep.reason = from.at("reason").get<std::string>();
  sweep.started_at = from.at("started_at").get<std::string>();
  sweep.ended_at = from.at("ended_at").get<std::string>();
  return sweep;
}

Output trial_json(const Trial& trial) {
  Output json;
  json["stage_problem"] = trial.problem.key();
  json["config"] = trial.config.text();
  put_result(json, trial.result);
  if (trial.resources) json["resources"] = resources_json(*trial.resources);
  json["cubin_hash"] = trial.cubin_hash;
  json["source_hash"] = trial.source_hash;
  json["compile_ms"] = number(trial.compile_ms);
  json["cache_hit"] = trial.cache_hit;
  json["created_at"] = trial.created_at;
  if (!trial.identity.empty()) json["identity"] = trial.identity;
  if (!trial.measured_in.empty()) json["measured_in"] = trial.measured_in;
  return json;
}

Trial trial_from(const Input& from) {
  Trial trial;
  trial.problem = StageProblem::parse(from.at("stage_problem").get<std::string>());
  trial.config = Config::parse(from.at("config").get<std::string>());
  trial.result = result_from(from);
  if (from.contains("resources")) trial.resources = resources_from(from.at("resources"));
  trial.cubin_hash = from.at("cubin_hash").get<std::string>();
  trial.source_hash = from.at("source_hash").get<std::string>();
  trial.compile_ms = number_from(from.at("compile_ms"));
  trial.cache_hit = from.at("cache_hit").get<bool>();
  trial.created_at = from.at("created_at").get<std::string>();
  trial.identity = from.value("identity", std::string());
  trial.measured_in = from.value("measured_in", std::string());
  return trial;
}

Output plan_trial_json(const PlanTrial& trial) {
  Output json;
  json["problem"] = trial.plan.problem.key();
  json["shape"] = trial.plan.shape.text();
  Output stages = Output::array();
  for (std::size_t i = 0; i < trial.plan.stages.size(); ++i) {
    Output stage;
    stage["stage_problem"] = trial.plan.stages[i].problem.key();
    stage["config"] = trial.plan.stages[i].config.text();
    if (i < trial.stage_ms.size()) stage["stage_ms"] = number(trial.stage_ms[i]);
    if (i < trial.cubin_hashes.size()) stage["cubin_hash"] = trial.cubin_hashes[i];
    stages.push_back(std::move(stage));
  }
  json["stages"] = std::move(stages);
  put_result(json, trial.result);
  json["workspace_bytes"] = trial.workspace_bytes;
  if (trial.standing)
    json["standing"] = {{"low", number(trial.standing->low)}, {"high", number(trial.standing->high)}, {"tied", trial.standing->tied}};
  json["created_at"] = trial.created_at;
  return json;
}

PlanTrial plan_trial_from(const Input& from) {
  PlanTrial trial;
  trial.plan.problem = Problem::parse(from.at("problem").get<std::string>());
  trial.plan.shape = PlanShape::parse(from.at("shape").get<std::string>());
  for (const Input& stage : from.at("stages")) {
    trial.plan.stages.push_back(
        {StageProblem::parse(stage.at("stage_problem").get<std::string>()), Config::parse(stage.at("config").get<std::string>())});
    if (stage.contains("stage_ms")) trial.stage_ms.push_back(number_from(stage.at("stage_ms")));
    if (stage.contains("cubin_hash")) trial.cubin_hashes.push_back(stage.at("cubin_hash").get<std::string>());
  }
  trial.result = result_from(from);
  trial.workspace_bytes = from.at("workspace_bytes").get<std::int64_t>();
  if (from.contains("standing")) {
    const Input& standing = from.at("standing");
    trial.standing =
        Standing{.low = number_from(standing.at("low")), .high = number_from(standing.at("high")), .tied = standing.at("tied").get<bool>()};
  }
  trial.created_at = from.at("created_at").get<std::string>();
  return trial;
}

}  // namespace phitune
