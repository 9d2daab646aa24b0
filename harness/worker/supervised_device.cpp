#include "harness/worker/supervised_device.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>

#include "harness/device/verification.hpp"
#include "harness/error.hpp"
#include "harness/store/store.hpp"
#include "harness/store/trial_json.hpp"
#include "harness/worker/deadlines.hpp"
#include "harness/worker/protocol.hpp"
#include "harness/worker/worker_process.hpp"

namespace phitune {

namespace {

using worker::Answer;
using worker::Broken;
using worker::WorkerProcess;

// Measuring the device's rates is part of opening it.
constexpr double kOpeningMs = 300000;
constexpr int kMostAgain = 4;  // repetitions of one trial in fresh processes

/// The process ended while it opened the device, which says little about the device.
class Died : public DeviceLost {
  using DeviceLost::DeviceLost;
};

/// What came of asking a worker to run something.
struct Attempt {
  Answer answer;  // empty when the worker ended without one
  Outcome outcome = Outcome::ok;
  std::string ended;    // how the worker ended; empty when it answered
  bool killed = false;  // it ended by SIGKILL, which no kernel causes
  std::int64_t ran_before = 0;

  [[nodiscard]] bool doubtful() const { return !ended.empty() || answer.last; }
};

void refuse(const nlohmann::json& refused) {
  const auto code = static_cast<ExitCode>(refused.at("code").get<int>());
  const auto reason = refused.at("reason").get<std::string>();
  if (code == ExitCode::no_device) throw DeviceLost(reason);
  throw Error(code, reason);
}

std::string code_of(std::span<const ExecutableStage> stages) {
  std::string code;
  for (const ExecutableStage& stage : stages) code += (code.empty() ? "" : ",") + (stage.binary ? stage.binary->cubin_hash : std::string());
  return code;
}

std::vector<PlanStage> stages_of_plan(std::span<const ExecutableStage> plan) {
  std::vector<PlanStage> stages;
  for (const ExecutableStage& stage : plan) stages.push_back(stage.stage);
  return stages;
}

Result died(const Attempt& attempt, const MeasurePolicy& policy) {
  Result result;
  result.outcome = attempt.outcome;
  result.reason = attempt.ended;
  result.seed = policy.seed;
  return result;
}

/// What a process may be to blame for that has run others before.
bool may_be_innocent(const Result& result) { return result.outcome == Outcome::wrong_result || result.outcome == Outcome::launch_failed; }

/// The first of an attempt's results, or what its worker's end means.
Result only_result(const Attempt& attempt, const MeasurePolicy& policy) {
  return attempt.ended.empty() ? attempt.answer.results.at(0) : died(attempt, policy);
}

}  // namespace

struct SupervisedDevice::State {
  State(std::string device_name, Use device_use, WorkerOptions worker_options)
      : name(std::move(device_name)), use(device_use), options(std::move(worker_options)), deadlines(options.deadline_ms) {
    info = persist([&] { return open(use); }, [](const DeviceLost& lost) { return dynamic_cast<const Died*>(&lost) != nullptr; });
  }

  // --- processes

  /// Starts a process and opens the device in it. Throws Error as open_device does, and DeviceLost when the process ends instead.
  DeviceInfo open(Use how) {
    process = std::make_unique<WorkerProcess>(options.program, options.arguments);
    ++started;
    ran = 0;
    try {
      process->wire().send(worker::to_json(worker::Hello{.device = name, .use = how}));
      const auto message = process->wire().receive(kOpeningMs);
      if (!message) throw DeviceLost(fmt::format("{} did not open within {:.0f} s", name, kOpeningMs / 1000));
      if (message->document.contains("refused")) refuse(message->document.at("refused"));
      return device_from(message->document.at("device"));
    } catch (const Broken&) {
      const std::string how_it_ended = process->post_mortem();
      drop();
      throw Died(fmt::format("{} does not open: {}", name, how_it_ended));
    } catch (...) {
      drop();
      throw;
    }
  }

  /// Ends the process that is there. Throws DeviceLost when it does not die: then nobody else can use the device either.
  void drop() {
    if (!process) return;
    const bool dead = process->end();
    process.reset();
    if (!dead) throw DeviceLost(fmt::format("the process that owns {} cannot be ended: a call of the driver holds it", name));
  }

  void require_worker() {
    if (process && process->alive()) return;
    process.reset();
    const DeviceInfo again =
        persist([&] { return open(use == Use::measure ? Use::measure_again : use); }, [](const DeviceLost&) { return true; });
    if (again.uuid != info.uuid)
      throw Error(ExitCode::no_device, fmt::format("{} is another board now ({} instead of {})", name, again.uuid, info.uuid));
  }

  /// Opens again and again, at growing intervals, while `worthwhile` says so of what went wrong.
  template <typename Open, typename Worthwhile>
  DeviceInfo persist(Open&& try_to_open, Worthwhile&& worthwhile) {
    double pause_ms = options.first_pause_ms;
    for (int attempt = 1;; ++attempt) {
      try {
        return try_to_open();
      } catch (const DeviceLost& lost) {
        if (attempt >= options.openings || !worthwhile(lost)) throw;
      }
      std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(pause_ms));
      pause_ms *= 2;
    }
  }

  // --- asking

  Attempt ask(const worker::Message& request, const std::string& kind, double launch_ms) {
    require_worker();
    Attempt attempt;
    attempt.ran_before = ran++;
    const Stopwatch watch;
    const double deadline_ms = deadlines.of(kind, launch_ms);
    std::optional<worker::Message> message;
    try {
      process->wire().send(request.document, request.attachment);
      message = process->wire().receive(deadline_ms);
    } catch (const Broken&) {
      attempt.outcome = Outcome::launch_failed;
      attempt.ended = process->post_mortem();
      attempt.killed = process->was_killed();
      drop();
      return attempt;
    }
    if (!message) {
      attempt.outcome = Outcome::timed_out;
      attempt.ended = fmt::format("no answer within {:.3g} s, and its process was ended", deadline_ms / 1000);
      drop();
    } else if (message->document.contains("refused")) {
      drop();
      const nlohmann::json& refused = message->document.at("refused");
      if (refused.at("code") != static_cast<int>(ExitCode::no_device)) refuse(refused);
      attempt.outcome = Outcome::launch_failed;
      attempt.ended = "the device was lost: " + refused.at("reason").get<std::string>();
    } else {
      attempt.answer = worker::answer_from(message->document);
      deadlines.saw(kind, watch.ms());
      if (attempt.answer.last) drop();
    }
    return attempt;
  }

  /// Asks about one candidate until there is a verdict that is more than a suspicion.
  Result ask_alone(const worker::Message& request, const std::string& kind, const MeasurePolicy& policy, const std::string& subject,
                   const std::string& code) {
    Attempt attempt = ask(request, kind, policy.timeout_ms);
    Result result = only_result(attempt, policy);
    const Attempt first = attempt;
    const Result suspicion = result;
    for (int again = 0; again < kMostAgain && only_suspected(attempt, result, again); ++again) {
      drop();
      attempt = ask(request, kind, policy.timeout_ms);
      result = only_result(attempt, policy);
    }
    const auto bad = [](const Attempt& seen, const Result& gave) { return seen.doubtful() || may_be_innocent(gave); };
    if (attempt.doubtful())
      note(subject, code, result, Incident::Verdict::guilty, first.ran_before);
    else if (bad(first, suspicion) && !bad(attempt, result))
      note(subject, code, suspicion, Incident::Verdict::innocent, first.ran_before);
    return result;
  }

  /// After `again` repetitions in fresh processes. What a fresh process lived to say is sure. That one ended is not, the first time:
  /// somebody may have ended it; and a kill (also the kernel's, for lack of memory) is believed last of all.
  static bool only_suspected(const Attempt& attempt, const Result& result, int again) {
    if (attempt.ended.empty()) return attempt.ran_before > 0 && (attempt.answer.last || may_be_innocent(result));
    return attempt.ran_before > 0 || attempt.killed || again == 0;
  }

  void note(const std::string& subject, const std::string& code, const Result& seen, Incident::Verdict verdict, std::int64_t ran_before) {
    incidents.push_back({.subject = subject,
                         .code = code,
                         .outcome = seen.outcome,
                         .reason = seen.reason,
                         .verdict = verdict,
                         .ran_before = ran_before,
                         .created_at = utc_now()});
  }

  std::string name;
  Use use;
  WorkerOptions options;
  worker::Deadlines deadlines;
  DeviceInfo info;
  std::unique_ptr<WorkerProcess> process;
  std::int64_t ran = 0;  // candidates that the process has been asked to run
  int started = 0;
  std::vector<Incident> incidents;
};

SupervisedDevice::SupervisedDevice(std::string name, Use use, WorkerOptions options)
    : state_(std::make_unique<State>(std::move(name), use, std::move(options))) {}
SupervisedDevice::~SupervisedDevice() = default;

const DeviceInfo& SupervisedDevice::info() const { return state_->info; }
int SupervisedDevice::workers() const { return state_->started; }
int SupervisedDevice::worker_id() const { return state_->process ? state_->process->id() : -1; }

std::vector<Incident> SupervisedDevice::take_incidents() { return std::exchange(state_->incidents, {}); }

Result SupervisedDevice::run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) {
  return state_->ask_alone(worker::stage_request(stage, policy), stage.stage.problem.key(), policy, candidate_name(stage.stage),
                           code_of({&stage, 1}));
}

std::vector<Result> SupervisedDevice::run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                                const MeasurePolicy& policy) {
  if (plans.empty()) return {};
  State& state = *state_;
  const std::string kind = problem.key();
  const auto alone = [&](const std::vector<ExecutableStage>& plan) {
    const std::span<const std::vector<ExecutableStage>> one(&plan, 1);
    return state.ask_alone(worker::plans_request(problem, one, policy), kind, policy, candidate_name(problem, stages_of_plan(plan)),
                           code_of(plan));
  };
  if (plans.size() == 1) return {alone(plans.front())};

  const auto together = [&](std::span<const std::vector<ExecutableStage>> some) {
    const auto count = static_cast<double>(some.size());
    Attempt attempt = state.ask(worker::plans_request(problem, some, policy), fmt::format("{} plans of {}", some.size(), kind),
                                count * policy.timeout_ms);
    state.ran += static_cast<std::int64_t>(some.size()) - 1;
    return attempt;
  };
  const Attempt all = together(plans);
  if (!all.doubtful() && std::ranges::none_of(all.answer.results, may_be_innocent)) return all.answer.results;

  // One of them did it. Each alone tells which; those that are right are then timed together, as finalists must be.
  std::vector<Result> results;
  std::vector<std::vector<ExecutableStage>> right;
  std::vector<std::size_t> places;
  for (const std::vector<ExecutableStage>& plan : plans) {
    results.push_back(alone(plan));
    if (results.back().outcome != Outcome::ok) continue;
    right.push_back(plan);
    places.push_back(results.size() - 1);
  }
  if (right.size() < 2) return results;
  state.drop();
  const Attempt again = together(right);
  for (std::size_t n = 0; n < places.size(); ++n) {
    if (again.ended.empty()) {
      results[places[n]] = again.answer.results.at(n);
    } else {
      results[places[n]] = died(again, policy);
      results[places[n]].reason = "right alone, but when the finalists were run together, " + again.ended;
    }
  }
  return results;
}

}  // namespace phitune
