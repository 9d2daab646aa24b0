#include "harness/store/json_lines.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>

namespace phitune {

nlohmann::json JsonLines::next() {
  ++number_;
  if (done()) throw std::invalid_argument("the file ends before all of its trials");
  const std::size_t end = std::min(text_.find('\n', at_), text_.size());
  const auto line = nlohmann::json::parse(text_.begin() + static_cast<std::ptrdiff_t>(at_), text_.begin() + static_cast<std::ptrdiff_t>(end));
  at_ = end + 1;
  return line;
}

std::string read_bytes(const std::filesystem::path& path, const std::string& what) {
  std::error_code ignored;
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path, ignored)) {
    throw Error(ExitCode::io, fmt::format("{}: cannot read the {}; see that the file exists and can be read", path.string(), what));
  }
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

Error not_whole(const std::string& name, int line, const JsonLinesKind& kind, const std::string& why) {
  const std::string where = line > 0 ? fmt::format(", line {}", line) : "";
  return {ExitCode::bad_input, fmt::format("{}{}: not a whole phitune {}: {}. {}", name, where, kind.what, why, kind.mend)};
}

}  // namespace phitune
