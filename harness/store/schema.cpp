#include "harness/store/schema.hpp"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/core.h>

#include <string>

namespace phitune::schema {
namespace {

constexpr std::string_view initial = R"sql(
CREATE TABLE device (
  id INTEGER PRIMARY KEY,
  uuid TEXT NOT NULL,
  name TEXT NOT NULL,
  architecture TEXT NOT NULL,
  compute_capability INTEGER NOT NULL,
  multiprocessors INTEGER NOT NULL,
  l2_bytes INTEGER NOT NULL,
  memory_bytes INTEGER NOT NULL,
  shared_per_block INTEGER NOT NULL,
  shared_per_multiprocessor INTEGER NOT NULL,
  registers_per_multiprocessor INTEGER NOT NULL,
  replayed INTEGER NOT NULL CHECK (replayed IN (0, 1)),
  UNIQUE (uuid, name, architecture, replayed)
) STRICT;

CREATE TABLE sweep (
  id INTEGER PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE CHECK (length(uid) = 32),
  device_id INTEGER NOT NULL REFERENCES device (id),
  suite TEXT NOT NULL,
  suite_hash TEXT NOT NULL,
  strategy TEXT NOT NULL,
  seed INTEGER NOT NULL,
  policy TEXT NOT NULL,
  phitune_version TEXT NOT NULL,
  nvrtc_version TEXT NOT NULL,
  driver TEXT NOT NULL,
  runtime TEXT NOT NULL,
  copy_tbps REAL NOT NULL,
  matrix_tflops REAL NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('running', 'finished', 'interrupted', 'failed')),
  reason TEXT NOT NULL,
  started_at TEXT NOT NULL,
  ended_at TEXT
) STRICT;
CREATE INDEX sweep_by_device ON sweep (device_id, suite_hash);

CREATE TABLE problem (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  pass TEXT NOT NULL,
  b INTEGER NOT NULL,
  t INTEGER NOT NULL,
  hq INTEGER NOT NULL,
  hk INTEGER NOT NULL,
  d INTEGER NOT NULL,
  e INTEGER NOT NULL,
  p INTEGER NOT NULL,
  dtype TEXT NOT NULL,
  gated INTEGER NOT NULL CHECK (gated IN (0, 1)),
  normalisation TEXT NOT NULL,
  layout TEXT NOT NULL,
  initial_state INTEGER NOT NULL CHECK (initial_state IN (0, 1)),
  final_state INTEGER NOT NULL CHECK (final_state IN (0, 1))
) STRICT;

CREATE TABLE stage_problem (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  stage TEXT NOT NULL,
  path TEXT NOT NULL,
  shape TEXT NOT NULL,
  problem TEXT NOT NULL
) STRICT;

CREATE TABLE trial (
  id INTEGER PRIMARY KEY,
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  stage_problem_id INTEGER NOT NULL REFERENCES stage_problem (id),
  config TEXT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'pruned', 'compile_failed', 'launch_failed', 'wrong_result', 'timed_out', 'unstable')),
  reason TEXT NOT NULL,
  median_ms REAL, iqr_ms REAL, samples BLOB, cold_l2 INTEGER, sm_clock_mhz REAL, temperature_c REAL, throttle_reasons TEXT,
  relative_l2 REAL, worst_row REAL, worst_element REAL, tolerance REAL, rows_checked INTEGER, bitwise_repeatable INTEGER,
  seed INTEGER NOT NULL,
  verify_ms REAL NOT NULL,
  measure_ms REAL NOT NULL,
  compile_ms REAL NOT NULL,
  cache_hit INTEGER NOT NULL CHECK (cache_hit IN (0, 1)),
  registers INTEGER, spill_bytes INTEGER, static_shared_bytes INTEGER, dynamic_shared_bytes INTEGER, code_bytes INTEGER,
  cubin_hash TEXT NOT NULL,
  source_hash TEXT NOT NULL,
  created_at TEXT NOT NULL,
  UNIQUE (sweep_id, stage_problem_id, config, source_hash)
) STRICT;
CREATE INDEX trial_by_stage_problem ON trial (stage_problem_id, sweep_id);

CREATE TABLE binary (
  id INTEGER PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE CHECK (hash <> ''),
  cubin BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  checksum TEXT NOT NULL,
  registers INTEGER NOT NULL,
  spill_bytes INTEGER NOT NULL,
  static_shared_bytes INTEGER NOT NULL,
  dynamic_shared_bytes INTEGER NOT NULL,
  code_bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE plan (
  id INTEGER PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  problem_id INTEGER NOT NULL REFERENCES problem (id),
  text TEXT NOT NULL,
  shape TEXT NOT NULL,
  fusion TEXT NOT NULL,
  chunk INTEGER NOT NULL,
  d_tile INTEGER NOT NULL,
  state TEXT NOT NULL,
  partial TEXT NOT NULL
) STRICT;
CREATE INDEX plan_by_problem ON plan (problem_id);

CREATE TABLE plan_stage (
  plan_id INTEGER NOT NULL REFERENCES plan (id),
  position INTEGER NOT NULL,
  stage_problem_id INTEGER NOT NULL REFERENCES stage_problem (id),
  config TEXT NOT NULL,
  PRIMARY KEY (plan_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE plan_trial (
  id INTEGER PRIMARY KEY,
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  plan_id INTEGER NOT NULL REFERENCES plan (id),
  binaries TEXT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'pruned', 'compile_failed', 'launch_failed', 'wrong_result', 'timed_out', 'unstable')),
  reason TEXT NOT NULL,
  median_ms REAL, iqr_ms REAL, samples BLOB, cold_l2 INTEGER, sm_clock_mhz REAL, temperature_c REAL, throttle_reasons TEXT,
  relative_l2 REAL, worst_row REAL, worst_element REAL, tolerance REAL, rows_checked INTEGER, bitwise_repeatable INTEGER,
  seed INTEGER NOT NULL,
  verify_ms REAL NOT NULL,
  measure_ms REAL NOT NULL,
  workspace_bytes INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  UNIQUE (sweep_id, plan_id, binaries)
) STRICT;
CREATE INDEX plan_trial_by_plan ON plan_trial (plan_id, sweep_id);

CREATE TABLE plan_trial_stage (
  plan_trial_id INTEGER NOT NULL REFERENCES plan_trial (id),
  position INTEGER NOT NULL,
  stage_ms REAL,
  cubin_hash TEXT NOT NULL,
  template_hash TEXT NOT NULL,
  PRIMARY KEY (plan_trial_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE winner (
  device_id INTEGER NOT NULL REFERENCES device (id),
  problem_id INTEGER NOT NULL REFERENCES problem (id),
  plan_trial_id INTEGER NOT NULL REFERENCES plan_trial (id),
  set_at TEXT NOT NULL,
  PRIMARY KEY (device_id, problem_id)
) STRICT, WITHOUT ROWID;
)sql";

constexpr std::string_view views = R"sql(
CREATE VIEW trial_view AS
  SELECT trial.id, device.name AS device, device.replayed, sweep.suite, stage_problem.stage, stage_problem.path, stage_problem.shape,
         stage_problem.problem, trial.config, trial.outcome, trial.reason, trial.median_ms, trial.iqr_ms, length(trial.samples) / 8 AS samples,
         trial.relative_l2, trial.tolerance, trial.registers, trial.spill_bytes, trial.created_at
  FROM trial
  JOIN sweep ON sweep.id = trial.sweep_id
  JOIN device ON device.id = sweep.device_id
  JOIN stage_problem ON stage_problem.id = trial.stage_problem_id;

CREATE VIEW winner_view AS
  SELECT device.name AS device, device.replayed, problem.key AS problem, plan.text AS plan, plan_trial.median_ms, plan_trial.iqr_ms,
         plan_trial.relative_l2, plan_trial.tolerance, plan_trial.workspace_bytes, winner.set_at
  FROM winner
  JOIN device ON device.id = winner.device_id
  JOIN problem ON problem.id = winner.problem_id
  JOIN plan_trial ON plan_trial.id = winner.plan_trial_id
  JOIN plan ON plan.id = plan_trial.plan_id;
)sql";

constexpr std::string_view emulation = R"sql(
ALTER TABLE device ADD COLUMN emulated INTEGER NOT NULL DEFAULT 0 CHECK (emulated IN (0, 1));
)sql";

constexpr std::string_view incidents = R"sql(
CREATE TABLE incident (
  id INTEGER PRIMARY KEY,
  sweep_id INTEGER NOT NULL REFERENCES sweep (id),
  subject TEXT NOT NULL,
  code TEXT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('launch_failed', 'timed_out', 'wrong_result')),
  reason TEXT NOT NULL CHECK (reason <> ''),
  verdict TEXT NOT NULL CHECK (verdict IN ('guilty', 'innocent', 'released')),
  ran_before INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  UNIQUE (sweep_id, subject, code)
) STRICT;
CREATE INDEX incident_by_subject ON incident (subject, code);

CREATE VIEW quarantine AS
  SELECT incident.id, device.name AS device, device.uuid, incident.subject, incident.code, incident.outcome, incident.reason,
         incident.created_at
  FROM incident
  JOIN sweep ON sweep.id = incident.sweep_id
  JOIN device ON device.id = sweep.device_id
  WHERE incident.verdict = 'guilty';
)sql";

constexpr std::string_view proofs = R"sql(
ALTER TABLE trial ADD COLUMN discarded INTEGER;
ALTER TABLE trial ADD COLUMN sm_clocks BLOB;
ALTER TABLE trial ADD COLUMN identity TEXT NOT NULL DEFAULT '';
ALTER TABLE trial ADD COLUMN measured_in TEXT NOT NULL DEFAULT '';
CREATE INDEX trial_by_identity ON trial (identity) WHERE identity <> '';
ALTER TABLE plan_trial ADD COLUMN discarded INTEGER;
ALTER TABLE plan_trial ADD COLUMN sm_clocks BLOB;
ALTER TABLE plan_trial ADD COLUMN difference_low REAL;
ALTER TABLE plan_trial ADD COLUMN difference_high REAL;
ALTER TABLE plan_trial ADD COLUMN tied INTEGER CHECK (tied IN (0, 1));
)sql";

constexpr std::string_view checks = R"sql(
CREATE TABLE plan_check (
  plan_trial_id INTEGER NOT NULL REFERENCES plan_trial (id),
  position INTEGER NOT NULL,
  inputs TEXT NOT NULL,
  seed INTEGER NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'wrong_result', 'unstable')),
  relative_l2 REAL, worst_row REAL, worst_element REAL, tolerance REAL NOT NULL,
  rows_checked INTEGER NOT NULL,
  bitwise_repeatable INTEGER NOT NULL CHECK (bitwise_repeatable IN (0, 1)),
  PRIMARY KEY (plan_trial_id, position)
) STRICT, WITHOUT ROWID;
)sql";

constexpr std::string_view regimes = R"sql(
ALTER TABLE trial ADD COLUMN regime TEXT
  CHECK (regime IN ('flush', 'rotation', 'hot', 'flush-eager', 'rotation-eager', 'hot-eager'));
UPDATE trial SET regime = CASE cold_l2 WHEN 1 THEN 'flush' WHEN 0 THEN 'hot' END;
ALTER TABLE trial DROP COLUMN cold_l2;
ALTER TABLE plan_trial ADD COLUMN regime TEXT
  CHECK (regime IN ('flush', 'rotation', 'hot', 'flush-eager', 'rotation-eager', 'hot-eager'));
UPDATE plan_trial SET regime = CASE cold_l2 WHEN 1 THEN 'flush' WHEN 0 THEN 'hot' END;
ALTER TABLE plan_trial DROP COLUMN cold_l2;
)sql";

constexpr std::string_view boards = R"sql(
ALTER TABLE trial ADD COLUMN board TEXT NOT NULL DEFAULT '';
ALTER TABLE plan_trial ADD COLUMN board TEXT NOT NULL DEFAULT '';
)sql";

constexpr std::string_view racing = R"sql(
ALTER TABLE trial ADD COLUMN beaten_by_ms REAL;
ALTER TABLE trial ADD COLUMN beaten_low REAL;
ALTER TABLE trial ADD COLUMN beaten_high REAL;
)sql";

constexpr Migration steps[] = {{1, initial}, {2, views}, {3, emulation}, {4, incidents}, {5, proofs}, {6, checks}, {7, regimes}, {8, boards}, {9, racing}};

}  // namespace

std::span<const Migration> migrations() { return steps; }

int current_version() { return steps[std::size(steps) - 1].to; }

int version(SQLite::Database& database) { return database.execAndGet("PRAGMA user_version").getInt(); }

void migrate(SQLite::Database& database, std::span<const Migration> todo) {
  for (const Migration& step : todo) {
    if (version(database) >= step.to) continue;
    SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
    // Another process may have migrated while this one waited for the lock.
    if (version(database) >= step.to) continue;
    database.exec(std::string(step.statements));
    database.exec(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", application_id, step.to));
    transaction.commit();
  }
}

}  // namespace phitune::schema
