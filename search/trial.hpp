// One config tried on one stage problem (or one whole plan on a problem), with its outcome: failure is data.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "search/config.hpp"
#include "search/plan.hpp"

namespace phitune {

enum class Outcome { ok, pruned, compile_failed, launch_failed, wrong_result, timed_out, unstable };
[[nodiscard]] std::string_view to_string(Outcome outcome);
[[nodiscard]] Outcome parse_outcome(std::string_view text);

/// What the compiler gave the kernel, read from the cubin.
struct Resources {
  std::int64_t registers = 0;             // per thread
  std::int64_t spill_bytes = 0;           // local memory per thread
  std::int64_t static_shared_bytes = 0;   // per block
  std::int64_t dynamic_shared_bytes = 0;  // per block, asked for at launch
  std::int64_t code_bytes = 0;
  bool operator==(const Resources&) const = default;
};

/// Distance from the float64 reference, over the sampled rows.
struct Errors {
  double relative_l2 = 0;    // |out - ref| / |ref|
  double worst_row = 0;      // largest relative l2 of one row
  double worst_element = 0;  // largest |out - ref| / (eps(dtype) * row rms)
  double tolerance = 0;      // bound on relative_l2 that decided
  std::int64_t rows_checked = 0;
  bool bitwise_repeatable = false;
  bool operator==(const Errors&) const = default;
};

/// What stands in the L2 cache when a sample begins, and how its kernels are launched. Times of two regimes are times of different things.
struct Regime {
  enum class Cache {
    flush,     // nothing of the candidate's: another buffer was written before
    rotation,  // what it left itself, working on enough other copies of its tensors that these are evicted
    hot,       // its own tensors: it has just run on them
  };
  enum class Launches {
    graph,  // all kernels as one CUDA graph
    eager,  // one launch after another
  };
  Cache cache = Cache::flush;
  Launches launches = Launches::graph;

  [[nodiscard]] bool cold() const { return cache != Cache::hot; }
  bool operator==(const Regime&) const = default;
};
/// "flush", "rotation", "hot", and each with "-eager".
[[nodiscard]] std::string_view to_string(Regime regime);
[[nodiscard]] Regime parse_regime(std::string_view text);
[[nodiscard]] std::vector<std::string> regime_names();

/// Why a candidate was not measured to the end: it is slower than the best one of its stage problem was. `low` and `high` bound the ratio
/// of its time to that one's with 95 % confidence (harness/measure/statistics.hpp, ratio_interval).
struct Beaten {
  double by_ms = 0;  // median of the best one
  double low = 0, high = 0;
  bool operator==(const Beaten&) const = default;
};

/// Times of one kernel or graph on the device, with what is needed to doubt them.
struct Timing {
  std::vector<double> samples_ms;  // all of them, in order
  double median_ms = 0;
  double iqr_ms = 0;
  Regime regime = {};
  double sm_clock_mhz = 0;         // median over the samples; 0: not available
  double temperature_c = 0;        // 0: not available
  std::string throttle_reasons;    // of all samples, also those thrown away; empty: none seen or not available
  int discarded = 0;               // samples thrown away because the device was throttled while they were taken
  std::vector<double> sm_clocks_mhz;  // of each sample; empty: not available
  std::optional<Beaten> beaten = {};  // of stage trials that were given up early
  bool operator==(const Timing&) const = default;
};

/// What came of one set of inputs that a whole plan was checked on.
struct InputCheck {
  std::string inputs;      // "normal", or an adversarial kind: "zero queries"
  std::uint64_t seed = 0;
  Outcome outcome = Outcome::ok;
  Errors errors;
  bool operator==(const InputCheck&) const = default;
};

/// What evaluating a candidate gave. `reason` is empty only for ok.
struct Result {
  Outcome outcome = Outcome::ok;
  std::string reason;
  std::optional<Timing> timing;
  std::optional<Errors> errors;    // of a whole plan: the worst over the seeds of normal inputs, or those of the inputs that it failed on
  std::vector<InputCheck> checks = {};  // of a whole plan: every set of inputs it ran on, in order; the first that failed is the last
  std::uint64_t seed = 0;          // of the random inputs
  double verify_ms = 0;            // wall time spent
  double measure_ms = 0;
  std::string board = {};          // uuid of the device that ran it; empty: the sweep's (first) device
};

struct Trial {
  StageProblem problem;
  Config config;
  Result result;
  std::optional<Resources> resources;
  std::string cubin_hash;          // hex; empty when nothing was compiled
  std::string source_hash;         // hex of generated source with all template text: the compile cache's key
  double compile_ms = 0;           // 0 when it came from the cache
  bool cache_hit = false;
  std::string created_at;          // UTC, ISO 8601
  std::string identity;            // hex of everything that the result depends on: machine code, launch, device, driver, inputs, policy;
                                   // empty where that is not known (library stages, recordings)
  std::string measured_in;         // uid of the sweep whose trial of the same identity this result is; empty: it was run for this trial
};

/// How a finalist stands to the fastest plan of its round, by paired samples: taken in the same round, so that drift cancels.
struct Standing {
  double low = 0, high = 0;  // 95 % interval of the median relative difference: 0.01 is one per cent slower
  bool tied = false;         // cannot be told apart from the fastest
  bool operator==(const Standing&) const = default;
};

/// A whole plan run end to end.
struct PlanTrial {
  Plan plan;
  Result result;
  std::vector<double> stage_ms;    // each stage's own tuned median, same order as plan.stages
  std::vector<std::string> cubin_hashes;
  std::int64_t workspace_bytes = 0;
  std::string created_at;
  std::optional<Standing> standing;  // of those that were right and timed
};

/// A candidate that ended or damaged the process that ran it, or came after one that did and was suspected.
struct Incident {
  enum class Verdict {
    guilty,    // it did so alone in a fresh process: quarantined until its machine code changes
    innocent,  // it was right, or at least harmless, alone in a fresh process: what ran before it is to blame
    released,  // guilty once; a person let it out of quarantine
  };
  std::string subject;  // candidate_name() of what ran
  std::string code;     // its cubin hashes in launch order, joined by commas
  Outcome outcome = Outcome::launch_failed;
  std::string reason;
  Verdict verdict = Verdict::guilty;
  std::int64_t ran_before = 0;  // candidates that the same process had run before, when it was first suspected
  std::string created_at;       // UTC, ISO 8601
};
[[nodiscard]] std::string_view to_string(Incident::Verdict verdict);
[[nodiscard]] Incident::Verdict parse_verdict(std::string_view text);

/// A candidate's name in every file: "STAGE PROBLEM # CONFIG", and for a whole plan the problem and every stage, joined by " ; ".
[[nodiscard]] std::string candidate_name(const PlanStage& stage);
[[nodiscard]] std::string candidate_name(const Problem& problem, std::span<const PlanStage> stages);

/// The device a number belongs to.
struct DeviceInfo {
  std::string name;                // "NVIDIA H200"
  std::string uuid;
  int compute_capability = 0;      // 90
  std::string architecture;        // "sm_90a": what NVRTC compiles for
  int multiprocessors = 0;
  std::int64_t l2_bytes = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t shared_per_block = 0;           // opt-in limit
  std::int64_t shared_per_multiprocessor = 0;
  std::int64_t registers_per_multiprocessor = 65536;
  std::string driver;              // "580.159.04"
  std::string runtime;             // "13.0"
  double copy_tbps = 0;            // measured in this run: read + write, 1e12 bytes/s; 0: not measured
  double matrix_tflops = 0;        // measured in this run, dense bf16; 0: not measured
  bool replayed = false;           // numbers come from a recording
  bool emulated = false;           // times are those of emulation on a CPU: no GPU's, and nothing to be compared with one
};

}  // namespace phitune
