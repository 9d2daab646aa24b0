#include "tests/fuzz/fuzz.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace phitune::fuzz {

MemoryFile::MemoryFile(const std::string& bytes) : descriptor_(::memfd_create("phitune-fuzz", MFD_CLOEXEC)) {
  for (std::size_t written = 0; written < bytes.size();) {
    const ssize_t n = ::write(descriptor_, bytes.data() + written, bytes.size() - written);
    if (n <= 0) throw std::runtime_error("cannot write a file in memory");
    written += static_cast<std::size_t>(n);
  }
}

MemoryFile::~MemoryFile() { ::close(descriptor_); }

std::filesystem::path MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace phitune::fuzz
