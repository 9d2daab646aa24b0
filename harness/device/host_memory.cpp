#include "harness/device/host_memory.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "harness/error.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace phitune {
namespace {

constexpr std::size_t kAlignment = 16;

std::size_t round_up(std::size_t x, std::size_t unit) { return (x + unit - 1) / unit * unit; }
std::size_t page() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

}  // namespace

HostMemory::HostMemory(std::size_t bytes) : bytes_(bytes) {
  const std::size_t inside = round_up(bytes, page());
  mapped_ = inside + 2 * page();
  void* const at = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) throw Error(ExitCode::failed, fmt::format("no memory for a buffer of {} bytes: {}", bytes, std::strerror(errno)));
  mapping_ = static_cast<char*>(at);
  ::mprotect(mapping_, page(), PROT_NONE);
  ::mprotect(mapping_ + page() + inside, page(), PROT_NONE);
  data_ = mapping_ + page() + inside - round_up(bytes, kAlignment);
#if defined(__SANITIZE_ADDRESS__)
  // The sanitizer sees the exact ends.
  ASAN_POISON_MEMORY_REGION(mapping_, static_cast<std::size_t>(data_ - mapping_));
  ASAN_POISON_MEMORY_REGION(data_ + bytes, static_cast<std::size_t>(mapping_ + mapped_ - data_) - bytes);
#endif
  poison();
}

HostMemory::~HostMemory() {
  if (mapping_ == nullptr) return;
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(mapping_, mapped_);
#endif
  ::munmap(mapping_, mapped_);
}

HostMemory::HostMemory(HostMemory&& other) noexcept { *this = std::move(other); }

HostMemory& HostMemory::operator=(HostMemory&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void HostMemory::poison() { std::memset(data_, 0xFF, bytes_); }

void HostMemory::make_read_only() {
  if (bytes_ > 0) ::mprotect(mapping_ + page(), mapped_ - 2 * page(), PROT_READ);
}

bool HostMemory::covers(const void* address) const {
  const auto* const at = static_cast<const char*>(address);
  return at >= mapping_ && at < mapping_ + mapped_;
}

}  // namespace phitune
