// The nouns that trials refer to: devices, sweeps, problems, stage problems, plans.
#include "harness/compile/sha256.hpp"
#include "harness/store/rows.hpp"
#include "harness/store/store_state.hpp"

namespace phitune {
namespace {

constexpr const char* device_columns =
    "device.uuid, device.name, device.architecture, device.compute_capability, device.multiprocessors, device.l2_bytes, "
    "device.memory_bytes, "
    "device.shared_per_block, device.shared_per_multiprocessor, device.registers_per_multiprocessor, device.replayed, device.emulated";

DeviceInfo read_device(Reader& from) {
  DeviceInfo device;
  device.uuid = from.text();
  device.name = from.text();
  device.architecture = from.text();
  device.compute_capability = static_cast<int>(from.integer());
  device.multiprocessors = static_cast<int>(from.integer());
  device.l2_bytes = from.integer();
  device.memory_bytes = from.integer();
  device.shared_per_block = from.integer();
  device.shared_per_multiprocessor = from.integer();
  device.registers_per_multiprocessor = from.integer();
  device.replayed = from.boolean();
  device.emulated = from.boolean();
  return device;
}

std::string sweep_select() {
  return fmt::format(
      "SELECT {}, sweep.id, sweep.uid, sweep.device_id, sweep.suite, sweep.suite_hash, sweep.strategy, sweep.seed, sweep.policy, "
      "sweep.phitune_version, sweep.nvrtc_version, sweep.driver, sweep.runtime, sweep.copy_tbps, sweep.matrix_tflops, "
      "sweep.status, sweep.reason, sweep.started_at, sweep.ended_at "
      "FROM sweep JOIN device ON device.id = sweep.device_id ",
      device_columns);
}

SweepInfo read_sweep(SQLite::Statement& row) {
  Reader from(row);
  SweepInfo sweep;
  sweep.device = read_device(from);
  sweep.id = from.integer();
  sweep.uid = from.text();
  sweep.device_id = from.integer();
  sweep.suite = from.text();
  sweep.suite_hash = from.text();
  sweep.strategy = from.text();
  sweep.seed = static_cast<std::uint64_t>(from.integer());
  sweep.policy = from.text();
  sweep.phitune_version = from.text();
  sweep.nvrtc_version = from.text();
  sweep.device.driver = from.text();
  sweep.device.runtime = from.text();
  sweep.device.copy_tbps = from.real();
  sweep.device.matrix_tflops = from.real();
  sweep.status = parse_sweep_status(from.text());
  sweep.reason = from.text();
  sweep.started_at = from.text();
  sweep.ended_at = from.text();
  return sweep;
}

// Plan::text() is for people: it leaves out what a stage's key says.
std::string plan_hash(const Plan& plan) {
  Sha256 hash;
  hash.field(plan.problem.key()).field(plan.shape.text());
  for (const PlanStage& stage : plan.stages) hash.field(stage.problem.key()).field(stage.config.text());
  return hash.hex();
}

std::optional<std::int64_t> first_id(SQLite::Statement& query) {
  if (!query.executeStep()) return std::nullopt;
  const std::int64_t id = query.getColumn(0).getInt64();
  query.reset();
  return id;
}

}  // namespace

std::optional<std::int64_t> Store::find_device(const DeviceInfo& device) {
  return state_->guarded("look up a device", [&] {
    SQLite::Statement& query = state_->statement("SELECT id FROM device WHERE uuid = ? AND name = ? AND architecture = ? AND replayed = ?");
    Binder(query).text(device.uuid).text(device.name).text(device.architecture).integer(device.replayed ? 1 : 0);
    return first_id(query);
  });
}

std::int64_t Store::State::device_id(const DeviceInfo& device) {
  SQLite::Statement& query = statement("SELECT id FROM device WHERE uuid = ? AND name = ? AND architecture = ? AND replayed = ?");
  Binder(query).text(device.uuid).text(device.name).text(device.architecture).integer(device.replayed ? 1 : 0);
  if (const auto id = first_id(query)) return *id;
  SQLite::Statement& insert = statement(
      "INSERT INTO device (uuid, name, architecture, compute_capability, multiprocessors, l2_bytes, memory_bytes, shared_per_block, "
      "shared_per_multiprocessor, registers_per_multiprocessor, replayed, emulated) VALUES (" +
      marks(12) + ")");
  Binder row(insert);
  row.text(device.uuid).text(device.name).text(device.architecture).integer(device.compute_capability).integer(device.multiprocessors);
  row.integer(device.l2_bytes).integer(device.memory_bytes).integer(device.shared_per_block).integer(device.shared_per_multiprocessor);
  row.integer(device.registers_per_multiprocessor).integer(device.replayed ? 1 : 0).integer(device.emulated ? 1 : 0);
  insert.exec();
  return database().getLastInsertRowid();
}

std::optional<std::int64_t> Store::State::find_problem(const Problem& problem) {
  SQLite::Statement& query = statement("SELECT id FROM problem WHERE key = ?");
  Binder(query).text(problem.key());
  return first_id(query);
}

std::int64_t Store::State::problem_id(const Problem& problem) {
  if (const auto id = find_problem(problem)) return *id;
  SQLite::Statement& insert = statement(
      "INSERT INTO problem (key, pass, b, t, hq, hk, d, e, p, dtype, gated, normalisation, layout, initial_state, final_state) VALUES (" +
      marks(15) + ")");
  Binder row(insert);
  row.text(problem.key())
      .text(std::string(to_string(problem.pass)))
      .integer(problem.b)
      .integer(problem.t)
      .integer(problem.hq)
      .integer(problem.hk);
  row.integer(problem.d).integer(problem.e).integer(problem.p).text(std::string(to_string(problem.dtype))).integer(problem.gated ? 1 : 0);
  row.text(std::string(to_string(problem.normalisation))).text(std::string(to_string(problem.layout)));
  row.integer(problem.initial_state ? 1 : 0).integer(problem.final_state ? 1 : 0);
  insert.exec();
  return database().getLastInsertRowid();
}

std::int64_t Store::State::stage_problem_id(const StageProblem& problem) {
  const std::string key = problem.key();
  SQLite::Statement& query = statement("SELECT id FROM stage_problem WHERE key = ?");
  Binder(query).text(key);
  if (const auto id = first_id(query)) return *id;
  SQLite::Statement& insert = statement("INSERT INTO stage_problem (key, stage, path, shape, problem) VALUES (" + marks(5) + ")");
  Binder(insert)
      .text(key)
      .text(std::string(to_string(problem.stage)))
      .text(std::string(to_string(problem.path)))
      .text(problem.shape.text())
      .text(problem.problem.key());
  insert.exec();
  return database().getLastInsertRowid();
}

std::int64_t Store::State::plan_id(const Plan& plan) {
  const std::string hash = plan_hash(plan);
  SQLite::Statement& query = statement("SELECT id FROM plan WHERE hash = ?");
  Binder(query).text(hash);
  if (const auto id = first_id(query)) return *id;
  const std::int64_t problem = problem_id(plan.problem);
  SQLite::Statement& insert =
      statement("INSERT INTO plan (hash, problem_id, text, shape, fusion, chunk, d_tile, state, partial) VALUES (" + marks(9) + ")");
  Binder row(insert);
  row.text(hash).integer(problem).text(plan.text()).text(plan.shape.text()).text(std::string(to_string(plan.shape.fusion)));
  row.integer(plan.shape.chunk).integer(plan.shape.d_tile).text(std::string(to_string(plan.shape.state)));
  row.text(std::string(to_string(plan.shape.partial)));
  insert.exec();
  const std::int64_t id = database().getLastInsertRowid();
  for (std::size_t position = 0; position < plan.stages.size(); ++position) {
    const std::int64_t stage_problem = stage_problem_id(plan.stages[position].problem);
    SQLite::Statement& stage = statement("INSERT INTO plan_stage (plan_id, position, stage_problem_id, config) VALUES (" + marks(4) + ")");
    Binder(stage).integer(id).integer(static_cast<std::int64_t>(position)).integer(stage_problem).text(plan.stages[position].config.text());
    stage.exec();
  }
  return id;
}

SweepInfo Store::sweep(std::int64_t id) {
  const auto found = state_->guarded("read a sweep", [&]() -> std::optional<SweepInfo> {
    SQLite::Statement query(state_->database(), sweep_select() + "WHERE sweep.id = ?");
    Binder(query).integer(id);
    if (!query.executeStep()) return std::nullopt;
    return read_sweep(query);
  });
  if (found) return *found;
  throw Error(ExitCode::bad_input, fmt::format("{}: there is no sweep {}; `phitune db info` lists them", state_->path.string(), id));
}

std::vector<SweepInfo> Store::sweeps() {
  return state_->guarded("read the sweeps", [&] {
    SQLite::Statement query(state_->database(), sweep_select() + "ORDER BY sweep.started_at, sweep.uid");
    std::vector<SweepInfo> sweeps;
    while (query.executeStep()) sweeps.push_back(read_sweep(query));
    return sweeps;
  });
}

std::vector<StoredDevice> Store::devices() {
  return state_->guarded("read the devices", [&] {
    SQLite::Statement query(
        state_->database(),
        fmt::format("SELECT {}, device.id, sweep.driver, sweep.runtime, sweep.copy_tbps, sweep.matrix_tflops FROM device "
                    "LEFT JOIN sweep ON sweep.id = (SELECT id FROM sweep AS latest WHERE latest.device_id = device.id "
                    "ORDER BY latest.started_at DESC, latest.uid LIMIT 1) ORDER BY device.name, device.uuid, device.replayed",
                    device_columns));
    std::vector<StoredDevice> devices;
    while (query.executeStep()) {
      Reader from(query);
      StoredDevice& device = devices.emplace_back();
      device.info = read_device(from);
      device.id = from.integer();
      if (from.is_null()) continue;
      device.info.driver = from.text();
      device.info.runtime = from.text();
      device.info.copy_tbps = from.real();
      device.info.matrix_tflops = from.real();
    }
    return devices;
  });
}

std::vector<Problem> Store::problems() {
  return state_->guarded("read the problems", [&] {
    SQLite::Statement query(state_->database(), "SELECT key FROM problem ORDER BY key");
    std::vector<Problem> problems;
    while (query.executeStep()) problems.push_back(Problem::parse(query.getColumn(0).getString()));
    return problems;
  });
}

std::vector<StageProblem> Store::stage_problems(const TrialFilter& filter) {
  return state_->guarded("read the stage problems", [&] {
    const Condition condition("trial", filter);
    SQLite::Statement query(state_->database(),
                            "SELECT DISTINCT stage_problem.key FROM trial JOIN stage_problem ON stage_problem.id = "
                            "trial.stage_problem_id" +
                                condition.sql() + " ORDER BY stage_problem.key");
    condition.bind(query);
    std::vector<StageProblem> problems;
    while (query.executeStep()) problems.push_back(StageProblem::parse(query.getColumn(0).getString()));
    return problems;
  });
}

}  // namespace phitune
