#include "harness/device/device_group.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <future>
#include <map>
#include <utility>

#include "harness/error.hpp"
#include "harness/store/store.hpp"

namespace phitune {

/// A device and the thread that owns it: its worker process dies with that thread, and a CUDA context belongs to it.
class DeviceGroup::Member {
 public:
  Member(std::string its_name, Open open) : name(std::move(its_name)), thread_([this, open = std::move(open)] { own(open); }) {}
  ~Member() {
    post({});
    thread_.join();
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  /// Waits until the device is open. Throws what opening it threw.
  void wait_until_open() { info = opened_.get_future().get(); }

  /// `job` runs after those before it; an empty one ends the thread.
  void post(std::function<void(Device&)> job) {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    changed_.notify_one();
  }

  const std::string name;
  DeviceInfo info;
  std::string lost;   // why it is gone; empty while it is there
  bool busy = false;  // of the group's thread, like `lost`

 private:
  void own(const Open& open) {
    std::unique_ptr<Device> device;
    try {
      device = open(name);
      opened_.set_value(device->info());
    } catch (...) {
      opened_.set_exception(std::current_exception());
    }
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !jobs_.empty(); });
      const std::function<void(Device&)> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      if (!job) return;
      job(*device);
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void(Device&)>> jobs_;
  std::promise<DeviceInfo> opened_;
  std::thread thread_;  // last: it uses the others
};

/// What members are doing for one call of run_stages; kept alive by their jobs, should the call end early.
class DeviceGroup::Running {
 public:
  struct Ended {
    std::size_t member = 0;
    StageRun run;
    Result result;
    std::vector<Incident> incidents;
    std::exception_ptr error;
  };

  void put(Ended ended) {
    const std::lock_guard lock(mutex_);
    ended_.push_back(std::move(ended));
    changed_.notify_one();
  }
  Ended take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !ended_.empty(); });
    Ended ended = std::move(ended_.front());
    ended_.pop_front();
    return ended;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Ended> ended_;
};

DeviceGroup::DeviceGroup(const std::vector<std::string>& names, const Open& open) {
  for (const std::string& name : names) members_.push_back(std::make_unique<Member>(name, open));
  for (const auto& member : members_) member->wait_until_open();
  require_one_model(names);
  info_ = members_.front()->info;
}

DeviceGroup::~DeviceGroup() = default;

void DeviceGroup::require_one_model(const std::vector<std::string>& names) const {
  const DeviceInfo& first = members_.front()->info;
  for (std::size_t i = 1; i < members_.size(); ++i) {
    const DeviceInfo& other = members_[i]->info;
    if (other.name != first.name || other.architecture != first.architecture || other.multiprocessors != first.multiprocessors)
      throw Error(ExitCode::usage,
                  fmt::format("{} is {} ({}, {} multiprocessors) and {} is {} ({}, {} multiprocessors): times of different models cannot be "
                              "compared, so one sweep runs on one model. Sweep each by itself, --device {} and --device {}; both may write to "
                              "one database at once.",
                              names[0], first.name, first.architecture, first.multiprocessors, names[i], other.name, other.architecture,
                              other.multiprocessors, names[0], names[i]));
    for (std::size_t j = 0; j < i; ++j)
      if (members_[j]->info.uuid == other.uuid)
        throw Error(ExitCode::usage, fmt::format("{} and {} are one and the same board ({})", names[j], names[i], other.uuid));
  }
}

std::size_t DeviceGroup::left() const {
  return static_cast<std::size_t>(std::ranges::count_if(members_, [](const auto& member) { return member->lost.empty(); }));
}

std::vector<std::string> DeviceGroup::losses() const {
  std::vector<std::string> sentences;
  for (const auto& member : members_)
    if (!member->lost.empty()) sentences.push_back(fmt::format("{} was lost and left out: {}", member->name, member->lost));
  return sentences;
}

std::vector<Incident> DeviceGroup::take_incidents() { return std::exchange(incidents_, {}); }

void DeviceGroup::run_stages(const NextRun& next, const RunDone& done) {
  const auto running = std::make_shared<Running>();
  std::size_t in_flight = 0;
  std::deque<StageRun> again;                 // whose member was lost
  std::map<std::uint64_t, int> lost_with;     // by the run's number
  std::exception_ptr failure;                 // ends the call, once nothing is in flight any more
  const auto next_run = [&](std::size_t member) -> std::optional<StageRun> {
    if (failure) return std::nullopt;
    if (again.empty())
      return next([&](const StageProblem& stage) {
        const auto owner = owners_.find(stage);
        return owner == owners_.end() || owner->second == member || !members_[owner->second]->lost.empty();
      });
    StageRun run = std::move(again.front());
    again.pop_front();
    return run;
  };
  const auto start = [&](std::size_t i, StageRun run) {
    members_[i]->busy = true;
    owners_[run.stage.stage.problem] = i;
    ++in_flight;
    members_[i]->post([running, i, run = std::move(run)](Device& device) {
      Running::Ended ended{.member = i, .run = run, .result = {}, .incidents = {}, .error = nullptr};
      try {
        ended.result = device.run_stage(run.stage, run.policy);
      } catch (...) {
        ended.error = std::current_exception();
      }
      ended.incidents = device.take_incidents();
      running->put(std::move(ended));
    });
  };
  const auto lose = [&](Running::Ended& ended, const DeviceLost& lost) {
    members_[ended.member]->lost = lost.what();
    if (++lost_with[ended.run.number] < 2) {
      again.push_back(std::move(ended.run));
    } else {
      Result result;
      result.outcome = Outcome::launch_failed;
      result.reason = fmt::format("two devices were lost while it ran, the second with: {}", lost.what());
      result.seed = ended.run.policy.seed;
      incidents_.push_back({.subject = candidate_name(ended.run.stage.stage),
                            .code = ended.run.stage.binary ? ended.run.stage.binary->cubin_hash : std::string(),
                            .outcome = result.outcome,
                            .reason = result.reason,
                            .verdict = Incident::Verdict::guilty,
                            .ran_before = 0,
                            .created_at = utc_now()});
      done(ended.run, std::move(result));
    }
    if (left() == 0) failure = std::make_exception_ptr(DeviceLost("every device of the sweep is lost: " + losses().back()));
  };

  while (true) {
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (members_[i]->busy || !members_[i]->lost.empty()) continue;
      if (auto run = next_run(i)) start(i, std::move(*run));
    }
    if (in_flight == 0) break;
    Running::Ended ended = running->take();
    --in_flight;
    members_[ended.member]->busy = false;
    std::ranges::move(ended.incidents, std::back_inserter(incidents_));
    try {
      if (ended.error) std::rethrow_exception(ended.error);
      if (ended.member > 0) ended.result.board = members_[ended.member]->info.uuid;
      done(ended.run, std::move(ended.result));
    } catch (const DeviceLost& lost) {
      lose(ended, lost);
    } catch (...) {
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

Result DeviceGroup::run_stage(const ExecutableStage& stage, const MeasurePolicy& policy) {
  std::optional<StageRun> run = StageRun{.stage = stage, .policy = policy, .number = 0};
  Result result;
  run_stages([&](const MayRun&) { return std::exchange(run, std::nullopt); }, [&](const StageRun&, Result got) { result = std::move(got); });
  return result;
}

std::vector<Result> DeviceGroup::run_plans(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans,
                                           const MeasurePolicy& policy) {
  for (std::size_t i = 0; i < members_.size(); ++i) {
    Member& member = *members_[i];
    if (!member.lost.empty()) continue;
    std::promise<std::vector<Result>> promise;
    std::vector<Incident> incidents;
    member.post([&](Device& device) {
      std::exception_ptr error;
      std::vector<Result> results;
      try {
        results = device.run_plans(problem, plans, policy);
      } catch (...) {
        error = std::current_exception();
      }
      incidents = device.take_incidents();
      error ? promise.set_exception(error) : promise.set_value(std::move(results));
    });
    try {
      std::vector<Result> results = promise.get_future().get();
      std::ranges::move(incidents, std::back_inserter(incidents_));
      if (i > 0)
        for (Result& result : results) result.board = member.info.uuid;
      return results;
    } catch (const DeviceLost& lost) {
      std::ranges::move(incidents, std::back_inserter(incidents_));
      member.lost = lost.what();
    }
  }
  throw DeviceLost("every device of the sweep is lost: " + losses().back());
}

}  // namespace phitune
