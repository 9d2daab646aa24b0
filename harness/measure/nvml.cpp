#include "harness/measure/nvml.hpp"

#include <dlfcn.h>

#include <array>
#include <utility>

namespace phitune {

namespace {

// The part of NVML's interface that is used here: https://docs.nvidia.com/deploy/nvml-api/
using Handle = void*;
constexpr int kSuccess = 0;
constexpr int kSmClock = 1;
constexpr int kGpuTemperature = 0;

constexpr std::array<std::pair<unsigned long long, const char*>, 8> kReasons{{{0x2, "application clocks"},
                                                                              {0x4, "power cap"},
                                                                              {0x8, "hardware slowdown"},
                                                                              {0x10, "sync boost"},
                                                                              {0x20, "software thermal"},
                                                                              {0x40, "hardware thermal"},
                                                                              {0x80, "power brake"},
                                                                              {0x100, "display clocks"}}};

// Hardware slowdown, software thermal, hardware thermal, power brake.
constexpr unsigned long long kSlowed = 0x8 | 0x20 | 0x40 | 0x80;

}  // namespace

struct Nvml::Library {
  void* handle = nullptr;
  Handle device = nullptr;
  bool initialised = false;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*device_by_bus)(const char*, Handle*) = nullptr;
  int (*clock)(Handle, int, unsigned*) = nullptr;
  int (*temperature)(Handle, int, unsigned*) = nullptr;
  int (*reasons)(Handle, unsigned long long*) = nullptr;
  int (*driver)(char*, unsigned) = nullptr;

  ~Library() {
    if (initialised) shutdown();
    if (handle) dlclose(handle);
  }

  template <typename Function>
  bool find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(handle, name));
    return function != nullptr;
  }

  bool find_all() {
    // Throttle reasons are called event reasons in newer libraries. What is missing below is an empty answer, not an absent library.
    if (!find(reasons, "nvmlDeviceGetCurrentClocksEventReasons")) find(reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
    find(clock, "nvmlDeviceGetClockInfo");
    find(temperature, "nvmlDeviceGetTemperature");
    find(driver, "nvmlSystemGetDriverVersion");
    return find(init, "nvmlInit_v2") && find(shutdown, "nvmlShutdown") && find(device_by_bus, "nvmlDeviceGetHandleByPciBusId_v2");
  }
};

Nvml::Nvml(const std::string& pci_bus_id) : library_(std::make_unique<Library>()) {
  library_->handle = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library_->handle) {
    reason_ = "libnvidia-ml.so.1 cannot be loaded: clocks and throttling are not recorded";
  } else if (!library_->find_all()) {
    reason_ = "libnvidia-ml.so.1 lacks a function of NVML's version 2 interface";
  } else if (library_->init() != kSuccess) {
    reason_ = "NVML does not initialise";
  } else {
    library_->initialised = true;
    if (library_->device_by_bus(pci_bus_id.c_str(), &library_->device) != kSuccess) reason_ = "NVML does not know the device " + pci_bus_id;
  }
}

Nvml::~Nvml() = default;

bool Nvml::available() const { return reason_.empty(); }
const std::string& Nvml::reason() const { return reason_; }

DeviceState Nvml::look() const {
  DeviceState state;
  if (!available()) return state;
  unsigned clock = 0, temperature = 0;
  unsigned long long reasons = 0;
  if (library_->clock && library_->clock(library_->device, kSmClock, &clock) == kSuccess) state.sm_clock_mhz = clock;
  if (library_->temperature && library_->temperature(library_->device, kGpuTemperature, &temperature) == kSuccess)
    state.temperature_c = temperature;
  if (library_->reasons && library_->reasons(library_->device, &reasons) == kSuccess) state.throttle_reasons = throttle_text(reasons);
  return state;
}

std::string Nvml::driver_version() const {
  std::array<char, 96> text{};
  if (!library_->initialised || !library_->driver || library_->driver(text.data(), static_cast<unsigned>(text.size())) != kSuccess)
    return {};
  return text.data();
}

std::string throttle_text(unsigned long long bits) {
  std::string out;
  for (const auto& [bit, name] : kReasons) {
    if ((bits & bit) == 0) continue;
    if (!out.empty()) out += ", ";
    out += name;
  }
  return out;
}

}  // namespace phitune
