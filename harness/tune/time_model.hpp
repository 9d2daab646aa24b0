// What is known of a config before it is compiled: how its blocks fill the device, and how long that should take.
#pragma once

#include <cstdint>

#include "kernel_templates/stage_template.hpp"
#include "search/trial.hpp"

namespace phitune {

/// How a config's blocks fill a device.
struct Filling {
  double pieces = 0;       // of work: blocks, or what a smaller grid shares among its blocks
  double resident = 0;     // blocks of a multiprocessor at a time, by threads, shared memory and registers
  double warps = 0;        // of a multiprocessor at a time
  double shared = 0;       // bytes per block
  double waves = 0;        // pieces / (multiprocessors * resident)
  double utilisation = 0;  // waves / ceil(waves): what a last wave that is not full leaves of the device
};
/// `registers` per thread, of the cubin; 0 before there is one: registers then set no limit. Not for library stages.
[[nodiscard]] Filling filling_of(const StageProblem& stage, const Config& config, const DeviceInfo& device, std::int64_t registers = 0);

/// Analytic time of a config in ms, to rank the configs of one stage problem by: FLOPs, bytes of device memory, and what its pieces of work
/// read again from L2, each at the device's rate (measured ones where it has them), one after the other; stretched by the last wave and by
/// what too few warps cannot hide. Not for library stages.
[[nodiscard]] double model_ms(const StageProblem& stage, const Config& config, const DeviceInfo& device, std::int64_t registers = 0);

}  // namespace phitune
