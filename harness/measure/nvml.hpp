// Clocks, temperature and throttling, from the driver's management library where there is one. Loaded at run time; absence is normal.
#pragma once

#include <memory>
#include <string>

namespace phitune {

/// One look at the device. Zeros and empty text where the library has no answer.
struct DeviceState {
  double sm_clock_mhz = 0;
  double temperature_c = 0;
  std::string throttle_reasons;  // "power cap, thermal"; an idle device is no reason
  /// Slowed by heat or by a hardware brake, for a while: what is timed meanwhile says nothing about other times. A power cap is not of this
  /// kind: under a load that draws so much power it is how the device runs.
  bool slowed = false;
};

/// Not thread-safe. Never throws: without the library every answer is empty and reason() says why.
class Nvml {
 public:
  /// `pci_bus_id` as the CUDA runtime writes it: "0000:3B:00.0".
  explicit Nvml(const std::string& pci_bus_id);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  [[nodiscard]] bool available() const;
  [[nodiscard]] const std::string& reason() const;
  [[nodiscard]] DeviceState look() const;
  [[nodiscard]] std::string driver_version() const;  // "580.159.04"

 private:
  struct Library;
  std::unique_ptr<Library> library_;
  std::string reason_;
};

/// The names of NVML's clock event bits, joined by ", ".
[[nodiscard]] std::string throttle_text(unsigned long long bits);

}  // namespace phitune
