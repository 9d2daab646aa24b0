// Two files into one, by the names that docs/database.md gives to trials.
#include <map>
#include <system_error>
#include <tuple>

#include "harness/store/rows.hpp"
#include "harness/store/store_state.hpp"

namespace phitune {
namespace {

// A sweep that ended outranks one that was still running when its file was copied.
std::tuple<int, std::string> progress(const SweepInfo& sweep) {
  const int rank = sweep.status == SweepStatus::finished ? 2 : sweep.status == SweepStatus::running ? 0 : 1;
  return {rank, sweep.ended_at};
}

bool same(const Result& a, const Result& b) {
  const auto samples = [](const Result& result) { return result.timing ? result.timing->samples_ms : std::vector<double>(); };
  return a.outcome == b.outcome && a.reason == b.reason && a.seed == b.seed && samples(a) == samples(b);
}

std::optional<std::int64_t> sweep_with_uid(SQLite::Statement& query, const std::string& uid) {
  Binder(query).text(uid);
  if (!query.executeStep()) return std::nullopt;
  const std::int64_t id = query.getColumn(0).getInt64();
  query.reset();
  return id;
}

}  // namespace

struct Store::Merger {
  Store& to;
  Store& from;
  MergeReport report;
  std::map<std::int64_t, std::int64_t> sweeps, plan_trials;  // id there -> id here

  void merge_sweeps() {
    for (const SweepInfo& theirs : from.sweeps()) {
      SQLite::Statement& query = to.state_->statement("SELECT id FROM sweep WHERE uid = ?");
      if (const auto id = sweep_with_uid(query, theirs.uid)) {
        sweeps[theirs.id] = *id;
        if (progress(theirs) > progress(to.sweep(*id))) to.state_->put_sweep_end(*id, theirs.status, theirs.reason, theirs.ended_at);
      } else {
        sweeps[theirs.id] = to.state_->insert_sweep(theirs);
        ++report.sweeps;
      }
    }
  }

  // Trials of one sweep that both files have, by name: what a copied trial is compared with.
  void merge_trials(std::int64_t there, std::int64_t here) {
    std::map<std::tuple<StageProblem, Config, std::string>, Result> known;
    to.for_each_trial({.sweep = here}, [&](const StoredTrial& row) {
      known.emplace(std::tuple(row.trial.problem, row.trial.config, row.trial.source_hash), row.trial.result);
    });
    from.for_each_trial({.sweep = there}, [&](const StoredTrial& row) {
      const auto mine = known.find(std::tuple(row.trial.problem, row.trial.config, row.trial.source_hash));
      if (mine == known.end()) {
        to.state_->add_trial(here, row.trial);
        ++report.trials;
      } else {
        ++report.trials_present;
        if (!same(mine->second, row.trial.result)) ++report.conflicts;
      }
    });
  }

  void merge_plan_trials(std::int64_t there, std::int64_t here) {
    from.for_each_plan_trial({.sweep = there}, [&](const StoredPlanTrial& row) {
      const Added added = to.state_->add_plan_trial(here, row.trial, row.template_hashes);
      plan_trials[row.id] = added.id;
      if (added.added) {
        ++report.plan_trials;
      } else {
        ++report.plan_trials_present;
        if (!same(to.plan_trial(added.id).trial.result, row.trial.result)) ++report.conflicts;
      }
    });
  }

  void merge_incidents() {
    for (const StoredIncident& theirs : from.incidents())
      if (to.state_->add_incident(sweeps.at(theirs.sweep), theirs.incident)) ++report.incidents;
  }

  void merge_binaries() {
    SQLite::Statement query(from.state_->database(), "SELECT hash FROM binary");
    while (query.executeStep()) {
      if (to.add(*from.binary(query.getColumn(0).getString()))) ++report.binaries;
    }
  }

  // The later one stays, then the faster one, then the greater text: any order of merges gives the same winners.
  static auto standing(Store& store, const Winner& winner) {
    const StoredPlanTrial& row = winner.plan_trial;
    return std::tuple(winner.set_at, -row.trial.result.timing.value_or(Timing{}).median_ms, store.sweep(row.sweep).uid,
                      row.trial.plan.text(), row.trial.cubin_hashes);
  }

  void merge_winners() {
    for (const Winner& theirs : from.winners()) {
      const std::int64_t device = to.state_->device_id(theirs.device);
      const Problem& problem = theirs.plan_trial.trial.plan.problem;
      const auto mine = to.winner(device, problem);
      if (mine && standing(to, *mine) >= standing(from, theirs)) continue;
      to.state_->put_winner(device, to.state_->problem_id(problem), plan_trials.at(theirs.plan_trial.id), theirs.set_at);
      ++report.winners;
    }
  }

  MergeReport run() {
    merge_sweeps();
    for (const auto& [there, here] : sweeps) {
      merge_trials(there, here);
      merge_plan_trials(there, here);
    }
    merge_incidents();
    merge_binaries();
    merge_winners();
    return report;
  }
};

MergeReport Store::merge(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::equivalent(path, state_->path, ignored)) {
    throw Error(ExitCode::usage, fmt::format("{}: this is the database to merge into; name the other one", path.string()));
  }
  Store from(path, {.mode = OpenMode::read_only, .template_hash = state_->options.template_hash});
  // One snapshot of the other file, though a sweep may be writing to it.
  Batch snapshot(from, Batch::Kind::read);
  Batch batch(*this);
  MergeReport report = state_->guarded("merge " + path.string(), [&] { return Merger{*this, from, {}, {}, {}}.run(); });
  batch.commit();
  return report;
}

}  // namespace phitune
