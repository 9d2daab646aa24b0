// Compiled kernels on disk. An entry is a folder, complete or absent:
//
//   <directory>/<first two digits of the key>/<key>/
//     kernel.cu      the generated source, for a person to read
//     kernel.cubin   the machine code (for the CPU: a shared object); absent when the source does not compile
//     log.txt        what the compiler said
//     entry.json     format, key, outcome, options, compiler, headers, and the SHA-256 of kernel.cubin and log.txt
//
// An entry is written into a temporary folder, synced, and renamed into place, so that neither a crash nor another process shows half of
// one. What is read back is trusted only if its hashes agree; anything else counts as absent and is replaced.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace phitune {

struct CacheEntry {
  bool compiled = false;  // false: the source does not compile, and `log` says why
  std::vector<char> cubin;
  std::string log;
};

/// What stands beside the entry for whoever inspects the cache; not needed to use it.
struct CacheProvenance {
  std::string source;
  std::vector<std::string> options;
  std::vector<std::string> headers;  // names
  std::string nvrtc_version;
  double compile_ms = 0;
};

/// Thread-safe, and safe between processes that share a directory.
class BinaryCache {
 public:
  /// Makes the directory when it is absent and proves that it can be written. Throws Error (io) naming the path and the mend.
  explicit BinaryCache(std::filesystem::path directory);

  /// Nothing when the entry is absent, incomplete or altered.
  [[nodiscard]] std::optional<CacheEntry> load(const std::string& key) const;

  /// Writes or replaces an entry. Returns why it could not (full disk, permissions); nothing when it did.
  [[nodiscard]] std::optional<std::string> store(const std::string& key, const CacheEntry& entry, const CacheProvenance& provenance) const;

  [[nodiscard]] std::filesystem::path path_of(const std::string& key) const;

 private:
  std::filesystem::path directory_;
};

}  // namespace phitune
