#include "harness/compile/source_key.hpp"

#include <algorithm>

#include "harness/compile/sha256.hpp"

namespace phitune {
namespace {

constexpr std::string_view kBlanks = " \t";

std::string_view without_leading_blanks(std::string_view text) {
  const auto start = text.find_first_not_of(kBlanks);
  return start == std::string_view::npos ? std::string_view{} : text.substr(start);
}

/// The name in `#include "name"` or `#include <name>`; empty for any other line.
std::string_view included_name(std::string_view line) {
  line = without_leading_blanks(line);
  if (!line.starts_with('#')) return {};
  line = without_leading_blanks(line.substr(1));
  if (!line.starts_with("include")) return {};
  line = without_leading_blanks(line.substr(7));
  if (line.empty() || (line.front() != '"' && line.front() != '<')) return {};
  const auto end = line.find(line.front() == '"' ? '"' : '>', 1);
  return end == std::string_view::npos ? std::string_view{} : line.substr(1, end - 1);
}

void collect(std::string_view text, const std::vector<EmbeddedHeader>& available, std::vector<EmbeddedHeader>& found) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size() - 1);
    const std::string_view name = included_name(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
    if (name.empty()) continue;
    const auto same_name = [&](const EmbeddedHeader& h) { return h.name == name; };
    const auto header = std::find_if(available.begin(), available.end(), same_name);
    if (header == available.end() || std::any_of(found.begin(), found.end(), same_name)) continue;
    found.push_back(*header);
    collect(header->text, available, found);
  }
}

}  // namespace

std::vector<EmbeddedHeader> included_headers(std::string_view source, const std::vector<EmbeddedHeader>& available) {
  std::vector<EmbeddedHeader> found;
  collect(source, available, found);
  return found;
}

std::string template_text_hash(std::string_view source, const std::vector<EmbeddedHeader>& available) {
  Sha256 hash;
  hash.field(source);
  for (const EmbeddedHeader& header : included_headers(source, available)) hash.field(header.name).field(header.text);
  return hash.hex();
}

std::string template_text_hash(std::string_view source) { return template_text_hash(source, embedded_headers()); }

std::string compile_key(const std::string& text_hash, const std::vector<std::string>& options, const std::string& nvrtc_version) {
  Sha256 hash;
  hash.field(text_hash).field(nvrtc_version);
  for (const std::string& option : options) hash.field(option);
  return hash.hex();
}

}  // namespace phitune
