// phitune devices: what this machine can run, and what it can do without a GPU.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "harness/cli/command.hpp"
#include "harness/compile/host_compiler.hpp"
#include "harness/device/device.hpp"
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

}  // namespace

void add_devices(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("devices", "List the GPUs, and what there is in their place; exit code 4 without a GPU");
  auto json = std::make_shared<bool>(false), quiet = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print as JSON");
  command->add_flag("--quiet", *quiet, "print nothing, only set the exit code");
  command->footer("Example: phitune devices --quiet && phitune sweep --suite data/suites/paper.toml");
  command->callback([json, quiet, &action] { action = [json, quiet] { return list(*json, *quiet); }; });
}

}  // namespace phitune::cli
