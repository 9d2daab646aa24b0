#include "harness/compile/static_gate.hpp"

#include <fmt/format.h>

namespace phitune {
namespace {

constexpr std::int64_t kWarp = 32;
constexpr std::int64_t kMaxThreads = 1024;
constexpr std::int64_t kMaxBlockZ = 64;
constexpr std::int64_t kMaxGridX = 2147483647;
constexpr std::int64_t kMaxGridYZ = 65535;
// Registers are handed out per warp in units of 256 (compute capability 3.0 and later, CUDA programming guide).
constexpr std::int64_t kRegisterUnit = 256;

std::int64_t round_up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

std::int64_t threads_of(const Launch& launch) { return std::int64_t{launch.block[0]} * launch.block[1] * launch.block[2]; }

std::optional<std::string> bad_geometry(const Launch& launch) {
  const std::int64_t threads = threads_of(launch);
  if (threads == 0 || threads > kMaxThreads || launch.block[2] > kMaxBlockZ)
    return fmt::format("block {} x {} x {} is not between 1 and {} threads with at most {} in z", launch.block[0], launch.block[1],
                       launch.block[2], kMaxThreads, kMaxBlockZ);
  const bool empty = launch.grid[0] == 0 || launch.grid[1] == 0 || launch.grid[2] == 0;
  if (empty || launch.grid[0] > kMaxGridX || launch.grid[1] > kMaxGridYZ || launch.grid[2] > kMaxGridYZ)
    return fmt::format("grid {} x {} x {} is empty or exceeds {} x {} x {}", launch.grid[0], launch.grid[1], launch.grid[2], kMaxGridX,
                       kMaxGridYZ, kMaxGridYZ);
  return std::nullopt;
}

std::optional<std::string> too_many_registers(const Resources& resources, const Launch& launch, const DeviceInfo& device) {
  const std::int64_t warps = round_up(threads_of(launch), kWarp) / kWarp;
  const std::int64_t needed = warps * round_up(resources.registers * kWarp, kRegisterUnit);
  if (device.registers_per_multiprocessor == 0 || needed <= device.registers_per_multiprocessor) return std::nullopt;
  return fmt::format("{} registers x {} threads need {} of the {} registers of a multiprocessor", resources.registers, threads_of(launch),
                     needed, device.registers_per_multiprocessor);
}

std::optional<std::string> too_much_shared(const Resources& resources, const Launch& launch, const DeviceInfo& device) {
  const std::int64_t needed = resources.static_shared_bytes + launch.dynamic_shared_bytes;
  if (device.shared_per_block == 0 || needed <= device.shared_per_block) return std::nullopt;
  return fmt::format("shared memory of {} bytes ({} static + {} dynamic) exceeds the {} bytes of a block", needed,
                     resources.static_shared_bytes, launch.dynamic_shared_bytes, device.shared_per_block);
}

}  // namespace

std::optional<std::string> static_gate(const Resources& resources, const Launch& launch, const DeviceInfo& device) {
  if (auto reason = bad_geometry(launch)) return reason;
  if (auto reason = too_many_registers(resources, launch, device)) return reason;
  if (auto reason = too_much_shared(resources, launch, device)) return reason;
  if (resources.spill_bytes > kSpillBoundBytes)
    return fmt::format("{} bytes of local memory per thread (spills) exceed the bound of {}", resources.spill_bytes, kSpillBoundBytes);
  return std::nullopt;
}

}  // namespace phitune
