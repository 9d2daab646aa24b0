// What is in a file, and what is wrong with it.
#include <system_error>

#include "harness/store/rows.hpp"
#include "harness/store/store_state.hpp"

namespace phitune {
namespace {

std::int64_t count(SQLite::Database& database, const std::string& table) {
  return database.execAndGet("SELECT count(*) FROM " + table).getInt64();
}

std::int64_t size_of(const std::filesystem::path& path) {
  std::error_code missing;
  const auto size = std::filesystem::file_size(path, missing);
  return missing ? 0 : static_cast<std::int64_t>(size);
}

// One finding per row; `sql` selects one text column.
void find(SQLite::Database& database, std::vector<std::string>& findings, const std::string& sql) {
  SQLite::Statement query(database, sql);
  while (query.executeStep()) findings.push_back(query.getColumn(0).getString());
}

void check_pages(SQLite::Database& database, std::vector<std::string>& findings) {
  SQLite::Statement integrity(database, "PRAGMA integrity_check(20)");
  while (integrity.executeStep()) {
    if (const std::string line = integrity.getColumn(0).getString(); line != "ok") findings.push_back("integrity: " + line);
  }
  SQLite::Statement keys(database, "PRAGMA foreign_key_check");
  while (keys.executeStep()) {
    findings.push_back(fmt::format("row {} of {} refers to a row of {} that is not there", keys.getColumn(1).getText("?"),
                                   keys.getColumn(0).getString(), keys.getColumn(2).getString()));
  }
}

// Rules that span columns or tables, which the schema cannot state.
void check_rules(SQLite::Database& database, std::vector<std::string>& findings) {
  for (const std::string table : {"trial", "plan_trial"}) {
    find(database, findings,
         "SELECT '" + table + " ' || id || ': outcome ' || outcome || ' without a reason' FROM " + table +
             " WHERE reason = '' AND outcome <> 'ok'");
    find(database, findings,
         "SELECT '" + table + " ' || id || ': ok without a time' FROM " + table + " WHERE outcome = 'ok' AND samples IS NULL");
    find(database, findings,
         "SELECT '" + table + " ' || id || ': samples of ' || length(samples) || ' bytes' FROM " + table +
             " WHERE length(samples) % 8 <> 0");
  }
  find(database, findings,
       "SELECT 'winner of problem ' || problem_id || ': its plan trial ' || plan_trial_id || ' is ' || outcome "
       "FROM winner JOIN plan_trial ON plan_trial.id = plan_trial_id WHERE outcome <> 'ok'");
  find(database, findings,
       "SELECT 'winner of problem ' || winner.problem_id || ': plan trial ' || plan_trial_id || ' is of another problem or device' "
       "FROM winner JOIN plan_trial ON plan_trial.id = plan_trial_id JOIN plan ON plan.id = plan_id JOIN sweep ON sweep.id = sweep_id "
       "WHERE plan.problem_id <> winner.problem_id OR sweep.device_id <> winner.device_id");
  find(database, findings,
       "SELECT 'winner of problem ' || problem_id || ': no machine code ' || cubin_hash || ' for stage ' || position "
       "FROM winner JOIN plan_trial_stage USING (plan_trial_id) WHERE cubin_hash <> '' "
       "AND cubin_hash NOT IN (SELECT hash FROM binary)");
  find(database, findings, "SELECT 'plan ' || id || ' has no stages' FROM plan WHERE id NOT IN (SELECT plan_id FROM plan_stage)");
}

}  // namespace

std::vector<std::string> Store::check() {
  std::vector<std::string> findings;
  // A damaged page makes SQLite stop; what was found before then is still worth saying.
  const auto part = [&](const std::string& what, const std::function<void()>& body) {
    try {
      state_->guarded(what, [&] {
        body();
        return true;
      });
    } catch (const Error& error) {
      findings.emplace_back(error.what());
    }
  };
  SQLite::Database& database = state_->database();
  part("check the file", [&] { check_pages(database, findings); });
  part("check the rows", [&] { check_rules(database, findings); });
  part("read every trial", [&] { for_each_trial({}, [](const StoredTrial&) {}); });
  part("read every plan trial", [&] { for_each_plan_trial({}, [](const StoredPlanTrial&) {}); });
  std::vector<std::string> hashes;
  part("list the cubins", [&] { find(database, hashes, "SELECT hash FROM binary"); });
  for (const std::string& hash : hashes) {
    part("read a cubin", [&] { (void)binary(hash); });
  }
  return findings;
}

StoreInfo Store::info() {
  return state_->guarded("read the database", [&] {
    SQLite::Database& database = state_->database();
    StoreInfo info;
    info.path = state_->path;
    info.schema_version = state_->file.file_version;
    info.file_bytes = size_of(state_->path);
    info.log_bytes = size_of(state_->path.string() + "-wal");
    info.devices = count(database, "device");
    info.sweeps = count(database, "sweep");
    info.problems = count(database, "problem");
    info.stage_problems = count(database, "stage_problem");
    info.trials = count(database, "trial");
    info.plans = count(database, "plan");
    info.plan_trials = count(database, "plan_trial");
    info.winners = count(database, "winner");
    info.incidents = count(database, "incident");
    info.quarantined = count(database, "quarantine");
    info.binaries = count(database, "binary");
    info.binary_bytes = database.execAndGet("SELECT coalesce(sum(length(cubin)), 0) FROM binary").getInt64();
    info.outcomes = outcomes();
    info.beaten = database.execAndGet("SELECT count(*) FROM trial WHERE beaten_low IS NOT NULL").getInt64();
    info.beaten_by_at_least = database.execAndGet("SELECT coalesce(min(beaten_low), 0) FROM trial").getDouble();
    info.sqlite_version = SQLite::getLibVersion();
    return info;
  });
}

}  // namespace phitune
