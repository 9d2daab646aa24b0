#include "harness/device/simulated_device.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "harness/device/nominal_device.hpp"
#include "harness/error.hpp"
#include "search/names.hpp"
#include "search/random.hpp"
#include "search/text.hpp"

namespace phitune {
namespace {

using Kind = SimulatedFault::Kind;

constexpr Names<Kind, 12> kind_names{"fault",
                                     {{{Kind::crash, "crash"},
                                       {Kind::abort, "abort"},
                                       {Kind::hang, "hang"},
                                       {Kind::endless, "endless"},
                                       {Kind::illegal, "illegal"},
                                       {Kind::corrupt, "corrupt"},
                                       {Kind::exhaust, "exhaust"},
                                       {Kind::wrong, "wrong"},
                                       {Kind::nan, "nan"},
                                       {Kind::refused, "refused"},
                                       {Kind::memory, "memory"},
                                       {Kind::lost, "lost"}}}};

std::filesystem::path mark_of_loss(const Simulation& simulation) { return simulation.file.string() + ".lost"; }

double seconds_now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

void require_present(const Simulation& simulation) {
  double until = 0;
  std::ifstream(mark_of_loss(simulation)) >> until;
  if (seconds_now() < until) throw DeviceLost("the simulated GPU has fallen off the bus");
}

Result failed(Outcome outcome, std::string reason) {
  Result result;
  result.outcome = outcome;
  result.reason = std::move(reason);
  return result;
}

Result wrong(double error, std::string reason) {
  Result result = failed(Outcome::wrong_result, std::move(reason));
  result.errors = Errors{
      .relative_l2 = error, .worst_row = error, .worst_element = error, .tolerance = 1e-2, .rows_checked = 10, .bitwise_repeatable = true};
  return result;
}

/// Standard normal, the same on every machine (Box and Muller).
double normal(std::mt19937_64& rng) {
  const auto uniform = [&rng] { return (static_cast<double>(rng() >> 11) + 0.5) * 0x1p-53; };
  return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * 3.14159265358979323846 * uniform());
}

template <typename T>
void read(const toml::table& from, const char* name, T& value, const std::filesystem::path& file) {
  const toml::node* node = from.get(name);
  if (!node) return;
  const auto got = node->value<T>();
  if (!got) throw Error(ExitCode::bad_input, fmt::format("{}: '{}' has a value of the wrong type", file.string(), name));
  value = *got;
}

void require_known(const toml::table& table, std::initializer_list<std::string_view> known, const std::filesystem::path& file) {
  for (const auto& [key, value] : table)
    if (std::ranges::find(known, key.str()) == known.end())
      throw Error(ExitCode::bad_input, fmt::format("{}: '{}' means nothing here; it may have {}", file.string(), key.str(),
                                                   list_names(std::vector<std::string_view>(known))));
}

SimulatedFault fault_from(const toml::table& table, const std::filesystem::path& file) {
  require_known(table, {"kind", "match", "value", "inputs"}, file);
  std::string kind, match;
  SimulatedFault fault;
  read(table, "kind", kind, file);
  read(table, "match", match, file);
  read(table, "value", fault.value, file);
  read(table, "inputs", fault.inputs, file);
  fault.kind = parse_fault(kind);
  for (const std::string_view word : words_of(match)) fault.match.emplace_back(word);
  return fault;
}

}  // namespace

std::string_view to_string(Kind kind) { return kind_names.text(kind); }
Kind parse_fault(std::string_view text) { return kind_names.parse(text); }

Simulation load_simulation(const std::filesystem::path& file) try {
  const toml::table table = toml::parse_file(file.string());
  require_known(table, {"name", "board", "delay_ms", "noise", "drift", "throttle_every", "throttle_factor", "power_cap", "fault"}, file);
  Simulation simulation;
  simulation.file = file;
  read(table, "name", simulation.name, file);
  read(table, "board", simulation.board, file);
  read(table, "delay_ms", simulation.delay_ms, file);
  read(table, "noise", simulation.clock.noise, file);
  read(table, "drift", simulation.clock.drift, file);
  std::int64_t every = 0;
  read(table, "throttle_every", every, file);
  simulation.clock.throttle_every = static_cast<int>(every);
  read(table, "throttle_factor", simulation.clock.throttle_factor, file);
  read(table, "power_cap", simulation.clock.power_cap, file);
  if (const toml::array* faults = table["fault"].as_array())
    for (const toml::node& fault : *faults)
      if (const toml::table* one = fault.as_table()) simulation.faults.push_back(fault_from(*one, file));
  return simulation;
} catch (const toml::parse_error& error) {
  throw Error(ExitCode::bad_input, fmt::format("{}: {} (line {})", file.string(), error.description(), error.source().begin.line));
}

SimulatedDevice::SimulatedDevice(Simulation simulation) : simulation_(std::move(simulation)), info_(nominal_device("sm_90a")) {
  require_present(simulation_);
  info_.name = simulation_.name;
  info_.uuid = "SIM-" + simulation_.name + simulation_.board;
  info_.copy_tbps = 4;
  info_.matrix_tflops = 700;
  info_.emulated = true;
}

double SimulatedDevice::stage_ms(const PlanStage& stage) { return 1 + static_cast<double>(fnv1a(candidate_name(stage)) % 1000) / 1000; }

double SimulatedDevice::stage_ms(const PlanStage& stage, Regime regime) {
  const double share = regime.cache == Regime::Cache::hot ? 0.75 : regime.cache == Regime::Cache::rotation ? 0.9 : 1;
  return share * stage_ms(stage) + (regime.launches == Regime::Launches::eager ? 0.004 : 0);
}

const SimulatedFault* SimulatedDevice::fault_of(const std::string& name) const {
  for (const SimulatedFault& fault : simulation_.faults) {
    const auto in_name = [&](const std::string& word) { return name.find(word) != std::string::npos; };
    if (std::ranges::all_of(fault.match, in_name)) return &fault;
  }
  return nullptr;
}

Result SimulatedDevice::verify(const std::string& name, const MeasurePolicy& policy) {
  const auto pause = [](double wait_ms) { std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(wait_ms)); };
  pause(simulation_.delay_ms);
  if (const SimulatedFault* fault = fault_of(name); fault && fault->inputs.empty()) {
    switch (fault->kind) {
      case Kind::crash:
        std::signal(SIGSEGV, SIG_DFL);  // a sanitizer would make an exit status of it
        static_cast<void>(::raise(SIGSEGV));
        break;
      case Kind::abort:
        std::fputs("terminate called after throwing a simulated exception\n", stderr);
        std::abort();
      case Kind::hang:
        while (true) pause(1000);
      case Kind::endless:
        pause(2 * policy.timeout_ms);
        damaged_ = true;
        return failed(Outcome::timed_out,
                      fmt::format("a launch took longer than {:.0f} ms, and has not ended after twice that", policy.timeout_ms));
      case Kind::illegal:
        damaged_ = true;
        return failed(Outcome::launch_failed, "cudaErrorIllegalAddress: an illegal memory access was encountered (simulated)");
      case Kind::corrupt:
        corrupted_ = true;
        break;
      case Kind::exhaust:
        exhausted_ = true;
        break;
      case Kind::wrong:
        return wrong(0.5, "relative error 0.5 exceeds the tolerance 0.01 (simulated)");
      case Kind::nan:
        return wrong(std::numeric_limits<double>::quiet_NaN(), "the output has NaN in it (simulated)");
      case Kind::refused:
        return failed(Outcome::launch_failed, "cudaErrorInvalidValue: too much shared memory (simulated)");
      case Kind::memory:
        return failed(Outcome::pruned, "needs more memory than the device has (simulated)");
      case Kind::lost:
        std::ofstream(mark_of_loss(simulation_)) << fmt::format("{:.3f}", seconds_now() + fault->value);
        throw DeviceLost("the simulated GPU has fallen off the bus");
    }
  } else if (exhausted_) {
    return failed(Outcome::launch_failed, "cudaErrorMemoryAllocation: out of memory (simulated, after resources were used up)");
  } else if (corrupted_) {
    return wrong(0.7, "relative error 0.7 exceeds the tolerance 0.01 (simulated, after memory was overwritten)");
  }
  return right(policy);
}

TrialledOutcome SimulatedDevice::verify_on(const std::string& name, InputKind kind, std::uint64_t seed) const {
  const std::string inputs = fmt::format("{}, seed {}", to_string(kind), seed);
  const SimulatedFault* fault = fault_of(name);
  if (fault && !fault->inputs.empty() && inputs.find(fault->inputs) != std::string::npos) {
    const Result bad = wrong(0.5, "relative error 0.5 exceeds the tolerance 0.01 (simulated)");
    return {.outcome = bad.outcome, .reason = bad.reason, .errors = *bad.errors};
  }
  // Between 1e-3 and 2e-3, by the plan and the inputs.
  const double error = 1e-3 * (1 + static_cast<double>(fnv1a(name + inputs) % 1000) / 1000);
  return {.outcome = Outcome::ok,
          .reason = {},
          .errors = {.relative_l2 = error,
                     .worst_row = 2 * error,
                     .worst_element = 1000 * error,
                     .tolerance = 1e-2,
                     .rows_checked = 10,
                     .bitwise_repeatable = true}};
}

Sample SimulatedDevice::sample(double ms, const MeasurePolicy& policy, std::mt19937_64& rng) {
  const SimulatedClock& clock = simulation_.clock;
  Sample sample;
  sample.ms = ms * (1 + clock.drift * device_ms_ / 1000) * (1 + clock.noise * normal(rng));
  sample.state = {.sm_clock_mhz = 1980, .temperature_c = 50, .throttle_reasons = {}};
  if (const double rested = rest_ms(policy, last_ms_); clock.power_cap > 0 && rested < last_ms_) {
    sample.ms *= 1 + clock.power_cap * (1 - rested / last_ms_);
    sample.state.throttle_reasons = "power cap";
  }
  if (clock.throttle_every > 0 && ++samples_ % clock.throttle_every == 0) {
    sample.ms *= clock.throttle_factor;
    sample.state = {
        .sm_clock_mhz = 1980 / clock.throttle_factor, .temperature_c = 90, .throttle_reasons = "hardware thermal", .slowed = true};
  }
  device_ms_ += sample.ms;
  last_ms_ = sample.ms;
  return sample;
}

Result SimulatedDevice::right(const MeasurePolicy& policy) {
  Result result;
  result.seed = policy.seed;
  result.errors =
      Errors{.relative_l2 = 1e-3, .worst_row = 2e-3, .worst_element = 1, .tolerance = 1e-2, .rows_checked = 10, .bitwise_repeatable = true};
  return result;
}

Result SimulatedDevice::run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) {
  const std::string name = candidate_name(stage.stage);
  Result result = verify(name, policy);
  if (result.outcome != Outcome::ok) return result;
  std::mt19937_64 rng(fnv1a(name) ^ policy.seed);
  const double ms = stage_ms(stage.stage, policy.regime);
  result.timing = sample_alone([&](std::size_t) { return sample(ms, policy, rng); }, policy);
  return result;
}

std::vector<Result> SimulatedDevice::run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                               const MeasurePolicy& policy) {
  std::vector<Result> results;
  std::vector<std::size_t> right;
  std::vector<double> times;
  std::string names;
  for (const std::vector<ExecutableStage>& plan : plans) {
    std::vector<PlanStage> stages;
    double ms = 0;
    for (const ExecutableStage& stage : plan) {
      stages.push_back(stage.stage);
      ms += stage_ms(stage.stage, policy.regime);
    }
    // Faults of whole plans say so; a stage's fault shows in the stage's own trial.
    const std::string name = "plan " + candidate_name(problem, stages);
    results.push_back(verify(name, policy));
    if (results.back().outcome == Outcome::ok) {
      results.back().errors.reset();
      verify_on_all_inputs(results.back(), policy, [&](InputKind kind, std::uint64_t seed) { return verify_on(name, kind, seed); });
    }
    if (results.back().outcome != Outcome::ok) continue;
    right.push_back(results.size() - 1);
    times.push_back(ms);
    names += name;
  }
  std::mt19937_64 rng(fnv1a(names) ^ policy.seed);
  std::vector<Timing> timings = sample_in_rounds(
      right.size(), [&](std::size_t i) { return sample(times[i], policy, rng); }, policy);
  for (std::size_t n = 0; n < right.size(); ++n) results[right[n]].timing = std::move(timings[n]);
  return results;
}

}  // namespace phitune
