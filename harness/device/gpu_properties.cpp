#include "harness/device/gpu_properties.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <array>

#include "harness/device/cuda.hpp"
#include "harness/device/device.hpp"
#include "harness/error.hpp"
#include "harness/measure/nvml.hpp"

namespace phitune::cuda {

namespace {

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string out = "GPU-";
  for (int i = 0; i < 16; ++i) {
    out += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
    if (i == 3 || i == 5 || i == 7 || i == 9) out += '-';
  }
  return out;
}

std::string mend_of(cudaError_t code) {
  switch (code) {
    case cudaErrorInsufficientDriver:
      return fmt::format("Install an NVIDIA driver that supports CUDA {} (nvidia-smi shows what the driver supports)",
                         version_text(CUDART_VERSION));
    case cudaErrorNoDevice:
      return "Check that nvidia-smi lists a GPU and that CUDA_VISIBLE_DEVICES does not hide it";
    default:
      return "Check that nvidia-smi works";
  }
}

int attribute(cudaDeviceAttr what, int ordinal) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, what, ordinal));
  return value;
}

}  // namespace

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

std::string architecture_name(int compute_capability) {
  const bool own_instructions = compute_capability == 90 || (compute_capability >= 100 && compute_capability < 120);
  return fmt::format("sm_{}{}", compute_capability, own_instructions ? "a" : "");
}

int device_count() {
  int count = 0;
  cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaSuccess && count == 0) code = cudaErrorNoDevice;
  static_cast<void>(cudaGetLastError());
  if (code == cudaSuccess) return count;
  throw Error(ExitCode::no_device, fmt::format("no CUDA device: {} ({}). {}, or use a recording: --device replay:FILE",
                                               cudaGetErrorString(code), cudaGetErrorName(code), mend_of(code)));
}

std::string pci_bus_id(int ordinal) {
  std::array<char, 32> text{};
  check(cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), ordinal));
  return text.data();
}

DeviceInfo device_info(int ordinal) {
  const int count = device_count();
  if (ordinal < 0 || ordinal >= count)
    throw Error(ExitCode::no_device, fmt::format("there is no device cuda:{}: this machine has {} GPU{}, cuda:0 to cuda:{}", ordinal, count,
                                                 count == 1 ? "" : "s", count - 1));
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, ordinal));
  DeviceInfo info;
  info.name = properties.name;
  info.uuid = uuid_text(properties.uuid);
  info.compute_capability = 10 * properties.major + properties.minor;
  info.architecture = architecture_name(info.compute_capability);
  info.multiprocessors = properties.multiProcessorCount;
  info.l2_bytes = properties.l2CacheSize;
  info.memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem);
  info.shared_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal);
  info.shared_per_multiprocessor = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, ordinal);
  info.registers_per_multiprocessor = attribute(cudaDevAttrMaxRegistersPerMultiprocessor, ordinal);
  int runtime = 0, driver = 0;
  check(cudaRuntimeGetVersion(&runtime));
  check(cudaDriverGetVersion(&driver));
  info.runtime = version_text(runtime);
  info.driver = Nvml(pci_bus_id(ordinal)).driver_version();
  if (info.driver.empty()) info.driver = "for CUDA " + version_text(driver);
  return info;
}

}  // namespace phitune::cuda

namespace phitune {

DeviceList list_devices() {
  DeviceList list;
  try {
    for (int ordinal = 0, count = cuda::device_count(); ordinal < count; ++ordinal) list.devices.push_back(cuda::device_info(ordinal));
  } catch (const std::exception& error) {
    list.reason = error.what();
  }
  return list;
}

}  // namespace phitune
