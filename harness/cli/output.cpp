#include "harness/cli/output.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "harness/error.hpp"

namespace phitune::cli {

void write_output(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".part";
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  std::error_code code;
  if (file) std::filesystem::rename(temporary, path, code);
  if (!file || code) {
    const std::string reason = code ? code.message() : std::strerror(errno);
    std::filesystem::remove(temporary, code);
    throw Error(ExitCode::io,
                fmt::format("cannot write {}: {}. Name a file in a folder that exists, can be written and has room.", path, reason));
  }
  fmt::print(stderr, "wrote {} ({:.1f} KB)\n", path, 1e-3 * static_cast<double>(text.size()));
}

}  // namespace phitune::cli
