// Messages over a socket between two processes of one build: two lengths, a document in CBOR, and bytes that it refers to. Internal.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace phitune::worker {

/// The other side is gone, or what it said is no message.
class Broken : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Message {
  nlohmann::json document;
  std::vector<char> attachment;  // machine code, which has no business in a document: CBOR is read byte by byte
};

/// One end of a connected pair of sockets, closed with the object. Not thread-safe.
class Wire {
 public:
  /// Takes over `descriptor`.
  explicit Wire(int descriptor) : descriptor_(descriptor) {}
  Wire(Wire&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Wire& operator=(Wire&&) = delete;
  ~Wire();

  /// Throws Broken when the other side is gone.
  void send(const nlohmann::json& document, std::span<const char> attachment = {}) const;

  /// The next message; nothing when none has begun to arrive within `timeout_ms` (infinity: waits for ever). Throws Broken at the end of
  /// the stream, for lengths beyond kMostBytes, for what is not CBOR, and for a message that stops in the middle.
  [[nodiscard]] std::optional<Message> receive(double timeout_ms) const;

  /// Two connected ends, both closed on exec.
  [[nodiscard]] static std::pair<Wire, Wire> pair();

  [[nodiscard]] int descriptor() const { return descriptor_; }

  static constexpr std::uint32_t kMostBytes = 1U << 30;

 private:
  void write_all(const char* from, std::size_t bytes) const;
  void read_exactly(char* to, std::size_t bytes) const;

  int descriptor_;
};

}  // namespace phitune::worker
