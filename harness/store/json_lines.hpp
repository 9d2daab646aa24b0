// Files of JSON lines, gzip-compressed or plain, read line by line. Internal.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "harness/error.hpp"
#include "harness/store/gzip.hpp"

namespace phitune {

/// Knows where it is when a line is wrong.
class JsonLines {
 public:
  explicit JsonLines(std::string text) : text_(std::move(text)) {}
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] bool done() const { return at_ >= text_.size(); }
  /// Throws std::invalid_argument at the end of the file, nlohmann::json::exception when the line is no JSON.
  nlohmann::json next();

 private:
  std::string text_;
  std::size_t at_ = 0;
  int number_ = 0;
};

/// How a file is called in messages ("recording"), and what to do about a damaged one.
struct JsonLinesKind {
  std::string what;
  std::string mend;
};

/// Throws Error(io) saying that `what` cannot be read.
[[nodiscard]] std::string read_bytes(const std::filesystem::path& path, const std::string& what);

/// What is wrong with the file as an Error(bad_input) that names it and the line (0: none yet).
[[nodiscard]] Error not_whole(const std::string& name, int line, const JsonLinesKind& kind, const std::string& why);

/// What `read` makes of the bytes, unpacked when they are a gzip frame. What it throws, but Error, and what is wrong with the frame becomes
/// not_whole().
template <typename Read>
auto parse_json_lines(const std::string& name, const std::string& bytes, const JsonLinesKind& kind, const Read& read) {
  int line = 0;
  try {
    JsonLines lines(is_gzip(bytes) ? gunzip(bytes) : bytes);
    try {
      return read(lines);
    } catch (...) {
      line = lines.number();
      throw;
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw not_whole(name, line, kind, error.what());
  }
}

/// The same of a file's bytes. Throws Error(io) when it cannot be read.
template <typename Read>
auto read_json_lines(const std::filesystem::path& path, const JsonLinesKind& kind, const Read& read) {
  return parse_json_lines(path.string(), read_bytes(path, kind.what), kind, read);
}

}  // namespace phitune
