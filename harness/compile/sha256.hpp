// SHA-256 (FIPS 180-4): names contents in the compile cache and proves that what is read back is what was written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace phitune {

/// Streaming hash. Not thread-safe; cheap to make one per use.
class Sha256 {
 public:
  Sha256& update(std::span<const char> bytes);
  /// A field: its length, then its bytes, so that ("ab", "c") and ("a", "bc") differ.
  Sha256& field(std::string_view text);
  /// 64 hexadecimal digits. The object is spent afterwards.
  [[nodiscard]] std::string hex();

 private:
  void block(const unsigned char* bytes);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> pending_ = {};
  std::size_t pending_size_ = 0;
  std::uint64_t total_ = 0;
};

[[nodiscard]] std::string sha256_hex(std::span<const char> bytes);

}  // namespace phitune
