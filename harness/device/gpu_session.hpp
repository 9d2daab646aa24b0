// Everything that lives in one CUDA context and dies with it. Internal.
#pragma once

#include <memory>

#include "harness/device/gemm_library.hpp"
#include "harness/device/tensor_pool.hpp"
#include "harness/measure/measurement.hpp"

namespace phitune::cuda {

/// Made on the current device. Destroying it gives everything back, in reverse order.
struct GpuSession {
  GpuSession(std::shared_ptr<const Binary> utility_binary, const DeviceInfo& info, const Nvml& nvml)
      : utilities(std::move(utility_binary), info.multiprocessors, stream.get()),
        pool(utilities),
        measurement(stream.get(), utilities, nvml, info.l2_bytes) {}

  Stream stream;
  Event done;
  Utilities utilities;
  TensorPool pool;
  Measurement measurement;
  GemmLibrary gemms;
};

/// Rates of this device, measured now on random data: device-to-device copy in 1e12 bytes/s (read + write), dense bf16 matrix product
/// 8192^3 in TFLOP/s (0 without the GEMM library). Medians of 11.
struct Ceilings {
  double copy_tbps = 0;
  double matrix_tflops = 0;
};
[[nodiscard]] Ceilings measure_ceilings(GpuSession& session, std::int64_t memory_bytes);

}  // namespace phitune::cuda
