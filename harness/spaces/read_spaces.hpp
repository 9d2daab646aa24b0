// Recorded spaces from files: phitune's own recordings, Kernel Tuner's caches, and T4 results, each plain or gzip-compressed.
#pragma once

#include <filesystem>
#include <vector>

#include "search/recorded_space.hpp"

namespace phitune {

/// Every space in the file, in an order that depends on its content alone: one for a Kernel Tuner cache; for T4 results one per `problem`,
/// `kernel` and `device` where entries have them; for a recording one per stage problem. docs/search.md says how fields are understood.
/// Throws Error(io) when the file cannot be read, Error(bad_input) naming what is wrong when it is none of these.
[[nodiscard]] std::vector<RecordedSpace> read_spaces(const std::filesystem::path& path);

}  // namespace phitune
