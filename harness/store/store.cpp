#include "harness/store/store.hpp"

#include <chrono>
#include <ctime>
#include <random>

#include "harness/store/rows.hpp"
#include "harness/store/schema.hpp"
#include "harness/store/store_state.hpp"
#include "harness/store/template_hash.hpp"
#include "search/names.hpp"

namespace phitune {
namespace {

constexpr Names<SweepStatus, 4> status_names{"sweep status",
                                             {{{SweepStatus::running, "running"},
                                               {SweepStatus::finished, "finished"},
                                               {SweepStatus::interrupted, "interrupted"},
                                               {SweepStatus::failed, "failed"}}}};

// A name, not a source of randomness for results: two machines must never make the same one.
std::string new_uid() {
  std::random_device entropy;
  std::string uid;
  for (int i = 0; i < 4; ++i) uid += fmt::format("{:08x}", entropy());
  return uid;
}

}  // namespace

std::string_view to_string(SweepStatus status) { return status_names.text(status); }
SweepStatus parse_sweep_status(std::string_view text) { return status_names.parse(text); }

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  (void)std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

Store::Store(const std::filesystem::path& path, StoreOptions options) : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->options = std::move(options);
  if (!state_->options.template_hash) state_->options.template_hash = template_hash;
  state_->file = open_database(path, state_->options);
}

Store::~Store() = default;
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;

const std::filesystem::path& Store::path() const { return state_->path; }

SQLite::Statement& Store::State::statement(const std::string& sql) {
  const auto found = statements.find(sql);
  if (found == statements.end()) return statements.try_emplace(sql, database(), sql).first->second;
  // An error of the last step is reported again by reset; it was dealt with when it happened.
  (void)found->second.tryReset();
  found->second.clearBindings();
  return found->second;
}

Store::State::Scope::Scope(State& state) : state_(state), savepoint_(state.in_batch) {
  state_.database().exec(savepoint_ ? "SAVEPOINT row" : "BEGIN IMMEDIATE");
}

void Store::State::Scope::commit() {
  state_.database().exec(savepoint_ ? "RELEASE row" : "COMMIT");
  open_ = false;
}

Store::State::Scope::~Scope() {
  if (!open_) return;
  for (auto& [sql, statement] : state_.statements) (void)statement.tryReset();
  // Both fail when SQLite has rolled back by itself, as it does on a full disk.
  (void)state_.database().tryExec(savepoint_ ? "ROLLBACK TO row; RELEASE row" : "ROLLBACK");
}

Store::Batch::Batch(Store& store, Kind kind) : store_(&store) {
  State& state = *store_->state_;
  if (state.in_batch) throw std::logic_error("a store has one batch at a time");
  state.guarded("begin a transaction", [&] { return state.database().exec(kind == Kind::read ? "BEGIN" : "BEGIN IMMEDIATE"); });
  state.in_batch = true;
}

void Store::Batch::commit() {
  State& state = *store_->state_;
  state.guarded("commit", [&] { return state.database().exec("COMMIT"); });
  state.in_batch = false;
  open_ = false;
}

Store::Batch::~Batch() {
  if (!open_) return;
  State& state = *store_->state_;
  for (auto& [sql, statement] : state.statements) (void)statement.tryReset();
  (void)state.database().tryExec("ROLLBACK");
  state.in_batch = false;
}

SweepInfo Store::begin_sweep(SweepInfo info) {
  if (info.uid.empty()) info.uid = new_uid();
  if (info.started_at.empty()) info.started_at = utc_now();
  info.status = SweepStatus::running;
  info.reason.clear();
  info.ended_at.clear();
  info.id = state_->write("begin a sweep", [&] { return state_->insert_sweep(info); });
  return sweep(info.id);
}

void Store::end_sweep(std::int64_t id, SweepStatus status, const std::string& reason) {
  (void)sweep(id);
  state_->write("end a sweep", [&] {
    state_->put_sweep_end(id, status, reason, utc_now());
    return true;
  });
  // The one moment worth a disk flush: the log is folded into the file. Another reader may hold it up, which loses nothing.
  (void)state_->guarded("flush the log", [&] { return state_->database().execAndGet("PRAGMA wal_checkpoint(TRUNCATE)").getInt(); });
}

SweepInfo Store::resume_sweep(std::int64_t id) {
  (void)sweep(id);
  state_->write("resume a sweep", [&] {
    state_->put_sweep_end(id, SweepStatus::running, "", "");
    return true;
  });
  return sweep(id);
}

void Store::State::put_sweep_end(std::int64_t id, SweepStatus status, const std::string& reason, const std::string& ended_at) {
  SQLite::Statement& update = statement("UPDATE sweep SET status = ?, reason = ?, ended_at = nullif(?, '') WHERE id = ?");
  Binder(update).text(std::string(to_string(status))).text(reason).text(ended_at).integer(id);
  update.exec();
}

std::int64_t Store::State::insert_sweep(const SweepInfo& sweep) {
  SQLite::Statement& insert = statement(
      "INSERT INTO sweep (uid, device_id, suite, suite_hash, strategy, seed, policy, phitune_version, nvrtc_version, driver, "
      "runtime, copy_tbps, matrix_tflops, status, reason, started_at, ended_at) VALUES (" +
      marks(16) + ", nullif(?, ''))");
  const std::int64_t device = device_id(sweep.device);
  Binder row(insert);
  row.text(sweep.uid).integer(device).text(sweep.suite).text(sweep.suite_hash).text(sweep.strategy);
  row.integer(static_cast<std::int64_t>(sweep.seed)).text(sweep.policy).text(sweep.phitune_version).text(sweep.nvrtc_version);
  row.text(sweep.device.driver).text(sweep.device.runtime).real(sweep.device.copy_tbps).real(sweep.device.matrix_tflops);
  row.text(std::string(to_string(sweep.status))).text(sweep.reason).text(sweep.started_at).text(sweep.ended_at);
  insert.exec();
  return database().getLastInsertRowid();
}

std::optional<SweepInfo> Store::resumable(const SweepInfo& like) {
  const auto device = find_device(like.device);
  if (!device) return std::nullopt;
  const auto id = state_->guarded("look for an unfinished sweep", [&]() -> std::optional<std::int64_t> {
    SQLite::Statement query(
        state_->database(),
        "SELECT id FROM sweep WHERE device_id = ? AND suite_hash = ? AND strategy = ? AND seed = ? AND status <> 'finished' "
        "ORDER BY started_at DESC, id DESC LIMIT 1");
    Binder(query).integer(*device).text(like.suite_hash).text(like.strategy).integer(static_cast<std::int64_t>(like.seed));
    if (!query.executeStep()) return std::nullopt;
    return query.getColumn(0).getInt64();
  });
  if (!id) return std::nullopt;
  return sweep(*id);
}

}  // namespace phitune
