// A device to choose for where there is none.
#pragma once

#include "search/trial.hpp"

namespace phitune {

inline DeviceInfo test_device() {
  DeviceInfo device;
  device.name = "NVIDIA Test";
  device.uuid = "GPU-0";
  device.compute_capability = 90;
  device.architecture = "sm_90a";
  device.multiprocessors = 132;
  device.l2_bytes = 52428800;
  device.memory_bytes = 150000000000;
  device.shared_per_block = 232448;
  device.shared_per_multiprocessor = 233472;
  return device;
}

}  // namespace phitune
