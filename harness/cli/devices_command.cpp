// phitune devices: what this machine can run, and what it can do without a GPU.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "harness/cli/command.hpp"
#include "harness/compile/host_compiler.hpp"
#include "harness/device/device.hpp"
#include "harness/device/gpu_device.hpp"
#include "harness/device/host_device.hpp"
#include "harness/error.hpp"

namespace phitune::cli {
namespace {

nlohmann::json to_json(const DeviceInfo& device) {
  return {{"name", device.name},
          {"uuid", device.uuid},
          {"architecture", device.architecture},
          {"multiprocessors", device.multiprocessors},
          {"memory_bytes", device.memory_bytes},
          {"l2_bytes", device.l2_bytes},
          {"shared_per_block", device.shared_per_block},
          {"driver", device.driver},
          {"runtime", device.runtime}};
}

// What the device host compiles its kernels with, or why there is no such device.
struct Host {
  DeviceInfo info;
  std::string compiler, reason;
};

Host look_at_host() {
  Host host{host_info("sm_90a"), {}, {}};
  try {
    host.compiler = host_compiler_version();
  } catch (const Error& error) {
    host.reason = error.what();
  }
  return host;
}

int list(bool json, bool quiet) {
  const DeviceList found = list_devices();
  const auto code = static_cast<int>(found.devices.empty() ? ExitCode::no_device : ExitCode::ok);
  if (quiet) return code;
  if (json) {
    nlohmann::json devices = nlohmann::json::array();
    for (const DeviceInfo& device : found.devices) devices.push_back(to_json(device));
    const Host host = look_at_host();
    fmt::print("{}\n", nlohmann::json({{"devices", devices},
                                       {"host", {{"uuid", host.info.uuid}, {"compiler", host.compiler}, {"reason", host.reason}}},
                                       {"reason", found.reason},
                                       {"nvrtc", Compiler::nvrtc_version()},
                                       {"nvrtc_architectures", Compiler::architectures()}})
                           .dump(2));
    return code;
  }
  for (std::size_t i = 0; i < found.devices.size(); ++i) {
    const DeviceInfo& device = found.devices[i];
    fmt::print("cuda:{}  {}  {}, {} multiprocessors, {:.0f} GB, L2 {:.0f} MB, driver {}, CUDA {}\n", i, device.name, device.architecture,
               device.multiprocessors, 1e-9 * static_cast<double>(device.memory_bytes), 1e-6 * static_cast<double>(device.l2_bytes),
               device.driver, device.runtime);
  }
  const Host host = look_at_host();
  if (host.reason.empty())
    fmt::print("host  {}, kernels by {}: runs small problems to see whether kernels are right; its times are no GPU's\n", host.info.uuid,
               host.compiler);
  else
    fmt::print("host cannot be used: {}\n", host.reason);
  fmt::print("NVRTC {} compiles for {}\n", Compiler::nvrtc_version(), fmt::join(Compiler::architectures(), ", "));
  if (found.devices.empty()) {
    fmt::print(
        "{}\n"
        "Without a GPU phitune can: compile (fill the kernel cache for any architecture above), space, report, export, db,\n"
        "look winners up (dispatch without --run), sweep --device replay:FILE, which answers from a recorded sweep, and sweep or verify\n"
        "--device host, which runs the kernels on this CPU.\n",
        found.reason);
  }
  return code;
}

// Whether times of this GPU that are called cold are cold. The flush switched off is tried too: a test that cannot fail proves nothing.
int self_test(const std::string& name, bool json) {
  const std::unique_ptr<Device> opened = open_device(name, Use::verify);
  auto* device = dynamic_cast<GpuDevice*>(opened.get());
  if (!device) throw Error(ExitCode::usage, fmt::format("--self-test is for a GPU (cuda:0), and {} is none", name));
  bool all_right = true;
  nlohmann::json rows = nlohmann::json::object();
  if (!json) fmt::print("{}\n{:<12}{:>12}{:>12}\n", device->info().name, "cold by", "hot ms", "then ms");
  for (const auto& [what, by] : {std::pair("flush", Regime::Cache::flush), {"rotation", Regime::Cache::rotation}, {"no flush", Regime::Cache::hot}}) {
    const GpuDevice::Coldness seen = device->coldness(by);
    const bool right = seen.works == (by != Regime::Cache::hot);
    all_right = all_right && right;
    rows[what] = {{"hot_ms", seen.hot_ms}, {"cold_ms", seen.cold_ms}, {"cold", seen.works}, {"right", right}};
    if (!json)
      fmt::print("{:<12}{:>12.4f}{:>12.4f}  {}{}\n", what, seen.hot_ms, seen.cold_ms, seen.works ? "cold" : "not cold",
                 right ? ", as it must be" : ": WRONG");
  }
  if (json) fmt::print("{}\n", nlohmann::json({{"device", to_json(device->info())}, {"coldness", rows}}).dump(2));
  return static_cast<int>(all_right ? ExitCode::ok : ExitCode::failed);
}

}  // namespace

void add_devices(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("devices", "List the GPUs, and what there is in their place; exit code 4 without a GPU");
  auto json = std::make_shared<bool>(false), quiet = std::make_shared<bool>(false);
  auto tested = std::make_shared<std::string>();
  command->add_flag("--json", *json, "print as JSON");
  command->add_flag("--quiet", *quiet, "print nothing, only set the exit code");
  command->add_option("--self-test", *tested, "cuda:N: whether what is called a cold cache on it is cold, by reads of a buffer that fits the cache");
  command->footer(
      "Examples:\n  phitune devices --quiet && phitune sweep --suite data/suites/paper.toml\n  phitune devices --self-test cuda:0");
  command->callback([json, quiet, tested, &action] {
    action = [json, quiet, tested] { return tested->empty() ? list(*json, *quiet) : self_test(*tested, *json); };
  });
}

}  // namespace phitune::cli
