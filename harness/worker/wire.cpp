#include "harness/worker/wire.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "harness/error.hpp"

namespace phitune::worker {
namespace {

using Lengths = std::array<std::uint32_t, 2>;  // of the document, of the attachment

/// Whether there is something to read (an end counts) before the time is over.
bool readable(int descriptor, double timeout_ms) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  while (true) {
    const double left = timeout_ms - std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    pollfd waiting{descriptor, POLLIN, 0};
    // poll takes whole milliseconds; rounded up, so that the last one does not become a busy loop.
    const int wait_ms = std::isinf(left) ? -1 : static_cast<int>(std::clamp(std::ceil(left), 0.0, 1e9));
    const int ready = ::poll(&waiting, 1, wait_ms);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) throw Broken(fmt::format("cannot wait for a message: {}", std::strerror(errno)));
    if (left <= 0) return false;
  }
}

}  // namespace

Wire::~Wire() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::pair<Wire, Wire> Wire::pair() {
  std::array<int, 2> ends;
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw Error(ExitCode::failed, fmt::format("cannot make a pair of sockets: {}", std::strerror(errno)));
  return {Wire(ends[0]), Wire(ends[1])};
}

void Wire::send(const nlohmann::json& document, std::span<const char> attachment) const {
  std::vector<std::uint8_t> bytes(sizeof(Lengths));
  nlohmann::json::to_cbor(document, bytes);
  const std::size_t size = bytes.size() - sizeof(Lengths);
  if (size > kMostBytes || attachment.size() > kMostBytes)
    throw Broken(fmt::format("a message of {} and {} bytes is too large", size, attachment.size()));
  const Lengths lengths = {static_cast<std::uint32_t>(size), static_cast<std::uint32_t>(attachment.size())};
  std::memcpy(bytes.data(), lengths.data(), sizeof lengths);
  write_all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  write_all(attachment.data(), attachment.size());
}

std::optional<Message> Wire::receive(double timeout_ms) const {
  if (!readable(descriptor_, timeout_ms)) return std::nullopt;
  Lengths lengths{};
  read_exactly(reinterpret_cast<char*>(lengths.data()), sizeof lengths);
  for (const std::uint32_t length : lengths)
    if (length > kMostBytes) throw Broken(fmt::format("a message of {} bytes is announced; that is too large", length));
  std::vector<std::uint8_t> bytes(lengths[0]);
  read_exactly(reinterpret_cast<char*>(bytes.data()), bytes.size());
  Message message;
  message.attachment.resize(lengths[1]);
  read_exactly(message.attachment.data(), message.attachment.size());
  try {
    message.document = nlohmann::json::from_cbor(bytes);
  } catch (const nlohmann::json::exception& error) {
    throw Broken(fmt::format("a message does not read: {}", error.what()));
  }
  return message;
}

void Wire::write_all(const char* from, std::size_t bytes) const {
  for (std::size_t sent = 0; sent < bytes;) {
    const ssize_t n = ::send(descriptor_, from + sent, bytes - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Broken(fmt::format("cannot send: {}", std::strerror(errno)));
    sent += static_cast<std::size_t>(n);
  }
}

void Wire::read_exactly(char* to, std::size_t bytes) const {
  for (std::size_t read = 0; read < bytes;) {
    const ssize_t n = ::recv(descriptor_, to + read, bytes - read, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Broken(fmt::format("cannot receive: {}", std::strerror(errno)));
    if (n == 0) throw Broken(read == 0 ? "the other side has closed the connection" : "a message ends in the middle");
    read += static_cast<std::size_t>(n);
  }
}

}  // namespace phitune::worker
