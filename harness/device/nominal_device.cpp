#include "harness/device/nominal_device.hpp"

#include <fmt/format.h>

#include <map>

#include "harness/error.hpp"

namespace phitune {

DeviceInfo nominal_device(const std::string& architecture) {
  struct Limits {
    int compute_capability, multiprocessors;
    std::int64_t shared_per_block, shared_per_multiprocessor;
  };
  // Opt-in and total shared memory from the CUDA programming guide's table of compute capabilities; multiprocessors of a typical part.
  constexpr std::int64_t kib = 1024;
  static const std::map<std::string, Limits> known = {
      {"sm_80", {80, 108, 163 * kib, 164 * kib}},    {"sm_86", {86, 84, 99 * kib, 100 * kib}},
      {"sm_87", {87, 16, 163 * kib, 164 * kib}},     {"sm_89", {89, 128, 99 * kib, 100 * kib}},
      {"sm_90", {90, 132, 227 * kib, 228 * kib}},    {"sm_90a", {90, 132, 227 * kib, 228 * kib}},
      {"sm_100", {100, 148, 227 * kib, 228 * kib}},  {"sm_100a", {100, 148, 227 * kib, 228 * kib}},
      {"sm_103a", {103, 148, 227 * kib, 228 * kib}}, {"sm_120", {120, 170, 99 * kib, 100 * kib}},
      {"sm_120a", {120, 170, 99 * kib, 100 * kib}},
  };
  const auto place = known.find(architecture);
  if (place == known.end()) {
    std::string names;
    for (const auto& [name, limits] : known) names += " " + name;
    throw Error(ExitCode::bad_input, fmt::format("unknown architecture '{}'. Known:{}", architecture, names));
  }
  DeviceInfo device;
  device.name = "any " + architecture + " device";
  device.architecture = architecture;
  device.compute_capability = place->second.compute_capability;
  device.multiprocessors = place->second.multiprocessors;
  device.shared_per_block = place->second.shared_per_block;
  device.shared_per_multiprocessor = place->second.shared_per_multiprocessor;
  return device;
}

}  // namespace phitune
