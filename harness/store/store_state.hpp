// What a Store holds, shared by the files that implement it. Internal to the store.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "harness/store/database_file.hpp"
#include "harness/store/store.hpp"

namespace phitune {

struct Store::State {
  std::filesystem::path path;
  StoreOptions options;
  DatabaseFile file;
  // After `file`, so that statements are finalised before the database closes.
  std::unordered_map<std::string, SQLite::Statement> statements;
  bool in_batch = false;

  [[nodiscard]] SQLite::Database& database() { return *file.database; }

  /// A prepared statement, reset and without bindings, kept for the next use. Not for loops whose body may ask for the same one.
  SQLite::Statement& statement(const std::string& sql);

  /// Runs `body`, turning what SQLite or an unreadable row throws into an Error that says what was being done.
  template <typename Body>
  auto guarded(const std::string& doing, Body&& body) {
    try {
      return std::forward<Body>(body)();
    } catch (const SQLite::Exception& error) {
      throw explain(error, path, doing);
    } catch (const std::invalid_argument& error) {
      throw Error(ExitCode::bad_input,
                  fmt::format("{}: cannot {}: a row does not read: {}. Run `phitune db check`", path.string(), doing, error.what()));
    }
  }

  /// Runs `body` in a transaction of its own, or in a savepoint of the batch: all of it happens or nothing.
  template <typename Body>
  auto write(const std::string& doing, Body&& body) {
    if (options.mode == OpenMode::read_only) {
      throw Error(ExitCode::io, fmt::format("{}: cannot {}: the database was opened read-only", path.string(), doing));
    }
    return guarded(doing, [&] {
      Scope scope(*this);
      auto result = body();
      scope.commit();
      return result;
    });
  }

  // The row of a noun; the ..._id functions make it when it is not there.
  std::int64_t device_id(const DeviceInfo& device);
  std::optional<std::int64_t> find_problem(const Problem& problem);
  std::int64_t problem_id(const Problem& problem);
  std::int64_t stage_problem_id(const StageProblem& problem);
  std::int64_t plan_id(const Plan& plan);

  bool add_incident(std::int64_t sweep, const Incident& incident);
  bool add_trial(std::int64_t sweep, const Trial& trial);
  Added add_plan_trial(std::int64_t sweep, const PlanTrial& trial, const std::vector<std::string>& template_hashes);
  void visit_trials(const std::string& condition, const std::function<void(SQLite::Statement&)>& bind_condition,
                    const std::function<void(const StoredTrial&)>& visit);
  void visit_plan_trials(const std::string& condition, const std::function<void(SQLite::Statement&)>& bind_condition,
                         const std::function<void(const StoredPlanTrial&)>& visit);
  void put_winner(std::int64_t device, std::int64_t problem, std::int64_t plan_trial, const std::string& set_at);
  void put_sweep_end(std::int64_t sweep, SweepStatus status, const std::string& reason, const std::string& ended_at);
  std::int64_t insert_sweep(const SweepInfo& sweep);

 private:
  class Scope {
   public:
    explicit Scope(State& state);
    ~Scope();
    void commit();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    State& state_;
    bool savepoint_;
    bool open_ = true;
  };
};

/// The condition of a filter as SQL, with its parameters in order.
class Condition {
 public:
  /// For "trial" joined with stage_problem, or "plan_trial" joined with plan and problem.
  Condition(const std::string& table, const TrialFilter& filter);
  [[nodiscard]] const std::string& sql() const { return sql_; }  // "" or " WHERE ..."
  void bind(SQLite::Statement& statement) const;

 private:
  void require(const std::string& condition, std::variant<std::int64_t, std::string> value);

  std::string sql_;
  std::vector<std::variant<std::int64_t, std::string>> values_;
};

}  // namespace phitune
