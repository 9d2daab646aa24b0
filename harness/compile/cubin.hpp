// What a cubin says about its kernel. A cubin is an ELF64 file; the figures are in its .nv.info sections and section sizes.
#pragma once

#include <span>
#include <string>

#include "search/trial.hpp"

namespace phitune {

/// Registers, local memory, static shared memory and code size of the kernel with the most registers in the cubin (phitune's cubins
/// hold one). Shared memory that the driver reserves per block on sm_90 and later is not counted, as in the compiler's own log.
/// Throws std::invalid_argument saying what is wrong when the bytes are not a complete cubin with a kernel.
[[nodiscard]] Resources read_resources(std::span<const char> cubin);

/// SHA-256 of what the device executes and reads: code, kernel attributes, constants and initialised memory. Tool notes, symbols and
/// debug sections are left out, so equal machine code has an equal hash whatever the tool versions write beside it.
/// Throws as read_resources.
[[nodiscard]] std::string machine_code_hash(std::span<const char> cubin);

}  // namespace phitune
