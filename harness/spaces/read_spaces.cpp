#include "harness/spaces/read_spaces.hpp"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>

#include "harness/error.hpp"
#include "harness/spaces/formats.hpp"
#include "harness/store/gzip.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string read_text(const fs::path& path) {
  std::error_code ignored;
  std::ifstream in(path, std::ios::binary);
  if (!in || fs::is_directory(path, ignored))
    throw Error(ExitCode::io, fmt::format("{}: cannot read it; see that the file exists and can be read", path.string()));
  const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return is_gzip(bytes) ? gunzip(bytes) : bytes;
}

// A recording is lines of JSON, the first of which says so.
bool is_recording(const std::string& text) {
  const Json first = Json::parse(text.substr(0, text.find('\n')), nullptr, false);
  return first.is_object() && first.value("format", std::string()) == "phitune recording";
}

std::vector<RecordedSpace> spaces_in(const fs::path& path) {
  const std::string text = read_text(path);
  if (is_recording(text)) return recorded_spaces(read_recording(path));
  const Json document = Json::parse(mended_json(text));
  if (is_kernel_tuner(document)) {
    std::vector<RecordedSpace> spaces;
    spaces.push_back(kernel_tuner_space(document));
    return spaces;
  }
  if (is_t4(document)) return t4_spaces(document, path.stem().string());
  throw std::invalid_argument("it is JSON, but neither has \"cache\" and \"tune_params_keys\" nor \"results\"");
}

}  // namespace

std::vector<RecordedSpace> read_spaces(const fs::path& path) {
  try {
    std::vector<RecordedSpace> spaces = spaces_in(path);
    if (spaces.empty()) throw std::invalid_argument("it holds no trials");
    return spaces;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(ExitCode::bad_input,
                fmt::format("{}: not a recorded space: {}. Name a phitune recording, a Kernel Tuner cache or T4 results", path.string(),
                            error.what()));
  }
}

}  // namespace phitune
