#include "harness/compile/host_compiler.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>

#include "harness/compile/cache.hpp"
#include "harness/compile/process.hpp"
#include "harness/compile/sha256.hpp"
#include "harness/compile/source_key.hpp"
#include "harness/error.hpp"
#include "kernel_templates/common/host/executor.hpp"

namespace phitune {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPrologue = "#include \"kernel_templates/common/host/twin.hpp\"\n";
constexpr const char* kEpilogue =
    "PHITUNE_TWIN_ENTRY void phitune_twin_run(const void* args) { phitune_kernel(*static_cast<const phitune::Args*>(args)); }\n";

/// A compiler's command and what it says of itself.
struct Found {
  std::vector<std::string> command;
  std::string version;
};

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::optional<std::string> version_of(std::vector<std::string> command) {
  command.emplace_back("--version");
  try {
    const ProcessResult asked = run_process(command);
    if (asked.status == 0) return asked.output.substr(0, asked.output.find('\n'));
  } catch (const Error&) {  // not there
  }
  return std::nullopt;
}

Found find_compiler() {
  const char* const set = std::getenv("CXX");
  const std::vector<std::string> named = words_of(set != nullptr ? set : "");
  std::vector<std::vector<std::string>> candidates;
  if (!named.empty()) candidates.push_back(named);
  for (const char* name : {"c++", "g++", "clang++"}) candidates.push_back({name});
  for (auto& command : candidates) {
    if (auto version = version_of(command)) return {std::move(command), std::move(*version)};
    if (command == named) {
      throw Error(
          ExitCode::no_device,
          fmt::format("CXX is set to '{}', which does not run as a C++ compiler. Unset it, or set it to one (g++ or clang++).", set));
    }
  }
  throw Error(
      ExitCode::no_device,
      "the device host runs kernels that a C++20 compiler makes for this CPU, and there is none: neither c++, g++ nor clang++ is in "
      "PATH. Install one (apt-get install g++), or set CXX.");
}

std::vector<std::string> options() {
  // The emulator's exceptions pass through a kernel, which has nothing to unwind; so it needs tables, and no C++ runtime of its own.
  // Without contraction, every compiler rounds alike.
  std::vector<std::string> all = {"-std=c++20",         "-O1", "-shared", "-fPIC", "-fno-exceptions",      "-fasynchronous-unwind-tables",
                                  "-fno-rtti",          "-w",  "-x",      "c++",   "-fno-strict-aliasing", "-ffp-contract=off",
                                  "-fvisibility=hidden"};
  // A sanitized phitune runs sanitized kernels.
  const std::string sanitize = PHITUNE_SANITIZE;
  if (!sanitize.empty()) {
    all.push_back("-fsanitize=" + sanitize);
    for (const char* option : {"-fno-sanitize=vptr", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"})
      all.emplace_back(option);
  }
  return all;
}

void write_file(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream out(path, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  if (!out.flush()) throw Error(ExitCode::io, fmt::format("cannot write {}: free some space there, or set TMPDIR", path.string()));
}

std::vector<char> read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// A folder of this process that goes when it does.
class WorkFolder {
 public:
  WorkFolder() {
    std::string name = (fs::temp_directory_path() / "phitune-host-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      throw Error(ExitCode::io,
                  fmt::format("cannot make the folder {}: {}. Free some space there, or set TMPDIR", name, std::strerror(errno)));
    path_ = name;
  }
  ~WorkFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// A log is stored, and files are known by their names under the root of the tree.
std::string without(std::string text, const std::string& prefix) {
  for (std::size_t at = 0; (at = text.find(prefix, at)) != std::string::npos;) text.erase(at, prefix.size());
  return text;
}

std::vector<EmbeddedHeader> all_headers() {
  std::vector<EmbeddedHeader> all = embedded_headers();
  all.insert(all.end(), embedded_host_headers().begin(), embedded_host_headers().end());
  return all;
}

template <class Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(::dlsym(library, name));
}

}  // namespace

HostKernel::HostKernel(const std::vector<char>& shared_object) : file_(::memfd_create("phitune-kernel", MFD_CLOEXEC)) {
  const auto fail = [this](const std::string& why) {
    if (library_ != nullptr) ::dlclose(library_);
    if (file_ >= 0) ::close(file_);
    throw Error(ExitCode::failed, "a kernel that was compiled for the CPU cannot be loaded: " + why);
  };
  if (file_ < 0) fail(std::strerror(errno));
  for (std::size_t written = 0; written < shared_object.size();) {
    const ssize_t n = ::write(file_, shared_object.data() + written, shared_object.size() - written);
    if (n < 0) fail(std::strerror(errno));
    written += static_cast<std::size_t>(n);
  }
  // The loader knows libraries by their names, so the descriptor that makes the name stays open as long as the library.
  library_ = ::dlopen(fmt::format("/proc/self/fd/{}", file_).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) fail(::dlerror());
  auto* const attach = symbol<void(const host::Runtime*)>(library_, "phitune_twin_attach");
  entry_ = symbol<void(const void*)>(library_, "phitune_twin_run");
  if (attach == nullptr || entry_ == nullptr) fail("it lacks an entry point");
  attach(&host::runtime_table());
}

HostKernel::~HostKernel() {
  ::dlclose(library_);
  ::close(file_);
}

struct HostCompiler::State {
  Found compiler = find_compiler();
  std::vector<EmbeddedHeader> headers = all_headers();
  std::optional<BinaryCache> cache;
  WorkFolder folder;
  std::mutex mutex;
  std::map<std::string, HostCompiled> known;
  std::size_t files = 0;

  CacheEntry run_compiler(const std::string& text, const std::string& key, double& ms);
  HostCompiled make(const std::string& text, const std::string& key);
};

CacheEntry HostCompiler::State::run_compiler(const std::string& text, const std::string& key, double& ms) {
  fs::path source;
  {
    const std::lock_guard lock(mutex);
    source = folder.path() / fmt::format("kernel_{}.cpp", files++);
  }
  fs::path object = source;
  object.replace_extension(".so");
  write_file(source, text);
  std::vector<std::string> command = compiler.command;
  const std::vector<std::string> flags = options();
  command.insert(command.end(), flags.begin(), flags.end());
  for (const std::string& word : {"-I" + folder.path().string(), "-fmacro-prefix-map=" + folder.path().string() + "/=", source.string(),
                                  std::string("-o"), object.string()})
    command.push_back(word);
  const auto start = std::chrono::steady_clock::now();
  ProcessResult compiled = run_process(command);
  ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  CacheEntry entry{compiled.status == 0, {}, without(std::move(compiled.output), folder.path().string() + "/")};
  if (entry.compiled) {
    entry.cubin = read_file(object);
    if (cache) {
      CacheProvenance provenance{text, flags, {}, compiler.version, ms};
      for (const EmbeddedHeader& header : included_headers(text, headers)) provenance.headers.emplace_back(header.name);
      // A cache that cannot be filled costs time and nothing else.
      static_cast<void>(cache->store(key, entry, provenance));
    }
  }
  std::error_code ignored;
  fs::remove(source, ignored);
  fs::remove(object, ignored);
  return entry;
}

HostCompiled HostCompiler::State::make(const std::string& text, const std::string& key) {
  HostCompiled result;
  std::optional<CacheEntry> entry = cache ? cache->load(key) : std::nullopt;
  result.cache_hit = entry.has_value();
  if (!entry) entry = run_compiler(text, key, result.compile_ms);
  if (entry->compiled) {
    result.kernel = std::make_shared<const HostKernel>(entry->cubin);
  } else {
    result.outcome = Outcome::compile_failed;
    result.reason = fmt::format("{} refuses the kernel:\n{}", compiler.version, entry->log);
  }
  return result;
}

HostCompiler::HostCompiler(fs::path cache_directory) : state_(std::make_unique<State>()) {
  if (!cache_directory.empty()) state_->cache.emplace(std::move(cache_directory));
  for (const EmbeddedHeader& header : state_->headers) write_file(state_->folder.path() / header.name, header.text);
}

HostCompiler::~HostCompiler() = default;

HostCompiled HostCompiler::compile(const std::string& source) {
  State& s = *state_;
  const std::string text = kPrologue + source + kEpilogue;
  const std::string key = compile_key(template_text_hash(text, s.headers), options(), s.compiler.version);
  {
    const std::lock_guard lock(s.mutex);
    if (const auto found = s.known.find(key); found != s.known.end()) return found->second;
  }
  HostCompiled made = s.make(text, key);
  const std::lock_guard lock(s.mutex);
  return s.known.emplace(key, std::move(made)).first->second;
}

const std::string& HostCompiler::version() const { return state_->compiler.version; }

std::string host_compiler_version() { return find_compiler().version; }

}  // namespace phitune
