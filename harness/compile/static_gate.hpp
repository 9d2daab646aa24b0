// Why a compiled kernel cannot, or should not, be launched: known before a launch spends device time.
#pragma once

#include <optional>
#include <string>

#include "kernel_templates/stage_template.hpp"
#include "search/trial.hpp"

namespace phitune {

/// Local memory per thread beyond which a kernel is not worth launching: its inner loop would wait for spills.
inline constexpr std::int64_t kSpillBoundBytes = 64;

/// The reason, with the figures that break the limit, or nothing when the kernel fits. `resources` are those of the cubin; the dynamic
/// shared memory is taken from `launch`. Limits left 0 in `device` are unknown and not applied. Thread-safe.
[[nodiscard]] std::optional<std::string> static_gate(const Resources& resources, const Launch& launch, const DeviceInfo& device);

}  // namespace phitune
