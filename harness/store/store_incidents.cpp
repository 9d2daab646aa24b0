// Candidates that ended or damaged the process that ran them, and what is in quarantine for it.
#include "harness/store/rows.hpp"
#include "harness/store/store_state.hpp"

namespace phitune {

bool Store::add(std::int64_t sweep, const Incident& incident) {
  return state_->write("store an incident", [&] { return state_->add_incident(sweep, incident); });
}

bool Store::State::add_incident(std::int64_t sweep, const Incident& incident) {
  SQLite::Statement& insert =
      statement("INSERT INTO incident (sweep_id, subject, code, outcome, reason, verdict, ran_before, created_at) VALUES (" + marks(8) +
                ") ON CONFLICT (sweep_id, subject, code) DO NOTHING");
  Binder row(insert);
  row.integer(sweep).text(incident.subject).text(incident.code).text(std::string(to_string(incident.outcome))).text(incident.reason);
  row.text(std::string(to_string(incident.verdict))).integer(incident.ran_before);
  row.text(incident.created_at.empty() ? utc_now() : incident.created_at);
  return insert.exec() == 1;
}

std::vector<StoredIncident> Store::incidents(std::optional<std::int64_t> device) {
  return state_->guarded("read incidents", [&] {
    SQLite::Statement query(state_->database(),
                            "SELECT id, sweep_id, subject, code, outcome, reason, verdict, ran_before, created_at FROM incident "
                            "WHERE ?1 < 0 OR sweep_id IN (SELECT id FROM sweep WHERE device_id = ?1) ORDER BY id");
    Binder(query).integer(device.value_or(-1));
    std::vector<StoredIncident> rows;
    while (query.executeStep()) {
      Reader from(query);
      StoredIncident& row = rows.emplace_back();
      row.id = from.integer();
      row.sweep = from.integer();
      row.incident.subject = from.text();
      row.incident.code = from.text();
      row.incident.outcome = parse_outcome(from.text());
      row.incident.reason = from.text();
      row.incident.verdict = parse_verdict(from.text());
      row.incident.ran_before = from.integer();
      row.incident.created_at = from.text();
    }
    return rows;
  });
}

std::int64_t Store::release_quarantine() {
  return state_->write("release the quarantine", [&] {
    return static_cast<std::int64_t>(state_->database().exec("UPDATE incident SET verdict = 'released' WHERE verdict = 'guilty'"));
  });
}

}  // namespace phitune
