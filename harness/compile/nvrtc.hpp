// One NVRTC compilation: source and headers in, cubin and log out.
#pragma once

#include <string>
#include <vector>

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// `deterministic` is false when the same input may well compile another time (out of memory, an internal fault).
struct NvrtcResult {
  bool ok = false;
  bool deterministic = true;
  std::vector<char> cubin;
  std::string log;  // warnings on success; on failure, why
};

/// Thread-safe; threads compile side by side. Never throws for a source that does not compile.
[[nodiscard]] NvrtcResult nvrtc_compile(const std::string& source, const std::vector<EmbeddedHeader>& headers,
                                        const std::vector<std::string>& options);

/// "13.0".
[[nodiscard]] std::string nvrtc_version_text();

/// Every architecture NVRTC makes machine code for: "sm_80", "sm_90", "sm_90a", "sm_100f", ...
[[nodiscard]] std::vector<std::string> nvrtc_architectures();

}  // namespace phitune
