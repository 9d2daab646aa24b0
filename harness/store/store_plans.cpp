// Plan trials and the tuned table.
#include <algorithm>
#include <map>

#include "harness/store/rows.hpp"
#include "harness/store/store_state.hpp"

namespace phitune {
namespace {

std::string plan_trial_select() {
  return fmt::format(
      "SELECT plan_trial.id, plan_trial.sweep_id, plan_trial.plan_id, problem.key, plan.shape, {}, workspace_bytes, created_at, "
      "difference_low, difference_high, tied FROM plan_trial JOIN plan ON plan.id = plan_trial.plan_id JOIN problem ON problem.id = "
      "plan.problem_id",
      result_columns());
}

// One hash per stage, empty where there is none, so that a trial has one name whoever wrote it down.
std::vector<std::string> per_stage(std::vector<std::string> hashes, std::size_t stages) {
  hashes.resize(stages);
  return hashes;
}

std::vector<PlanStage> read_stages(SQLite::Database& database, std::int64_t plan) {
  SQLite::Statement query(database,
                          "SELECT stage_problem.key, plan_stage.config FROM plan_stage JOIN stage_problem ON stage_problem.id = "
                          "plan_stage.stage_problem_id WHERE plan_id = ? ORDER BY position");
  Binder(query).integer(plan);
  std::vector<PlanStage> stages;
  while (query.executeStep()) {
    stages.push_back({StageProblem::parse(query.getColumn(0).getString()), Config::parse(query.getColumn(1).getString())});
  }
  return stages;
}

void read_trial_stages(SQLite::Database& database, StoredPlanTrial& row) {
  SQLite::Statement query(database,
                          "SELECT stage_ms, cubin_hash, template_hash, coalesce(binary.registers, 0) FROM plan_trial_stage "
                          "LEFT JOIN binary ON binary.hash = cubin_hash WHERE plan_trial_id = ? ORDER BY position");
  Binder(query).integer(row.id);
  while (query.executeStep()) {
    Reader from(query);
    row.trial.stage_ms.push_back(from.real());
    row.trial.cubin_hashes.push_back(from.text());
    row.template_hashes.push_back(from.text());
    row.registers = std::max(row.registers, from.integer());
  }
}

void read_checks(SQLite::Database& database, StoredPlanTrial& row) {
  SQLite::Statement query(
      database, fmt::format("SELECT inputs, seed, outcome, {} FROM plan_check WHERE plan_trial_id = ? ORDER BY position", error_columns));
  Binder(query).integer(row.id);
  while (query.executeStep()) {
    Reader from(query);
    InputCheck& check = row.trial.result.checks.emplace_back();
    check.inputs = from.text();
    check.seed = static_cast<std::uint64_t>(from.integer());
    check.outcome = parse_outcome(from.text());
    check.errors = read_errors(from).value_or(Errors{});
  }
}

// The first stage whose template is not what it was, or nothing.
std::string why_stale(const StoredPlanTrial& row, const std::function<std::string(const PlanStage&)>& template_hash) {
  for (std::size_t i = 0; i < row.trial.plan.stages.size(); ++i) {
    const PlanStage& stage = row.trial.plan.stages[i];
    const std::string name = fmt::format("{} ({})", to_string(stage.problem.stage), to_string(stage.problem.path));
    try {
      if (i >= row.template_hashes.size() || row.template_hashes[i] != template_hash(stage)) {
        return fmt::format("the template of {} changed since it was tuned", name);
      }
    } catch (const std::exception& error) {
      return fmt::format("this build cannot generate {}: {}", name, error.what());
    }
  }
  return {};
}

}  // namespace

Store::Added Store::add(std::int64_t sweep, const PlanTrial& trial) {
  std::vector<std::string> hashes;
  for (const PlanStage& stage : trial.plan.stages) {
    // A plan of a template that this build lacks is stored all the same, and is stale from the start.
    try {
      hashes.push_back(state_->options.template_hash(stage));
    } catch (const std::exception&) {
      hashes.emplace_back();
    }
  }
  return state_->write("store a plan trial", [&] { return state_->add_plan_trial(sweep, trial, hashes); });
}

Store::Added Store::State::add_plan_trial(std::int64_t sweep, const PlanTrial& trial, const std::vector<std::string>& template_hashes) {
  const std::int64_t plan = plan_id(trial.plan);
  const std::size_t stages = trial.plan.stages.size();
  const std::vector<std::string> cubins = per_stage(trial.cubin_hashes, stages);
  const std::vector<std::string> templates = per_stage(template_hashes, stages);
  const std::string binaries = fmt::format("{}", fmt::join(cubins, ","));
  SQLite::Statement& insert = statement(
      fmt::format("INSERT INTO plan_trial (sweep_id, plan_id, binaries, {}, workspace_bytes, created_at, difference_low, difference_high, "
                  "tied) VALUES ({}) "
                  "ON CONFLICT (sweep_id, plan_id, binaries) DO NOTHING",
                  result_columns(), marks(3 + result_column_count + 5)));
  Binder row(insert);
  row.integer(sweep).integer(plan).text(binaries);
  put(row, trial.result);
  row.integer(trial.workspace_bytes).text(trial.created_at.empty() ? utc_now() : trial.created_at);
  if (trial.standing)
    row.real(trial.standing->low).real(trial.standing->high).integer(trial.standing->tied ? 1 : 0);
  else
    row.null().null().null();
  if (insert.exec() == 0) {
    SQLite::Statement& query = statement("SELECT id FROM plan_trial WHERE sweep_id = ? AND plan_id = ? AND binaries = ?");
    Binder(query).integer(sweep).integer(plan).text(binaries);
    query.executeStep();
    const std::int64_t id = query.getColumn(0).getInt64();
    query.reset();
    return {id, false};
  }
  const std::int64_t id = database().getLastInsertRowid();
  for (std::size_t i = 0; i < stages; ++i) {
    SQLite::Statement& stage =
        statement("INSERT INTO plan_trial_stage (plan_trial_id, position, stage_ms, cubin_hash, template_hash) VALUES (" + marks(5) + ")");
    Binder to(stage);
    to.integer(id).integer(static_cast<std::int64_t>(i));
    if (i < trial.stage_ms.size())
      to.real(trial.stage_ms[i]);
    else
      to.null();
    to.text(cubins[i]).text(templates[i]);
    stage.exec();
  }
  for (std::size_t i = 0; i < trial.result.checks.size(); ++i) {
    const InputCheck& check = trial.result.checks[i];
    SQLite::Statement& row_of_check = statement(
        fmt::format("INSERT INTO plan_check (plan_trial_id, position, inputs, seed, outcome, {}) VALUES ({})", error_columns, marks(11)));
    Binder to(row_of_check);
    to.integer(id).integer(static_cast<std::int64_t>(i)).text(check.inputs).integer(static_cast<std::int64_t>(check.seed));
    to.text(std::string(to_string(check.outcome)));
    put(to, check.errors);
    row_of_check.exec();
  }
  return {id, true};
}

void Store::State::visit_plan_trials(const std::string& condition, const std::function<void(SQLite::Statement&)>& bind_condition,
                                     const std::function<void(const StoredPlanTrial&)>& visit) {
  SQLite::Statement query(database(), plan_trial_select() + condition + " ORDER BY plan_trial.id");
  bind_condition(query);
  std::map<std::int64_t, std::vector<PlanStage>> stages_of_plan;
  while (query.executeStep()) {
    Reader from(query);
    StoredPlanTrial row;
    row.id = from.integer();
    row.sweep = from.integer();
    const std::int64_t plan = from.integer();
    row.trial.plan.problem = Problem::parse(from.text());
    row.trial.plan.shape = PlanShape::parse(from.text());
    if (!stages_of_plan.contains(plan)) stages_of_plan[plan] = read_stages(database(), plan);
    row.trial.plan.stages = stages_of_plan[plan];
    row.trial.result = read_result(from);
    row.trial.workspace_bytes = from.integer();
    row.trial.created_at = from.text();
    const double low = from.real(), high = from.real();
    if (!from.is_null()) row.trial.standing = Standing{.low = low, .high = high, .tied = from.boolean()};
    read_trial_stages(database(), row);
    read_checks(database(), row);
    visit(row);
  }
}

void Store::for_each_plan_trial(const TrialFilter& filter, const std::function<void(const StoredPlanTrial&)>& visit) {
  state_->guarded("read plan trials", [&] {
    const Condition condition("plan_trial", filter);
    state_->visit_plan_trials(
        condition.sql(), [&](SQLite::Statement& query) { condition.bind(query); }, visit);
    return true;
  });
}

std::vector<StoredPlanTrial> Store::plan_trials(const TrialFilter& filter) {
  std::vector<StoredPlanTrial> rows;
  for_each_plan_trial(filter, [&](const StoredPlanTrial& row) { rows.push_back(row); });
  return rows;
}

StoredPlanTrial Store::plan_trial(std::int64_t id) {
  std::optional<StoredPlanTrial> found;
  state_->guarded("read a plan trial", [&] {
    state_->visit_plan_trials(
        " WHERE plan_trial.id = ?", [&](SQLite::Statement& query) { Binder(query).integer(id); },
        [&](const StoredPlanTrial& row) { found = row; });
    return true;
  });
  if (found) return *found;
  throw Error(ExitCode::bad_input, fmt::format("{}: there is no plan trial {}", state_->path.string(), id));
}

void Store::set_winner(std::int64_t plan_trial_id) {
  const StoredPlanTrial trial = plan_trial(plan_trial_id);
  if (trial.trial.result.outcome != Outcome::ok || !trial.trial.result.timing) {
    throw Error(ExitCode::failed, fmt::format("{}: plan trial {} cannot win: its outcome is {}, not a verified and timed ok",
                                              state_->path.string(), plan_trial_id, to_string(trial.trial.result.outcome)));
  }
  const std::int64_t device = sweep(trial.sweep).device_id;
  state_->write("set a winner", [&] {
    state_->put_winner(device, state_->problem_id(trial.trial.plan.problem), plan_trial_id, utc_now());
    return true;
  });
}

void Store::State::put_winner(std::int64_t device, std::int64_t problem, std::int64_t plan_trial, const std::string& set_at) {
  SQLite::Statement& upsert = statement(
      "INSERT INTO winner (device_id, problem_id, plan_trial_id, set_at) VALUES (?, ?, ?, ?) "
      "ON CONFLICT (device_id, problem_id) DO UPDATE SET plan_trial_id = excluded.plan_trial_id, set_at = excluded.set_at");
  Binder(upsert).integer(device).integer(problem).integer(plan_trial).text(set_at);
  upsert.exec();
}

std::vector<Winner> Store::read_winners(const std::string& condition, const std::vector<std::int64_t>& parameters) {
  struct Row {
    std::int64_t device, plan_trial;
    std::string set_at;
  };
  std::vector<Row> rows;
  state_->guarded("read the winners", [&] {
    SQLite::Statement query(state_->database(),
                            "SELECT device_id, plan_trial_id, set_at FROM winner JOIN problem ON problem.id = problem_id " + condition +
                                " ORDER BY device_id, problem.key");
    Binder to(query);
    for (const std::int64_t parameter : parameters) to.integer(parameter);
    while (query.executeStep()) {
      Reader from(query);
      Row& row = rows.emplace_back();
      row.device = from.integer();
      row.plan_trial = from.integer();
      row.set_at = from.text();
    }
    return true;
  });
  std::vector<Winner> winners;
  for (const Row& row : rows) {
    Winner& winner = winners.emplace_back();
    winner.device_id = row.device;
    winner.plan_trial = plan_trial(row.plan_trial);
    winner.device = sweep(winner.plan_trial.sweep).device;
    winner.set_at = row.set_at;
    winner.stale_reason = why_stale(winner.plan_trial, state_->options.template_hash);
    winner.stale = !winner.stale_reason.empty();
  }
  return winners;
}

std::vector<Winner> Store::winners(std::optional<std::int64_t> device) {
  if (device) return read_winners("WHERE device_id = ?", {*device});
  return read_winners("", {});
}

std::optional<Winner> Store::winner(std::int64_t device, const Problem& problem) {
  const auto id = state_->guarded("look up a problem", [&] { return state_->find_problem(problem); });
  if (!id) return std::nullopt;
  std::vector<Winner> found = read_winners("WHERE device_id = ? AND problem_id = ?", {device, *id});
  if (found.empty()) return std::nullopt;
  return std::move(found.front());
}

}  // namespace phitune
