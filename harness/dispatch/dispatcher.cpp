#include "harness/dispatch/dispatcher.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>

#include "harness/device/cuda.hpp"
#include "harness/device/gpu_properties.hpp"
#include "harness/dispatch/resolve.hpp"
#include "harness/error.hpp"
#include "harness/store/store.hpp"
#include "harness/store/template_hash.hpp"
#include "kernel_templates/stage_template.hpp"

namespace phitune {
namespace {

// The only kind of device that the winners are of, when no GPU says otherwise.
DeviceInfo only_kind(const std::vector<Winner>& winners, const std::string& database) {
  std::set<std::string> kinds;
  for (const Winner& winner : winners)
    if (!winner.device.emulated) kinds.insert(fmt::format("{} ({})", winner.device.name, winner.device.architecture));
  if (kinds.size() == 1) return std::ranges::find(winners, false, [](const Winner& winner) { return winner.device.emulated; })->device;
  throw Error(ExitCode::no_device,
              fmt::format("{}: no GPU here, and the database has winners of {} kinds of device{}{}: say which one to choose for", database,
                          kinds.size(), kinds.empty() ? "" : ": ", fmt::join(kinds, ", ")));
}

DeviceInfo choose_device(const DispatcherOptions& options, const std::vector<Winner>& winners, const std::string& database) {
  if (options.device && options.device->emulated) {
    throw Error(ExitCode::usage,
                fmt::format("{} cannot be dispatched for: its times are those of CPU emulation. Name a GPU", options.device->name));
  }
  if (options.device) return *options.device;
  const DeviceList here = list_devices();
  return here.devices.empty() ? only_kind(winners, database) : here.devices.front();
}

std::vector<TunedPlan> plans_for(const DeviceInfo& device, const std::vector<Winner>& winners, Store& store) {
  std::vector<TunedPlan> plans;
  std::map<std::string, std::shared_ptr<const Binary>> binaries;  // plans share kernels
  for (const Winner& winner : winners) {
    // Machine code and configs of another architecture mean nothing here, nor do the times of an emulation.
    if (winner.device.architecture != device.architecture || winner.device.emulated) continue;
    TunedPlan& plan = plans.emplace_back();
    plan.plan = winner.plan_trial.trial.plan;
    plan.result = winner.plan_trial.trial.result;
    plan.device = winner.device;
    plan.set_at = winner.set_at;
    plan.same_device = winner.device.name == device.name;
    plan.stale = winner.stale;
    plan.stale_reason = winner.stale_reason;
    plan.template_hashes = winner.plan_trial.template_hashes;
    for (const std::string& hash : winner.plan_trial.trial.cubin_hashes) {
      if (!hash.empty() && !binaries.contains(hash)) binaries[hash] = store.binary(hash);
      plan.binaries.push_back(hash.empty() ? nullptr : binaries[hash]);
    }
  }
  return plans;
}

std::string describe_tuned(const TunedPlan& tuned) {
  std::string text = fmt::format("{} on {}, {}", tuned.plan.shape.text(), tuned.device.name, tuned.set_at);
  if (tuned.result.timing) text += fmt::format(": {:.4g} ms (IQR {:.2g})", tuned.result.timing->median_ms, tuned.result.timing->iqr_ms);
  if (tuned.result.errors) {
    text += fmt::format(", error {:.2g} of at most {:.2g}", tuned.result.errors->relative_l2, tuned.result.errors->tolerance);
  }
  if (tuned.device.replayed) text += "; the numbers come from a recording";
  return text;
}

}  // namespace

struct Dispatcher::State {
  State(std::vector<TunedPlan> plans, DeviceInfo target, DispatcherOptions given)
      : options(std::move(given)), device(std::move(target)), table(std::move(plans), options.guard) {
    if (!options.template_hash) options.template_hash = template_hash;
  }

  DispatcherOptions options;
  DeviceInfo device;
  TunedTable table;

  // Everything below is guarded by the mutex.
  std::mutex mutex;
  std::unique_ptr<Compiler> compiler;
  std::unordered_map<Problem, Resolved, ProblemHash> resolved;
  std::unordered_map<Problem, std::shared_ptr<const PreparedPlan>, ProblemHash> prepared;

  const Resolved& resolve_once(const Selection& selection) {
    const auto known = resolved.find(selection.problem);
    if (known != resolved.end()) return known->second;
    return resolved.emplace(selection.problem, resolve(selection, device)).first->second;
  }

  /// The timed cubin, when the template makes the same source for this stage today as it did then.
  std::shared_ptr<const Binary> stored_binary(const TunedPlan& tuned, const PlanStage& stage) {
    for (std::size_t i = 0; i < tuned.plan.stages.size() && i < tuned.binaries.size(); ++i) {
      if (tuned.plan.stages[i].problem.stage != stage.problem.stage) continue;
      const bool same_text = i < tuned.template_hashes.size() && tuned.template_hashes[i] == options.template_hash(stage);
      return same_text ? tuned.binaries[i] : nullptr;
    }
    return nullptr;
  }

  std::shared_future<Compiled> compile(const PlanStage& stage) {
    if (!compiler) {
      CompilerOptions settings;
      settings.architecture = device.architecture;
      settings.cache_directory = options.cache_directory;
      compiler = std::make_unique<Compiler>(settings);
    }
    return compiler->compile(stage_template(stage.problem.stage, stage.problem.path).source(stage.problem, stage.config));
  }

  std::vector<ExecutableStage> stages(const Selection& selection) {
    const Resolved& chosen = resolve_once(selection);
    std::vector<ExecutableStage> stages;
    std::map<std::size_t, std::shared_future<Compiled>> pending;
    for (const PlanStage& stage : chosen.plan.stages) {
      stages.push_back({stage, nullptr});
      if (stage.problem.path == Path::library) continue;
      if (selection.tuned != nullptr && !chosen.is_builtin) stages.back().binary = stored_binary(*selection.tuned, stage);
      if (!stages.back().binary) pending.emplace(stages.size() - 1, compile(stage));
    }
    for (auto& [index, future] : pending) {
      const Compiled& compiled = future.get();
      if (compiled.outcome != Outcome::ok) {
        throw Error(ExitCode::failed,
                    fmt::format("{} does not compile for {}: {}", stages[index].stage.problem.key(), device.architecture, compiled.reason));
      }
      stages[index].binary = compiled.binary;
    }
    return stages;
  }

  void require_gpu() const {
    int current = 0;
    const int count = cuda::device_count();
    cuda::check(cudaGetDevice(&current));
    const DeviceInfo here = cuda::device_info(current < count ? current : 0);
    if (here.architecture == device.architecture) return;
    throw Error(ExitCode::no_device, fmt::format("the current GPU, {}, is {}; this dispatcher chooses for {} ({})", here.name,
                                                 here.architecture, device.name, device.architecture));
  }
};

Dispatcher::Dispatcher(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dispatcher::~Dispatcher() = default;
Dispatcher::Dispatcher(Dispatcher&&) noexcept = default;
Dispatcher& Dispatcher::operator=(Dispatcher&&) noexcept = default;

Dispatcher Dispatcher::open(const std::filesystem::path& database, DispatcherOptions options) {
  StoreOptions reading;
  reading.mode = OpenMode::read_only;
  reading.template_hash = options.template_hash;
  Store store(database, reading);
  const std::vector<Winner> winners = store.winners();
  DeviceInfo device = choose_device(options, winners, database.string());
  std::vector<TunedPlan> plans = plans_for(device, winners, store);
  return Dispatcher(std::make_unique<State>(std::move(plans), std::move(device), std::move(options)));
}

Dispatcher Dispatcher::built_in(DispatcherOptions options) {
  DeviceInfo device = choose_device(options, {}, "built-in plans");
  return Dispatcher(std::make_unique<State>(std::vector<TunedPlan>(), std::move(device), std::move(options)));
}

Selection Dispatcher::lookup(const Problem& problem) const noexcept {
  const TunedTable::Found found = state_->table.find(problem);
  return {problem, found.why, found.plan};
}

std::string Dispatcher::explain(const Selection& selection) {
  const std::lock_guard lock(state_->mutex);
  const Resolved& chosen = state_->resolve_once(selection);
  std::string text;
  switch (selection.why) {
    case Why::exact:
      text = "tuned for this problem: " + describe_tuned(*selection.tuned);
      break;
    case Why::nearest:
      text = fmt::format("this problem was not tuned on {}; the plan of {} is used: {}", state_->device.name,
                         selection.tuned->plan.problem.key(), describe_tuned(*selection.tuned));
      break;
    case Why::builtin:
      text = fmt::format("{}; {} runs untuned", state_->table.why_none(selection.problem), chosen.plan.shape.text());
      break;
  }
  if (selection.tuned != nullptr && !selection.tuned->same_device)
    text += fmt::format("; tuned on another device, {}", selection.tuned->device.name);
  if (selection.stale()) {
    text += fmt::format("; stale: {}. Its kernels are compiled from today's templates; tune again", selection.tuned->stale_reason);
  }
  for (const std::string& note : chosen.notes) text += "; " + note;
  return text;
}

Plan Dispatcher::plan(const Selection& selection) {
  const std::lock_guard lock(state_->mutex);
  return state_->resolve_once(selection).plan;
}

std::int64_t Dispatcher::workspace_size(const Selection& selection) {
  const std::lock_guard lock(state_->mutex);
  return workspace_of(selection.problem, state_->resolve_once(selection).plan.shape).total();
}

std::vector<ExecutableStage> Dispatcher::stages(const Selection& selection) {
  const std::lock_guard lock(state_->mutex);
  return state_->stages(selection);
}

std::shared_ptr<const PreparedPlan> Dispatcher::prepare(const Selection& selection) {
  const std::lock_guard lock(state_->mutex);
  const auto known = state_->prepared.find(selection.problem);
  if (known != state_->prepared.end()) return known->second;
  state_->require_gpu();
  auto plan = std::make_shared<const PreparedPlan>(state_->resolve_once(selection).plan, state_->stages(selection));
  state_->prepared.emplace(selection.problem, plan);
  return plan;
}

const DeviceInfo& Dispatcher::device() const { return state_->device; }
const std::vector<TunedPlan>& Dispatcher::tuned() const { return state_->table.plans(); }

}  // namespace phitune
