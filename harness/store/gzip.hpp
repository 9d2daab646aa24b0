// Gzip frames in memory.
#pragma once

#include <string>
#include <string_view>

namespace phitune {

[[nodiscard]] bool is_gzip(std::string_view bytes);

/// Throws std::invalid_argument saying what is wrong with the frame.
[[nodiscard]] std::string gunzip(const std::string& packed);

}  // namespace phitune
