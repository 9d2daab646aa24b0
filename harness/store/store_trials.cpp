// Stage trials: adding, filtering, reading, counting.
#include <map>

#include "harness/store/rows.hpp"
#include "harness/store/store_state.hpp"

namespace phitune {
namespace {

std::string trial_select() {
  return fmt::format(
      "SELECT trial.id, trial.sweep_id, trial.stage_problem_id, stage_problem.key, config, {}, compile_ms, cache_hit, {}, "
      "cubin_hash, source_hash, created_at, identity, measured_in, beaten_by_ms, beaten_low, beaten_high FROM trial "
      "JOIN stage_problem ON stage_problem.id = "
      "trial.stage_problem_id",
      result_columns(), resource_columns);
}

}  // namespace

Condition::Condition(const std::string& table, const TrialFilter& filter) {
  if (filter.sweep) require(table + ".sweep_id = ?", *filter.sweep);
  if (filter.device) require(table + ".sweep_id IN (SELECT id FROM sweep WHERE device_id = ?)", *filter.device);
  if (filter.outcome) require(table + ".outcome = ?", std::string(to_string(*filter.outcome)));
  const bool stages = table == "trial";
  // A filter on the other kind of trial selects none of this kind.
  if (filter.stage_problem) {
    if (stages)
      require("stage_problem.key = ?", *filter.stage_problem);
    else
      require("0 = ?", std::int64_t{1});
  }
  if (filter.problem) {
    if (!stages)
      require("problem.key = ?", *filter.problem);
    else
      require("0 = ?", std::int64_t{1});
  }
}

void Condition::require(const std::string& condition, std::variant<std::int64_t, std::string> value) {
  sql_ += (sql_.empty() ? " WHERE " : " AND ") + condition;
  values_.push_back(std::move(value));
}

void Condition::bind(SQLite::Statement& statement) const {
  Binder to(statement);
  for (const auto& value : values_) {
    if (const auto* text = std::get_if<std::string>(&value))
      to.text(*text);
    else
      to.integer(std::get<std::int64_t>(value));
  }
}

bool Store::add(std::int64_t sweep, const Trial& trial) {
  return state_->write("store a trial", [&] { return state_->add_trial(sweep, trial); });
}

bool Store::State::add_trial(std::int64_t sweep, const Trial& trial) {
  const std::int64_t stage_problem = stage_problem_id(trial.problem);
  SQLite::Statement& insert = statement(
      fmt::format("INSERT INTO trial (sweep_id, stage_problem_id, config, {}, compile_ms, cache_hit, {}, cubin_hash, source_hash, "
                  "created_at, identity, measured_in, beaten_by_ms, beaten_low, beaten_high) VALUES ({}) ON CONFLICT (sweep_id, "
                  "stage_problem_id, config, source_hash) DO NOTHING",
                  result_columns(), resource_columns, marks(3 + result_column_count + 2 + 5 + 5 + 3)));
  Binder row(insert);
  row.integer(sweep).integer(stage_problem).text(trial.config.text());
  put(row, trial.result);
  row.real(trial.compile_ms).integer(trial.cache_hit ? 1 : 0);
  put(row, trial.resources);
  row.text(trial.cubin_hash).text(trial.source_hash).text(trial.created_at.empty() ? utc_now() : trial.created_at);
  row.text(trial.identity).text(trial.measured_in);
  if (const auto& timing = trial.result.timing; timing && timing->beaten)
    row.real(timing->beaten->by_ms).real(timing->beaten->low).real(timing->beaten->high);
  else
    row.null().null().null();
  return insert.exec() == 1;
}

void Store::State::visit_trials(const std::string& condition, const std::function<void(SQLite::Statement&)>& bind_condition,
                                const std::function<void(const StoredTrial&)>& visit) {
  SQLite::Statement query(database(), trial_select() + condition);
  bind_condition(query);
  std::map<std::int64_t, StageProblem> problems;  // thousands of trials share a few hundred
  while (query.executeStep()) {
    Reader from(query);
    StoredTrial row;
    row.id = from.integer();
    row.sweep = from.integer();
    const std::int64_t problem = from.integer();
    const std::string key = from.text();
    const auto known = problems.find(problem);
    row.trial.problem = known != problems.end() ? known->second : problems.emplace(problem, StageProblem::parse(key)).first->second;
    row.trial.config = Config::parse(from.text());
    row.trial.result = read_result(from);
    row.trial.compile_ms = from.real();
    row.trial.cache_hit = from.boolean();
    row.trial.resources = read_resources(from);
    row.trial.cubin_hash = from.text();
    row.trial.source_hash = from.text();
    row.trial.created_at = from.text();
    row.trial.identity = from.text();
    row.trial.measured_in = from.text();
    if (!from.is_null() && row.trial.result.timing) {
      Beaten& beaten = row.trial.result.timing->beaten.emplace();
      beaten.by_ms = from.real();
      beaten.low = from.real();
      beaten.high = from.real();
    }
    visit(row);
  }
}

void Store::for_each_trial(const TrialFilter& filter, const std::function<void(const StoredTrial&)>& visit) {
  state_->guarded("read trials", [&] {
    const Condition condition("trial", filter);
    state_->visit_trials(
        condition.sql() + " ORDER BY trial.id", [&](SQLite::Statement& query) { condition.bind(query); }, visit);
    return true;
  });
}

std::optional<StoredTrial> Store::measured(const std::string& identity) {
  std::optional<StoredTrial> found;
  if (identity.empty()) return found;
  state_->guarded("look for a measurement", [&] {
    state_->visit_trials(
        " WHERE identity = ? AND measured_in = '' AND outcome IN ('ok', 'wrong_result') ORDER BY trial.id DESC LIMIT 1",
        [&](SQLite::Statement& query) { Binder(query).text(identity); }, [&](const StoredTrial& row) { found = row; });
    return true;
  });
  return found;
}

std::vector<StoredTrial> Store::trials(const TrialFilter& filter) {
  std::vector<StoredTrial> rows;
  for_each_trial(filter, [&](const StoredTrial& row) { rows.push_back(row); });
  return rows;
}

std::map<Outcome, std::int64_t> Store::outcomes(const TrialFilter& filter) {
  return state_->guarded("count outcomes", [&] {
    const Condition condition("trial", filter);
    SQLite::Statement query(state_->database(),
                            "SELECT trial.outcome, count(*) FROM trial JOIN stage_problem ON stage_problem.id = "
                            "trial.stage_problem_id" +
                                condition.sql() + " GROUP BY trial.outcome");
    condition.bind(query);
    std::map<Outcome, std::int64_t> counts;
    while (query.executeStep()) counts[parse_outcome(query.getColumn(0).getString())] = query.getColumn(1).getInt64();
    return counts;
  });
}

}  // namespace phitune
