// The database of sweeps: every trial, the plans that were run, and the winners. docs/database.md is its schema.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/compile/compiler.hpp"
#include "search/trial.hpp"

namespace phitune {

/// read_only never writes, not even to migrate; read_write needs the file to exist; create makes it when it does not.
enum class OpenMode { read_only, read_write, create };

/// What a returned add() survives: the death of the process (fast), or a power cut as well (one disk flush per trial).
enum class Durability { process, power };

struct StoreOptions {
  OpenMode mode = OpenMode::create;
  Durability durability = Durability::process;
  int busy_timeout_ms = 10000;  // how long to wait for another process that writes
  std::int64_t max_bytes = 0;   // > 0: adding fails, as on a full disk, once the file has this size
  /// Hash of the template text behind a stage, stored with plan trials; empty: template_hash() of template_hash.hpp.
  std::function<std::string(const PlanStage&)> template_hash = {};
};

enum class SweepStatus { running, finished, interrupted, failed };
[[nodiscard]] std::string_view to_string(SweepStatus status);
/// Throws std::invalid_argument listing what is accepted.
[[nodiscard]] SweepStatus parse_sweep_status(std::string_view text);

/// One tuning run. begin_sweep fills id, uid, device_id, started_at and status.
struct SweepInfo {
  std::int64_t id = 0;         // of this file only
  std::string uid;             // 128 random bits in hex: the sweep's name in every file
  std::int64_t device_id = 0;  // of this file only
  DeviceInfo device;           // with the driver, runtime and ceilings of this sweep
  std::string suite, suite_hash;
  std::string strategy, policy;  // policy: free text, JSON by convention
  std::uint64_t seed = 0;
  std::string phitune_version, nvrtc_version;
  SweepStatus status = SweepStatus::running;
  std::string reason;                // of interrupted and failed
  std::string started_at, ended_at;  // UTC; ended_at is empty until the sweep ends
};

struct StoredTrial {
  std::int64_t id = 0, sweep = 0;
  Trial trial;
};

struct StoredPlanTrial {
  std::int64_t id = 0, sweep = 0;
  PlanTrial trial;
  std::vector<std::string> template_hashes;  // per stage, as recorded
  std::int64_t registers = 0;                // most of any of its kernels, per thread; 0: not known
};

/// A row of the tuned table.
struct Winner {
  std::int64_t device_id = 0;
  DeviceInfo device;  // with the driver, runtime and ceilings of the sweep that set it
  StoredPlanTrial plan_trial;
  std::string set_at;
  bool stale = false;        // the text of a template changed since
  std::string stale_reason;  // which stage; empty when not stale
};

struct StoredIncident {
  std::int64_t id = 0, sweep = 0;
  Incident incident;
};

struct StoredDevice {
  std::int64_t id = 0;
  DeviceInfo info;  // with the driver, runtime and ceilings of its latest sweep
};

/// Which trials; every field that is set must match. `problem` is a Problem::key() and selects plan trials only,
/// `stage_problem` is a StageProblem::key() and selects stage trials only.
struct TrialFilter {
  std::optional<std::int64_t> sweep = std::nullopt;
  std::optional<std::int64_t> device = std::nullopt;
  std::optional<std::string> stage_problem = std::nullopt;
  std::optional<std::string> problem = std::nullopt;
  std::optional<Outcome> outcome = std::nullopt;
};

struct MergeReport {
  std::int64_t sweeps = 0, trials = 0, plan_trials = 0, binaries = 0, winners = 0;  // added, or replaced for winners
  std::int64_t trials_present = 0, plan_trials_present = 0;                         // already here
  std::int64_t incidents = 0;                                                       // added
  std::int64_t conflicts = 0;                                                       // same name, other content: this file's was kept
};

struct StoreInfo {
  std::filesystem::path path;
  int schema_version = 0;  // of the file, before any migration in memory
  std::int64_t file_bytes = 0, log_bytes = 0;
  std::int64_t devices = 0, sweeps = 0, problems = 0, stage_problems = 0, trials = 0, plans = 0, plan_trials = 0, winners = 0;
  std::int64_t incidents = 0, quarantined = 0;
  std::int64_t binaries = 0, binary_bytes = 0;  // compressed
  std::map<Outcome, std::int64_t> outcomes;     // of stage trials
  std::int64_t beaten = 0;                      // stage trials that were given up early, proven slower than the best of their day
  double beaten_by_at_least = 0;                // the least ratio that this was proven with
  std::string sqlite_version;
};

/// Not thread-safe: one thread uses a store. Any number of processes may read a file while others write to it.
/// Every function throws Error (ExitCode::io, or bad_input for a file that is not a phitune database of this or an older version)
/// that names the file, what is wrong with it and what to do. After an exception the file holds what it held before the call
/// (before the Batch, when the disk filled up during one).
class Store {
 public:
  explicit Store(const std::filesystem::path& path, StoreOptions options = {});
  ~Store();
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;

  [[nodiscard]] const std::filesystem::path& path() const;

  // Sweeps.
  /// Stores the sweep as running and returns it with id, uid, device_id and started_at filled.
  SweepInfo begin_sweep(SweepInfo sweep);
  /// Also makes everything so far survive a power cut. Throws Error when there is no such sweep.
  void end_sweep(std::int64_t sweep, SweepStatus status, const std::string& reason = {});
  /// The latest sweep of this suite, strategy and seed on this device that did not finish (killed, interrupted or failed).
  [[nodiscard]] std::optional<SweepInfo> resumable(const SweepInfo& like);
  /// Marks it running again; its trials are what need not be tried again.
  SweepInfo resume_sweep(std::int64_t sweep);
  [[nodiscard]] SweepInfo sweep(std::int64_t id);
  [[nodiscard]] std::vector<SweepInfo> sweeps();  // oldest first

  // Trials. Each add is one transaction unless a Batch is alive.
  /// False when the sweep has this trial already (same stage problem, config and source), which then stays as it is.
  bool add(std::int64_t sweep, const Trial& trial);
  /// The row's id, and whether it is new. The same plan with the same cubins is one plan trial of a sweep.
  struct Added {
    std::int64_t id = 0;
    bool added = false;
  };
  Added add(std::int64_t sweep, const PlanTrial& trial);
  /// Stores machine code under its hash; false when it was there.
  bool add(const Binary& binary);

  // Candidates that ended or damaged the process that ran them.
  /// False when the sweep has one of this candidate and code already, which then stays as it is.
  bool add(std::int64_t sweep, const Incident& incident);
  /// In the order in which they were added; of one device, or all.
  [[nodiscard]] std::vector<StoredIncident> incidents(std::optional<std::int64_t> device = std::nullopt);
  /// Lets every guilty candidate of the file be tried again. Returns how many there were.
  std::int64_t release_quarantine();

  /// In the order in which they were added.
  [[nodiscard]] std::vector<StoredTrial> trials(const TrialFilter& filter = {});
  [[nodiscard]] std::vector<StoredPlanTrial> plan_trials(const TrialFilter& filter = {});
  /// The latest trial that was run (not taken over) with this identity and was right or wrong; nothing for an empty identity.
  [[nodiscard]] std::optional<StoredTrial> measured(const std::string& identity);
  void for_each_trial(const TrialFilter& filter, const std::function<void(const StoredTrial&)>& visit);
  void for_each_plan_trial(const TrialFilter& filter, const std::function<void(const StoredPlanTrial&)>& visit);
  [[nodiscard]] StoredPlanTrial plan_trial(std::int64_t id);
  /// Stage trials by outcome; outcomes that did not occur are absent.
  [[nodiscard]] std::map<Outcome, std::int64_t> outcomes(const TrialFilter& filter = {});

  /// Null when there is none. Throws Error when the stored bytes do not match their checksum.
  [[nodiscard]] std::shared_ptr<const Binary> binary(const std::string& cubin_hash);

  // The tuned table.
  /// Makes a plan trial the winner of its device and problem, replacing the incumbent. Throws Error unless its outcome is ok.
  void set_winner(std::int64_t plan_trial);
  [[nodiscard]] std::vector<Winner> winners(std::optional<std::int64_t> device = std::nullopt);
  [[nodiscard]] std::optional<Winner> winner(std::int64_t device, const Problem& problem);

  [[nodiscard]] std::vector<StoredDevice> devices();
  /// Id of a device of this file: same uuid, name, architecture and replayed flag.
  [[nodiscard]] std::optional<std::int64_t> find_device(const DeviceInfo& device);
  [[nodiscard]] std::vector<Problem> problems();  // that plans were run for
  [[nodiscard]] std::vector<StageProblem> stage_problems(const TrialFilter& filter = {});

  /// Copies what `from` has and this file has not. `from` is only read.
  MergeReport merge(const std::filesystem::path& from);
  /// Everything that is wrong with the file, one line each; empty: nothing is. Reads all of it.
  [[nodiscard]] std::vector<std::string> check();
  [[nodiscard]] StoreInfo info();

  /// Adds made while it lives become one transaction; rolled back unless commit() was called. One at a time.
  class Batch {
   public:
    /// `read` holds one snapshot of the file for reading, and writes nothing.
    enum class Kind { read, write };
    explicit Batch(Store& store, Kind kind = Kind::write);
    ~Batch();
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;
    void commit();

   private:
    Store* store_;
    bool open_ = true;
  };

 private:
  struct State;
  struct Merger;
  std::vector<Winner> read_winners(const std::string& condition, const std::vector<std::int64_t>& parameters);

  std::unique_ptr<State> state_;
};

/// "2025-01-31T12:00:00Z".
[[nodiscard]] std::string utc_now();

}  // namespace phitune
