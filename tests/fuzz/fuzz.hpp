// A fuzz target is one file with these two functions. libFuzzer calls the first; standalone.cpp calls both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

/// Gives the bytes to one reader. Returns 0. A refusal that the reader documents is caught here; everything else gets out and is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace phitune::fuzz {

/// Well-formed inputs, which mutations start from.
[[nodiscard]] std::vector<std::string> seeds();

/// A file in memory that holds `bytes` for as long as the object lives, for readers that take a path.
class MemoryFile {
 public:
  explicit MemoryFile(const std::string& bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  [[nodiscard]] std::filesystem::path path() const;

 private:
  int descriptor_;
};

/// The whole of a file of the source tree.
[[nodiscard]] std::string text_of(const std::filesystem::path& path);

}  // namespace phitune::fuzz
