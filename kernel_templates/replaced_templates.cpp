#include "kernel_templates/replaced_templates.hpp"

#include <deque>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "kernel_templates/stage_template.hpp"

namespace phitune {

const std::vector<EmbeddedHeader>& built_in_headers();  // written by cmake/EmbedHeaders.cmake

namespace {

std::vector<EmbeddedHeader>& headers() {
  static std::vector<EmbeddedHeader> all = built_in_headers();
  return all;
}

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::invalid_argument("there is no template " + path.string() + "; the folder must hold all of kernel_templates/");
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

}  // namespace

const std::vector<EmbeddedHeader>& embedded_headers() { return headers(); }

void read_templates_from(const std::filesystem::path& root) {
  static std::deque<std::string> texts;
  for (EmbeddedHeader& header : headers()) header.text = texts.emplace_back(read(root / header.name));
}

}  // namespace phitune
