#include <fmt/format.h>

#include <charconv>

#include "harness/device/gpu_device.hpp"
#include "harness/device/host_device.hpp"
#include "harness/device/replay_device.hpp"
#include "harness/device/simulated_device.hpp"
#include "harness/error.hpp"

namespace phitune {

namespace {

int ordinal_of(const std::string& name, std::string_view digits) {
  int ordinal = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
  if (code != std::errc{} || end != digits.data() + digits.size() || ordinal < 0)
    throw Error(ExitCode::usage, fmt::format("'{}' does not name a GPU; write cuda:0 for the first one", name));
  return ordinal;
}

}  // namespace

std::vector<std::string> devices_named(const std::string& list) {
  if (list == "cuda:all") {
    const DeviceList found = list_devices();
    if (found.devices.empty()) throw Error(ExitCode::no_device, "cuda:all: there is no usable GPU: " + found.reason);
    std::vector<std::string> names;
    for (std::size_t i = 0; i < found.devices.size(); ++i) names.push_back(fmt::format("cuda:{}", i));
    return names;
  }
  // A file's name may have commas in it; only one that a device's kind follows parts two devices.
  std::vector<std::string> names{""};
  for (std::size_t at = 0; at < list.size(); ++at) {
    const std::string_view rest = std::string_view(list).substr(at + 1);
    if (list[at] == ',' && (rest.starts_with("cuda:") || rest.starts_with("sim:")))
      names.emplace_back();
    else
      names.back().push_back(list[at]);
  }
  return names;
}

std::unique_ptr<Device> open_device(const std::string& name, Use use, const HostOptions& host) {
  constexpr std::string_view cuda = "cuda:", replay = "replay:", cpu = "host:", simulated = "sim:";
  if (name == "cuda") return std::make_unique<GpuDevice>(0, use);
  if (name.starts_with(cuda)) return std::make_unique<GpuDevice>(ordinal_of(name, std::string_view(name).substr(cuda.size())), use);
  if (name.starts_with(replay)) return open_replay(name.substr(replay.size()));
  if (name.starts_with(simulated)) return std::make_unique<SimulatedDevice>(load_simulation(name.substr(simulated.size())));
  // The newest architecture that there are templates for, so that no space is cut short.
  if (name == "host") return std::make_unique<HostDevice>("sm_90a", host, use);
  if (name.starts_with(cpu)) return std::make_unique<HostDevice>(name.substr(cpu.size()), host, use);
  throw Error(ExitCode::usage,
              fmt::format("there is no device '{}'; use cuda:N for a GPU, replay:FILE for a recording, host to run on this CPU, or sim:FILE for a simulated GPU that fails on demand", name));
}

}  // namespace phitune
