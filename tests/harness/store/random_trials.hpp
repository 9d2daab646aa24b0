// Random sweeps, trials and plan trials that look like real ones, from a printed seed.
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <limits>
#include <random>
#include <string>

#include "harness/store/store.hpp"
#include "search/plan.hpp"

namespace phitune::testing_support {

/// A folder of its own that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "phitune-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class RandomTrials {
 public:
  explicit RandomTrials(std::uint64_t seed) : rng_(seed) {}

  std::int64_t integer(std::int64_t low, std::int64_t high) { return std::uniform_int_distribution<std::int64_t>(low, high)(rng_); }
  double real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(rng_); }
  bool chance(double probability) { return std::bernoulli_distribution(probability)(rng_); }
  std::string hex(int digits = 64) {
    std::string text;
    for (int i = 0; i < digits; ++i) text += "0123456789abcdef"[integer(0, 15)];
    return text;
  }

  DeviceInfo device() {
    DeviceInfo device;
    device.name = "NVIDIA Test " + std::to_string(integer(100, 999));
    device.uuid = "GPU-" + hex(32);
    device.compute_capability = 90;
    device.architecture = "sm_90a";
    device.multiprocessors = 132;
    device.l2_bytes = 52428800;
    device.memory_bytes = 150000000000;
    device.shared_per_block = 232448;
    device.shared_per_multiprocessor = 233472;
    device.driver = "580.1";
    device.runtime = "13.0";
    device.copy_tbps = real(3, 5);
    device.matrix_tflops = real(500, 900);
    return device;
  }

  SweepInfo sweep(const DeviceInfo& device) {
    SweepInfo sweep;
    sweep.device = device;
    sweep.suite = "suite";
    sweep.suite_hash = hex(16);
    sweep.strategy = "random";
    sweep.policy = "{\"min_samples\": 5}";
    sweep.seed = ~std::uint64_t{0} - static_cast<std::uint64_t>(integer(0, 1000));
    sweep.phitune_version = "0.1.0";
    sweep.nvrtc_version = "13.0";
    return sweep;
  }

  Problem problem() {
    Problem problem;
    problem.b = integer(1, 8);
    problem.t = integer(100, 70000);
    problem.hk = integer(1, 4);
    problem.hq = problem.hk * integer(1, 4);
    problem.d = problem.e = integer(0, 1) == 0 ? 32 : 64;
    problem.gated = chance(0.5);
    problem.final_state = chance(0.2);
    return problem;
  }

  PlanShape shape() {
    PlanShape shape;
    shape.chunk = std::int64_t{64} << integer(0, 6);
    shape.d_tile = std::int64_t{2} << integer(0, 3);
    return shape;
  }

  Config config() {
    Config config;
    for (const char* knob : {"stages", "tile", "warps", "unroll"}) config.set(knob, integer(1, 64));
    return config;
  }

  Timing timing() {
    Timing timing;
    const double base = real(0.01, 30);
    // Both kinds of sample: what an event gives is a float32.
    const bool narrow = chance(0.7);
    for (std::int64_t i = integer(1, 30); i > 0; --i) {
      const double sample = base * real(1, 1.1);
      timing.samples_ms.push_back(narrow ? static_cast<double>(static_cast<float>(sample)) : sample);
    }
    timing.median_ms = timing.samples_ms.front();
    timing.iqr_ms = real(0, 0.1);
    timing.regime = parse_regime(regime_names()[static_cast<std::size_t>(integer(0, 5))]);
    timing.sm_clock_mhz = 1980;
    timing.temperature_c = 41;
    if (chance(0.1)) timing.throttle_reasons = "sw_power_cap";
    if (chance(0.1)) timing.discarded = static_cast<int>(integer(1, 9));
    if (chance(0.5)) timing.sm_clocks_mhz.assign(timing.samples_ms.size(), 1980);
    return timing;
  }

  Result result(Outcome outcome) {
    Result result;
    result.outcome = outcome;
    result.seed = static_cast<std::uint64_t>(integer(0, std::numeric_limits<std::int64_t>::max())) * 2 + 1;
    result.verify_ms = real(0, 50);
    if (chance(0.3)) result.board = "GPU-" + hex(32);
    if (outcome != Outcome::ok) result.reason = "because \"of\" naïve\nlog line " + hex(8);
    if (outcome == Outcome::ok) {
      result.timing = timing();
      result.measure_ms = real(1, 100);
    }
    if (outcome == Outcome::ok || outcome == Outcome::wrong_result) {
      result.errors = Errors{real(0, 1e-2), real(0, 1e-2), real(0, 10), 1e-2, integer(1, 500), chance(0.9)};
    }
    return result;
  }

  Trial trial(const Problem& problem) {
    Trial trial;
    const auto stages = stages_of(problem, shape());
    trial.problem = stages[static_cast<std::size_t>(integer(0, static_cast<std::int64_t>(stages.size()) - 1))];
    trial.config = config();
    trial.result = result(chance(0.7) ? Outcome::ok : static_cast<Outcome>(integer(1, 6)));
    trial.created_at = "2025-01-31T12:00:00Z";
    trial.source_hash = hex();
    if (trial.result.timing && chance(0.3)) trial.result.timing->beaten = Beaten{real(0.01, 1), real(1.05, 1.2), real(1.2, 3)};
    if (trial.result.outcome != Outcome::compile_failed && trial.result.outcome != Outcome::pruned) {
      trial.resources = Resources{integer(20, 255), integer(0, 100), 0, integer(0, 200000), integer(1000, 90000)};
      trial.cubin_hash = hex();
      trial.cache_hit = chance(0.5);
      trial.compile_ms = trial.cache_hit ? 0 : real(100, 2000);
      trial.identity = hex();
      if (chance(0.2)) trial.measured_in = hex(32);
    }
    return trial;
  }

  PlanTrial plan_trial(const Problem& problem, Outcome outcome = Outcome::ok) {
    PlanTrial trial;
    trial.plan.problem = problem;
    trial.plan.shape = shape();
    for (const StageProblem& stage : stages_of(problem, trial.plan.shape)) {
      trial.plan.stages.push_back({stage, config()});
      trial.stage_ms.push_back(real(0.01, 2));
      trial.cubin_hashes.push_back(hex());
    }
    trial.result = result(outcome);
    trial.workspace_bytes = integer(0, 1 << 30);
    if (trial.result.errors)
      for (std::int64_t i = integer(0, 4); i > 0; --i)
        trial.result.checks.push_back(
            {.inputs = chance(0.5) ? "normal" : "zero queries", .seed = ~std::uint64_t{0} - static_cast<std::uint64_t>(i), .outcome = outcome, .errors = *result(Outcome::ok).errors});
    if (outcome == Outcome::ok) trial.standing = Standing{.low = real(0, 0.01), .high = real(0.01, 0.1), .tied = chance(0.5)};
    trial.created_at = "2025-01-31T12:00:01Z";
    return trial;
  }

  Binary binary() {
    Binary binary;
    for (std::int64_t i = integer(100, 5000); i > 0; --i) binary.cubin.push_back(static_cast<char>(integer(0, 255)));
    binary.cubin_hash = hex();
    binary.resources = Resources{integer(20, 255), integer(0, 100), 0, 0, integer(1000, 90000)};
    return binary;
  }

 private:
  std::mt19937_64 rng_;
};

/// A store whose templates never change, so that tests need no kernel template.
inline StoreOptions test_options(OpenMode mode = OpenMode::create) {
  StoreOptions options;
  options.mode = mode;
  options.template_hash = [](const PlanStage& stage) { return "template of " + std::string(to_string(stage.problem.stage)); };
  return options;
}

inline bool equal(const Result& a, const Result& b) {
  return a.outcome == b.outcome && a.reason == b.reason && a.timing == b.timing && a.errors == b.errors && a.checks == b.checks &&
         a.seed == b.seed && a.verify_ms == b.verify_ms && a.measure_ms == b.measure_ms && a.board == b.board;
}

inline bool equal(const Trial& a, const Trial& b) {
  return a.problem == b.problem && a.config == b.config && equal(a.result, b.result) && a.resources == b.resources &&
         a.cubin_hash == b.cubin_hash && a.source_hash == b.source_hash && a.compile_ms == b.compile_ms && a.cache_hit == b.cache_hit &&
         a.created_at == b.created_at && a.identity == b.identity && a.measured_in == b.measured_in;
}

inline bool equal(const PlanTrial& a, const PlanTrial& b) {
  return a.plan == b.plan && equal(a.result, b.result) && a.stage_ms == b.stage_ms && a.cubin_hashes == b.cubin_hashes &&
         a.workspace_bytes == b.workspace_bytes && a.created_at == b.created_at && a.standing == b.standing;
}

}  // namespace phitune::testing_support
