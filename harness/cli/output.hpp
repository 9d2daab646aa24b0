// Files that a command leaves.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace phitune::cli {

/// "1 problem", "2 problems".
[[nodiscard]] std::string counted(std::size_t count, const std::string& noun);

/// The file that writing to `path` will replace or make: links are followed. Throws Error(io) when it is a folder, a device or a pipe.
[[nodiscard]] std::filesystem::path replaceable(const std::string& path);

/// Complete or absent: written beside `path` and renamed. Says on standard error what was written. Throws Error(io).
void write_output(const std::string& path, const std::string& text);

}  // namespace phitune::cli
