#include "harness/compile/nvrtc.hpp"

#include <fmt/format.h>
#include <nvrtc.h>

#include <memory>
#include <source_location>

#include "harness/error.hpp"

namespace phitune {
namespace {

void check(nvrtcResult result, std::source_location where = std::source_location::current()) {
  if (result == NVRTC_SUCCESS) return;
  throw Error(ExitCode::failed,
              fmt::format("NVRTC: {} in {} ({}:{})", nvrtcGetErrorString(result), where.function_name(), where.file_name(), where.line()));
}

struct DestroyProgram {
  void operator()(nvrtcProgram program) const noexcept { nvrtcDestroyProgram(&program); }
};
using Program = std::unique_ptr<std::remove_pointer_t<nvrtcProgram>, DestroyProgram>;

Program make_program(const std::string& source, const std::vector<EmbeddedHeader>& headers) {
  std::vector<std::string> owned;
  owned.reserve(2 * headers.size());
  std::vector<const char*> names;
  std::vector<const char*> texts;
  for (const EmbeddedHeader& header : headers) {
    names.push_back(owned.emplace_back(header.name).c_str());
    texts.push_back(owned.emplace_back(header.text).c_str());
  }
  nvrtcProgram program = nullptr;
  check(nvrtcCreateProgram(&program, source.c_str(), "phitune_kernel.cu", static_cast<int>(headers.size()), texts.data(), names.data()));
  return Program(program);
}

std::string log_of(const Program& program) {
  std::size_t size = 0;
  check(nvrtcGetProgramLogSize(program.get(), &size));
  std::string log(size, '\0');
  if (size > 0) check(nvrtcGetProgramLog(program.get(), log.data()));
  while (!log.empty() && (log.back() == '\0' || log.back() == '\n' || log.back() == ' ')) log.pop_back();
  return log;
}

std::vector<char> cubin_of(const Program& program) {
  std::size_t size = 0;
  check(nvrtcGetCUBINSize(program.get(), &size));
  std::vector<char> cubin(size);
  if (size > 0) check(nvrtcGetCUBIN(program.get(), cubin.data()));
  return cubin;
}

// ptxas advisories of this family (C7508 to C7519) mean that it serialised the wgmma instructions: the kernel is right, and several times
// slower than what the config claims to be. They are warnings to ptxas and a failure to a tuner.
std::string serialised_wgmma(const std::string& log) {
  const auto at = log.find("(C75");
  if (at == std::string::npos) return {};
  const auto start = log.rfind('\n', at);
  const auto from = start == std::string::npos ? 0 : start + 1;
  return log.substr(from, log.find('\n', at) - from);
}

}  // namespace

NvrtcResult nvrtc_compile(const std::string& source, const std::vector<EmbeddedHeader>& headers, const std::vector<std::string>& options) {
  const Program program = make_program(source, headers);
  std::vector<const char*> arguments;
  for (const std::string& option : options) arguments.push_back(option.c_str());
  const nvrtcResult status = nvrtcCompileProgram(program.get(), static_cast<int>(arguments.size()), arguments.data());
  NvrtcResult result;
  result.log = log_of(program);
  if (status != NVRTC_SUCCESS) {
    result.deterministic = status == NVRTC_ERROR_COMPILATION;
    if (result.log.empty()) result.log = fmt::format("NVRTC failed without a log: {}", nvrtcGetErrorString(status));
    return result;
  }
  if (const std::string advisory = serialised_wgmma(result.log); !advisory.empty()) {
    result.log = "wgmma instructions were serialised: " + advisory;
    return result;
  }
  result.cubin = cubin_of(program);
  result.ok = !result.cubin.empty();
  if (!result.ok) result.log = "NVRTC made no machine code: the architecture option does not name a real architecture (sm_..)";
  return result;
}

std::string nvrtc_version_text() {
  int major = 0;
  int minor = 0;
  check(nvrtcVersion(&major, &minor));
  return fmt::format("{}.{}", major, minor);
}

std::vector<std::string> nvrtc_architectures() {
  int count = 0;
  check(nvrtcGetNumSupportedArchs(&count));
  std::vector<int> numbers(static_cast<std::size_t>(count));
  check(nvrtcGetSupportedArchs(numbers.data()));
  std::vector<std::string> names;
  for (const int number : numbers) {
    names.push_back(fmt::format("sm_{}", number));
    // Architecture-specific targets exist from sm_90 on, family-specific ones from sm_100 on; NVRTC lists only the plain numbers.
    if (number >= 90) names.push_back(fmt::format("sm_{}a", number));
    if (number >= 100) names.push_back(fmt::format("sm_{}f", number));
  }
  return names;
}

}  // namespace phitune
