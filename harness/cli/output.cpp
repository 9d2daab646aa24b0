#include "harness/cli/output.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "harness/error.hpp"

namespace phitune::cli {

std::string counted(std::size_t count, const std::string& noun) { return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s"); }

// A device or a pipe must not be replaced by a file, and a link must not be by what it leads to.
std::filesystem::path replaceable(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code code;
  const fs::path target = fs::is_symlink(path, code) ? fs::weakly_canonical(path, code) : fs::path(path);
  if (fs::exists(target, code) && !fs::is_regular_file(target, code))
    throw Error(ExitCode::io, fmt::format("{} is a {} and cannot be replaced. Name a file.", path,
                                          fs::is_directory(target, code) ? "folder" : "device or pipe"));
  return target;
}

void write_output(const std::string& path, const std::string& text) {
  const std::filesystem::path target = replaceable(path), temporary = target.string() + ".part";
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  std::error_code code;
  if (file) std::filesystem::rename(temporary, target, code);
  if (!file || code) {
    const std::string reason = code ? code.message() : std::strerror(errno);
    std::filesystem::remove(temporary, code);
    throw Error(ExitCode::io,
                fmt::format("cannot write {}: {}. Name a file in a folder that exists, can be written and has room.", path, reason));
  }
  fmt::print(stderr, "wrote {} ({:.1f} KB)\n", path, 1e-3 * static_cast<double>(text.size()));
}

}  // namespace phitune::cli
