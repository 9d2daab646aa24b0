// The report model: what every report and export says, computed once from the records. Writers only arrange it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernel_templates/stage_template.hpp"
#include "reports/peers.hpp"
#include "reports/records.hpp"

namespace phitune {

/// What bounds a problem's floor.
enum class Bound { unknown, matrix, memory };

/// The least time the device could take (DESIGN section 2). `ms` is 0 when the device's rates were not measured; it is the larger of the
/// two others when each is taken at its own best chunk, and at least as large otherwise.
struct Floor {
  double ms = 0;
  double matrix_ms = 0;  // useful FLOPs at the best chunk over the measured matrix rate
  double memory_ms = 0;  // least bytes over the measured copy bandwidth
  Bound bound = Bound::unknown;
};

/// A stage of the winner, with what its own trial measured.
struct StageView {
  StageProblem problem;
  Config config;
  double ms = 0;  // its tuned median, alone; 0: not known
  Work work;
  double tflops = 0;                         // work.flops (padding included) over ms
  double tbps = 0;                           // work.bytes over ms
  std::optional<Resources> resources;        // none for library stages
  std::map<Outcome, std::int64_t> outcomes;  // of all configs tried for this stage problem
};

/// A whole plan that was run end to end, or failed to be.
struct PlanView {
  PlanTrial trial;
  bool winner = false;
  bool front = false;  // right, and no other plan of the problem is both faster and closer to the reference

  /// "ok, winner, tied, on the front of time and error", or the outcome with the first line of its reason.
  [[nodiscard]] std::string verdict() const;
};

/// The best of a fusion strategy. `end_to_end_ms` was measured; `composed_ms` is the sum of the best stage times and an estimate.
struct FusionView {
  Fusion fusion = Fusion::quadratic;
  std::optional<double> end_to_end_ms;
  std::optional<double> composed_ms;
  PlanShape shape;       // of the best measured plan, else of the best composed one
  std::string why_none;  // when there is neither
};

/// The best of a fusion strategy at one chunk size; 0 is the quadratic form, which has no chunks.
struct ChunkView {
  Fusion fusion = Fusion::quadratic;
  std::int64_t chunk = 0;
  std::optional<double> end_to_end_ms;
  std::optional<double> composed_ms;
};

struct ProblemView {
  std::string name;
  Problem problem;
  Floor floor;
  std::optional<WinnerRecord> winner;
  double winner_ms = 0;                      // median end to end; 0 without a winner
  double over_floor = 0;                     // winner_ms / floor.ms; 0 when either is not known
  std::vector<StageView> stages;             // of the winner, in launch order
  std::vector<PlanView> plans;               // right ones by time, then the others
  std::vector<FusionView> fusions;           // in the order of the enumeration
  std::vector<ChunkView> chunks;             // by fusion, then chunk
  std::map<Outcome, std::int64_t> outcomes;  // of every stage trial that any plan of this problem can use
};

/// Failures of one kind on one stage, most frequent first.
struct FailureView {
  Stage stage = Stage::attention;
  Outcome outcome = Outcome::ok;
  std::string reason;   // the first line of one of them
  std::string example;  // config of that one
  std::int64_t count = 0;
};

/// Winners that differ in one field of the problem: what a sweep over an axis shows.
struct AxisPoint {
  std::int64_t value = 0;
  double ms = 0;
  double floor_ms = 0;           // 0: not known
  double token_heads_per_s = 0;  // b * t * hq / time
};
struct AxisView {
  std::string axis;               // "t", "p", "d", ... ; for d, e follows it when the two are equal
  std::string fixed;              // the fields that all points share
  std::vector<AxisPoint> points;  // by value
};

struct DeviceView {
  DeviceInfo info;                  // ceilings of its latest sweep that measured them
  std::vector<SweepRecord> sweeps;  // without their trials
  std::map<Outcome, std::int64_t> outcomes;
  std::int64_t stage_trials = 0, plan_trials = 0;
  std::vector<ProblemView> problems;  // in the order first met
  std::vector<FailureView> failures;
  std::vector<AxisView> axes;
  std::vector<Trial> trials;  // every stage trial, for exports
  /// "measured", "replayed" or "emulated": goes beside every number.
  [[nodiscard]] const char* origin() const { return info.emulated ? "emulated" : info.replayed ? "replayed" : "measured"; }
};

struct Model {
  std::string source;
  std::string generated_at;  // UTC, as given
  std::vector<DeviceView> devices;
  std::optional<Peers> peers = std::nullopt;  // not from the records: whoever has them adds them
  [[nodiscard]] bool any_replayed() const;
};

/// Pure: equal records give equal models. `generated_at` is printed as it stands. Problems are those with a plan trial or a winner.
[[nodiscard]] Model build_model(const Records& records, const std::string& generated_at);

/// "b1 t65536 h8 d64 p2 bf16 gated": a problem in the words people type, leaving out what is usual.
[[nodiscard]] std::string short_name(const Problem& problem);

/// Median of a result that was right; nothing otherwise.
[[nodiscard]] std::optional<double> time_of(const Result& result);

}  // namespace phitune
