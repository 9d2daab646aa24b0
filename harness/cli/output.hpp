// Files that a command leaves.
#pragma once

#include <string>

namespace phitune::cli {

/// Complete or absent: written beside `path` and renamed. Says on standard error what was written. Throws Error(io).
void write_output(const std::string& path, const std::string& text);

}  // namespace phitune::cli
