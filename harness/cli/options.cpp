// Options that several commands share.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "harness/cli/command.hpp"
#include "harness/device/device_group.hpp"
#include "harness/error.hpp"
#include "harness/tune/distill.hpp"
#include "harness/worker/supervised_device.hpp"

namespace phitune::cli {
namespace {

// What stands in a list of files of experience without being one; ./none is a file.
constexpr const char* builtin = "builtin";
constexpr const char* without_builtin = "none";

}  // namespace

void ProblemOptions::add_to(CLI::App& command) {
  command.add_option("--suite", suite, "TOML file of problems, e.g. data/suites/paper.toml");
  command
      .add_option("--problem", problems,
                  "a problem in shorthand, e.g. \"b1 t65536 h8 d64 p2 bf16 gated\"; a field may be a list (t4096|8192), and the option "
                  "may be repeated")
      ->take_all();
}

Suite ProblemOptions::load() const {
  Suite loaded;
  if (!suite.empty()) loaded = load_suite(suite);
  if (!problems.empty()) {
    Suite named = suite_of(problems);
    if (loaded.problems.empty()) loaded.name = named.name;
    for (SuiteProblem& problem : named.problems) loaded.problems.push_back(std::move(problem));
  }
  if (loaded.problems.empty())
    throw Error(
        ExitCode::usage,
        "no problem given. Name a suite (--suite data/suites/paper.toml) or a problem (--problem \"b1 t65536 h8 d64 p2 bf16 gated\").");
  return loaded;
}

CLI::Validator at_least(double least) {
  const auto check = [least](const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    const bool whole = end != text.c_str() && *end == '\0';
    return whole && value >= least ? std::string() : fmt::format("'{}' is not a number of at least {}", text, least);
  };
  return CLI::Validator(check, "");
}

CLI::Option* ExperienceFlags::add_to(CLI::App& command, const std::string& help) {
  return command.add_option("--experience", names, help)->delimiter(',');
}

bool ExperienceFlags::has(const std::string& name) const { return std::ranges::find(names, name) != names.end(); }

bool ExperienceFlags::asks_for_some() const {
  return std::ranges::any_of(names, [](const std::string& name) { return name != without_builtin; });
}

std::vector<std::shared_ptr<const Lessons>> ExperienceFlags::load(Regime regime, bool by_default) const {
  if (has(builtin) && has(without_builtin))
    throw Error(ExitCode::usage, "--experience cannot be both builtin and none: with what phitune brings along, or without it");
  std::vector<std::shared_ptr<const Lessons>> known;
  if (has(builtin) || (by_default && !has(without_builtin))) known.push_back(builtin_lessons());
  for (const std::string& name : names)
    if (name != builtin && name != without_builtin) known.push_back(std::make_shared<const Lessons>(read_lessons(name, regime)));
  return known;
}

CLI::Option* add_regime(CLI::App& command, std::string& regime) {
  return command
      .add_option("--regime", regime,
                  "what is in the L2 cache when a sample begins: nothing of the candidate's (flush), what it left working on other copies of its "
                  "tensors (rotation), the tensors themselves (hot); with -eager kernels are launched one by one instead of as a graph")
      ->check(CLI::IsMember(regime_names()))
      ->capture_default_str();
}

CLI::Option* add_rest(CLI::App& command, double& rest) {
  return command
      .add_option("--rest", rest,
                  "before a sample the device rests for so many times what the last one took, so that a power cap does not charge one for another; "
                  "0: as under constant load")
      ->check(at_least(0))
      ->capture_default_str();
}

std::filesystem::path default_cache_directory() {
  if (const char* set = std::getenv("PHITUNE_CACHE"); set && *set) return set;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) return std::filesystem::path(xdg) / "phitune";
  if (const char* home = std::getenv("HOME"); home && *home) return std::filesystem::path(home) / ".cache" / "phitune";
  return {};
}

Store open_read_only(const std::string& database) {
  StoreOptions options;
  options.mode = OpenMode::read_only;
  return Store(database, options);
}

std::vector<Winner> winners_for(Store& store, const DeviceInfo& device) {
  if (const auto same_board = store.find_device(device)) {
    if (auto winners = store.winners(*same_board); !winners.empty()) return winners;
  }
  for (const StoredDevice& other : store.devices()) {
    if (other.info.name != device.name || other.info.architecture != device.architecture || other.info.replayed != device.replayed)
      continue;
    if (auto winners = store.winners(other.id); !winners.empty()) return winners;
  }
  throw Error(ExitCode::bad_input, fmt::format("{} has no winners of {}{}. Tune it first: phitune sweep --db {}", store.path().string(),
                                               device.name, device.replayed ? " (replayed)" : "", store.path().string()));
}

void CompilerFlags::add_to(CLI::App& command) {
  command.add_option("--cache", cache, "folder of compiled kernels; empty for none")->capture_default_str();
  command.add_option("--threads", threads, "compile threads; 0: one per hardware thread")->check(at_least(0))->capture_default_str();
}

void DeviceFlags::add_to(CLI::App& command, const std::string& what) {
  command.add_option("--device", name, what)->capture_default_str();
  command
      .add_option("--emulation-limit", emulation_limit_s,
                  "on the device host: seconds that the emulation of one launch may be estimated to take; what takes longer is pruned")
      ->check(at_least(0))
      ->capture_default_str();
  command
      .add_option("--trial-limit", trial_limit_s,
                  "seconds after which a trial that says nothing is taken for dead; 0: from what trials of its kind have taken")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_flag(
      "--in-process", in_process,
      "run the GPU in this process, for tools that watch one (compute-sanitizer, Nsight); a candidate that breaks it ends the run");
}

std::unique_ptr<Device> DeviceFlags::open(Use use, const std::string& cache) const {
  const std::vector<std::string> names = devices_named(name);
  if (names.size() == 1) return open_one(names.front(), use, cache);
  if (!several) throw Error(ExitCode::usage, fmt::format("'{}' is more than one device, which is for phitune sweep alone", name));
  return std::make_unique<DeviceGroup>(names, [=, this](const std::string& one) { return open_one(one, use, cache); });
}

std::unique_ptr<Device> DeviceFlags::open_one(const std::string& device, Use use, const std::string& cache) const {
  const bool owns_hardware = device.starts_with("cuda") || device.starts_with("sim:");
  if (owns_hardware && !in_process)
    return std::make_unique<SupervisedDevice>(device, use, WorkerOptions{.deadline_ms = trial_limit_s * 1000});
  return open_device(device, use, {.cache_directory = cache, .limit_s = emulation_limit_s});
}

}  // namespace phitune::cli
