#include "harness/compile/cache.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "harness/compile/sha256.hpp"
#include "harness/error.hpp"

namespace phitune {
namespace fs = std::filesystem;
namespace {

constexpr int kFormat = 1;
constexpr std::string_view kTemporaryPrefix = ".tmp-";
constexpr std::chrono::hours kTemporaryLife{1};

class File {
 public:
  File(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) throw fs::filesystem_error("cannot open", path, std::error_code(errno, std::generic_category()));
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

void sync(const File& file, const fs::path& path) {
  if (::fsync(file.fd()) != 0) throw fs::filesystem_error("cannot sync", path, std::error_code(errno, std::generic_category()));
}

void write_synced(const fs::path& path, std::string_view bytes) {
  const File file(path, O_WRONLY | O_CREAT | O_TRUNC);
  while (!bytes.empty()) {
    const ssize_t n = ::write(file.fd(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw fs::filesystem_error("cannot write", path, std::error_code(errno, std::generic_category()));
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  sync(file, path);
}

void sync_directory(const fs::path& path) { sync(File(path, O_RDONLY | O_DIRECTORY), path); }

std::optional<std::string> read_whole(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

/// A folder that removes itself, and whatever is still in it, when it goes out of scope.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const fs::path& parent) : path_(unique_name(parent)) { fs::create_directory(path_); }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  // Process, moment and count together: two machines may share the directory.
  static fs::path unique_name(const fs::path& parent) {
    static std::atomic<unsigned> count{0};
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    return parent / fmt::format("{}{}-{:x}-{}", kTemporaryPrefix, ::getpid(), now, count++);
  }
  fs::path path_;
};

/// Moves `folder` to `place`. What stood there, which was no valid entry or one with the same content, goes into `grave` first.
void move_into_place(const fs::path& folder, const fs::path& place, const fs::path& grave) {
  std::error_code failed;
  fs::rename(folder, place, failed);
  if (!failed) return;
  std::error_code ignored;
  fs::rename(place, grave, ignored);
  fs::rename(folder, place);
}

/// What a killed process left behind.
void remove_stale_folders(const fs::path& directory) {
  std::error_code ignored;
  const auto now = fs::file_time_type::clock::now();
  for (const auto& item : fs::directory_iterator(directory, ignored)) {
    if (!item.path().filename().string().starts_with(kTemporaryPrefix)) continue;
    const auto written = item.last_write_time(ignored);
    if (!ignored && now - written > kTemporaryLife) fs::remove_all(item.path(), ignored);
  }
}

std::string entry_json(const std::string& key, const CacheEntry& entry, const CacheProvenance& provenance) {
  const nlohmann::ordered_json json = {{"format", kFormat},
                                       {"key", key},
                                       {"outcome", entry.compiled ? "ok" : "compile_failed"},
                                       {"cubin_sha256", entry.compiled ? sha256_hex(entry.cubin) : ""},
                                       {"log_sha256", sha256_hex(entry.log)},
                                       {"nvrtc", provenance.nvrtc_version},
                                       {"options", provenance.options},
                                       {"headers", provenance.headers},
                                       {"compile_ms", provenance.compile_ms}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

BinaryCache::BinaryCache(fs::path directory) : directory_(std::move(directory)) {
  try {
    fs::create_directories(directory_);
    const TemporaryFolder probe(directory_);
    write_synced(probe.path() / "probe", "phitune");
  } catch (const fs::filesystem_error& e) {
    throw Error(ExitCode::io,
                fmt::format("the compile cache {} cannot be written: {}. Choose another directory, free space, or run without a cache.",
                            directory_.string(), e.code().message()));
  }
  remove_stale_folders(directory_);
}

fs::path BinaryCache::path_of(const std::string& key) const { return directory_ / key.substr(0, 2) / key; }

std::optional<CacheEntry> BinaryCache::load(const std::string& key) const {
  const fs::path folder = path_of(key);
  const auto text = read_whole(folder / "entry.json");
  if (!text) return std::nullopt;
  const auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const auto text_of = [&](const char* name) {
    return json.contains(name) && json[name].is_string() ? json[name].get<std::string>() : std::string();
  };
  if (!json.contains("format") || json["format"] != kFormat || text_of("key") != key) return std::nullopt;

  CacheEntry entry;
  entry.compiled = text_of("outcome") == "ok";
  if (!entry.compiled && text_of("outcome") != "compile_failed") return std::nullopt;
  auto log = read_whole(folder / "log.txt");
  if (!log || sha256_hex(*log) != text_of("log_sha256")) return std::nullopt;
  entry.log = std::move(*log);
  if (!entry.compiled) return entry;
  const auto cubin = read_whole(folder / "kernel.cubin");
  if (!cubin || sha256_hex(*cubin) != text_of("cubin_sha256")) return std::nullopt;
  entry.cubin.assign(cubin->begin(), cubin->end());
  return entry;
}

std::optional<std::string> BinaryCache::store(const std::string& key, const CacheEntry& entry, const CacheProvenance& provenance) const {
  try {
    const TemporaryFolder temporary(directory_);
    const fs::path folder = temporary.path() / key;
    fs::create_directory(folder);
    write_synced(folder / "kernel.cu", provenance.source);
    if (entry.compiled) write_synced(folder / "kernel.cubin", {entry.cubin.data(), entry.cubin.size()});
    write_synced(folder / "log.txt", entry.log);
    write_synced(folder / "entry.json", entry_json(key, entry, provenance));
    sync_directory(folder);
    const fs::path place = path_of(key);
    fs::create_directories(place.parent_path());
    move_into_place(folder, place, temporary.path() / "replaced");
    sync_directory(place.parent_path());
  } catch (const fs::filesystem_error& e) {
    return fmt::format("{}: {}", directory_.string(), e.code().message());
  }
  return std::nullopt;
}

}  // namespace phitune
