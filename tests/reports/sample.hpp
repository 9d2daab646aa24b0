// Made-up sweeps for the report tests. Times are drawn at random around the analytic work of each stage; none was ever measured.
#pragma once

#include <random>
#include <string>

#include "reports/records.hpp"

namespace phitune::sample {

inline DeviceInfo device(bool replayed) {
  DeviceInfo d;
  d.name = "NVIDIA H200";
  d.uuid = "GPU-00000000-sample";
  d.compute_capability = 90;
  d.architecture = "sm_90a";
  d.multiprocessors = 132;
  d.l2_bytes = 60LL << 20;
  d.memory_bytes = 141LL << 30;
  d.shared_per_block = 232448;
  d.shared_per_multiprocessor = 233472;
  d.driver = "580.0";
  d.runtime = "13.0";
  d.copy_tbps = 4.2;
  d.matrix_tflops = 700;
  d.replayed = replayed;
  return d;
}

inline double drawn(std::mt19937_64& rng, double low, double high) { return std::uniform_real_distribution<double>(low, high)(rng); }

inline Timing timing(std::mt19937_64& rng, double ms) {
  Timing t;
  for (int i = 0; i < 12; ++i) t.samples_ms.push_back(ms * drawn(rng, 0.99, 1.01));
  t.median_ms = ms;
  t.iqr_ms = ms * drawn(rng, 0.002, 0.01);
  t.sm_clock_mhz = 1905;
  t.temperature_c = 51;
  return t;
}

inline Errors errors(std::mt19937_64& rng) {
  Errors e;
  e.relative_l2 = drawn(rng, 2e-3, 5e-3);
  e.worst_row = 2 * e.relative_l2;
  e.worst_element = 3;
  e.tolerance = 1e-2;
  e.rows_checked = 64;
  e.bitwise_repeatable = true;
  return e;
}

/// Configs with different `stages` differ: the last trial of a config is the one that counts.
inline Config config(std::mt19937_64& rng, std::int64_t stages) {
  return Config{{"stages", stages},
                {"warps", static_cast<std::int64_t>(4 << (rng() % 2))},
                {"m_tiles", static_cast<std::int64_t>(1 + rng() % 4)}};
}

inline Result right(std::mt19937_64& rng, double ms) {
  Result r;
  r.timing = timing(rng, ms);
  r.errors = errors(rng);
  r.seed = rng();
  r.verify_ms = 5;
  r.measure_ms = 20;
  return r;
}

inline Trial trial(std::mt19937_64& rng, const StageProblem& stage, Outcome outcome, double ms, std::int64_t stages = 2) {
  Trial t;
  t.problem = stage;
  t.config = config(rng, stages);
  t.result = right(rng, ms);
  t.result.outcome = outcome;
  t.created_at = "2025-01-31T12:00:00Z";
  t.compile_ms = 300;
  t.resources = Resources{128, 0, 0, 96 << 10, 20480};
  t.cubin_hash = std::string(64, 'a');
  if (outcome == Outcome::ok) return t;
  t.result.timing.reset();
  if (outcome != Outcome::wrong_result) t.result.errors.reset();
  if (outcome == Outcome::pruned) t.result.reason = "96 bytes of local memory per thread (spills) exceed the bound of 64";
  if (outcome == Outcome::compile_failed)
    t.result.reason = "kernel.cu(3): error: static assertion failed, \"m_tiles | warps\"\n  second line";
  if (outcome == Outcome::wrong_result) t.result.reason = "relative L2 error 3.1e-1 exceeds the tolerance 1.0e-2 <rows 7, 9>";
  return t;
}

/// Three trials of every stage of the shape, and the plan made of the best.
inline PlanTrial plan(std::mt19937_64& rng, SweepRecord& sweep, const Problem& problem, const std::string& shape, double base_ms) {
  PlanTrial p;
  p.plan.problem = problem;
  p.plan.shape = PlanShape::parse(shape);
  double sum = 0;
  for (const StageProblem& stage : stages_of(problem, p.plan.shape)) {
    const double ms = base_ms * drawn(rng, 0.05, 0.4);
    Trial best = trial(rng, stage, Outcome::ok, ms);
    p.plan.stages.push_back({stage, best.config});
    p.stage_ms.push_back(ms);
    p.cubin_hashes.push_back(best.cubin_hash);
    sum += ms;
    sweep.trials.push_back(std::move(best));
    sweep.trials.push_back(trial(rng, stage, Outcome::ok, ms * drawn(rng, 1.1, 2), 3));
    constexpr Outcome failures[] = {Outcome::pruned, Outcome::compile_failed, Outcome::wrong_result};
    sweep.trials.push_back(trial(rng, stage, failures[rng() % 3], ms, 4));
  }
  p.result = right(rng, sum * drawn(rng, 1.0, 1.1));
  for (const char* inputs : {"normal", "zero queries"})
    p.result.checks.push_back({.inputs = inputs, .seed = 1, .outcome = Outcome::ok, .errors = errors(rng)});
  p.workspace_bytes = 64 << 20;
  p.created_at = "2025-01-31T12:00:0" + std::to_string(sweep.plan_trials.size() % 10) + "Z";
  sweep.plan_trials.push_back(p);
  return p;
}

/// A device with an axis over t and one over p, a problem without a winner and a stale winner.
inline Records records(std::uint64_t seed, bool replayed) {
  std::mt19937_64 rng(seed);
  Records r;
  r.source = "sample.db";
  SweepRecord sweep;
  sweep.uid = "feedfacefeedfacefeedfacefeedface";
  sweep.suite = "sample";
  sweep.strategy = "random";
  sweep.policy = R"({"trials": 16})";
  sweep.seed = 1;
  sweep.status = "finished";
  sweep.started_at = "2025-01-31T12:00:00Z";
  sweep.ended_at = "2025-01-31T12:08:00Z";
  sweep.phitune_version = "0.1.0";
  sweep.nvrtc_version = "13.0";
  sweep.device = device(replayed);
  const auto add = [&](const std::string& name, const std::string& text, double ms, const std::string& stale) {
    const Problem problem = Problem::parse(text);
    r.names[problem.key()] = name;
    std::vector<PlanTrial> plans;
    for (const char* chunk : {"256", "512", "1024", "2048"})
      plans.push_back(plan(rng, sweep, problem, std::string("expand_mma c") + chunk + " d_tile8 state_bf16 partial_bf16", ms));
    plans.push_back(plan(rng, sweep, problem, "quadratic", ms * 9));
    const auto best = std::min_element(
        plans.begin(), plans.end(), [](const auto& a, const auto& b) { return a.result.timing->median_ms < b.result.timing->median_ms; });
    r.winners.push_back({sweep.device, *best, "2025-01-31T12:08:00Z", stale});
  };
  add("headline", "b1 t65536 h8 d64 p2 bf16 gated", 2.2, "");
  add("headline[t=16384]", "b1 t16384 h8 d64 p2 bf16 gated", 0.6, "");
  add("headline[t=4096]", "b1 t4096 h8 d64 p2 bf16 gated", 0.2, "");
  add("headline[p=4], \"quoted\" & <odd> | name", "b1 t65536 h8 d16 p4 bf16 gated", 3, "the text of query_state has changed");
  add("ragged", "b2 t10007 h8 d64 p2 fp16 ungated", 0.7, "");
  const Problem lost = Problem::parse("b1 t512 h8 d64 p2 bf16 gated");
  PlanTrial failed = plan(rng, sweep, lost, "quadratic", 1);
  failed = sweep.plan_trials.back();
  sweep.plan_trials.back().result.outcome = Outcome::wrong_result;
  sweep.plan_trials.back().result.reason = "relative L2 error 2.0e-1 exceeds the tolerance 1.0e-2";
  r.names[lost.key()] = "lost";
  r.sweeps.push_back(std::move(sweep));
  return r;
}

}  // namespace phitune::sample
