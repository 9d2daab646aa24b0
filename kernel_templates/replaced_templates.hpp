// The templates' text from a folder instead of from the binary: to try a change, or a planted fault, without building.
#pragma once

#include <filesystem>

namespace phitune {

/// From now on embedded_headers() has, for every template, the text of the file of the same name under `root`
/// (ROOT/kernel_templates/sm80/scan.cuh). To be called before anything is compiled, at most once, by one thread. The host sides stay as
/// they were built. Throws std::invalid_argument naming the file that is not there.
void read_templates_from(const std::filesystem::path& root);

}  // namespace phitune
