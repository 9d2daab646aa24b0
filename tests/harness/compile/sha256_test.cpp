#include "harness/compile/sha256.hpp"

#include <gtest/gtest.h>

#include <random>

namespace phitune {
namespace {

std::string hex_of(const std::string& text) { return sha256_hex(text); }

// Published example vectors (FIPS 180-2, appendix B, and the empty message).
TEST(Sha256, PublishedVectors) {
  EXPECT_EQ(hex_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hex_of(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesGiveTheHashOfTheWhole) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  std::string text(1000, '\0');
  for (char& c : text) c = static_cast<char>(rng());
  Sha256 pieces;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t n = std::min<std::size_t>(rng() % 150, text.size() - at);
    pieces.update(std::string_view(text).substr(at, n));
    at += n;
  }
  EXPECT_EQ(pieces.hex(), hex_of(text));
}

TEST(Sha256, FieldsDoNotRunTogether) {
  EXPECT_NE(Sha256().field("ab").field("c").hex(), Sha256().field("a").field("bc").hex());
  EXPECT_NE(Sha256().field("a").hex(), Sha256().field("a").field("").hex());
}

}  // namespace
}  // namespace phitune
