#include "harness/compile/compiler.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

#include "harness/compile/cache.hpp"
#include "harness/compile/cubin.hpp"
#include "harness/compile/nvrtc.hpp"
#include "harness/compile/source_key.hpp"
#include "harness/error.hpp"

namespace phitune {
namespace {

// Results kept in memory although the disk has them, so that asking again (compile ahead, then evaluate) gives the same result without
// a second reading. Kernels are tens of kilobytes.
constexpr std::size_t kRemembered = 4096;

struct Job {
  std::string source;
  std::string key;
  std::promise<Compiled> promise;
};

/// Where a finished result can be had again. `nowhere` is for what says nothing about the source (out of memory): the next request tries
/// again. What only memory has stays there.
enum class Keep { nowhere, memory, disk };

Compiled failed(std::string key, std::string reason) {
  Compiled result;
  result.outcome = Outcome::compile_failed;
  result.reason = std::move(reason);
  result.source_hash = std::move(key);
  return result;
}

/// Throws std::invalid_argument when the cubin is not one.
Compiled from_entry(const std::string& key, CacheEntry entry) {
  if (!entry.compiled) return failed(key, std::move(entry.log));
  Binary binary;
  binary.resources = read_resources(entry.cubin);
  binary.cubin_hash = machine_code_hash(entry.cubin);
  binary.cubin = std::move(entry.cubin);
  Compiled result;
  result.binary = std::make_shared<const Binary>(std::move(binary));
  result.source_hash = key;
  result.log = std::move(entry.log);
  return result;
}

void require_known(const std::string& architecture) {
  const auto known = Compiler::architectures();
  if (std::find(known.begin(), known.end(), architecture) != known.end()) return;
  throw Error(ExitCode::bad_input, fmt::format("NVRTC {} cannot compile for architecture \"{}\". It knows: {}", Compiler::nvrtc_version(),
                                               architecture, fmt::join(known, " ")));
}

}  // namespace

struct Compiler::State {
  CompilerOptions options;
  std::vector<std::string> nvrtc_options;
  std::string nvrtc_version;
  std::optional<BinaryCache> cache;

  mutable std::mutex mutex;
  std::condition_variable work;
  std::deque<std::shared_ptr<Job>> queue;
  std::map<std::string, std::shared_future<Compiled>> known;
  std::deque<std::string> on_disk;  // of the known: finished, and to be had from the disk; oldest first
  Counters counters;
  bool stopping = false;
  int pauses = 0, busy = 0;  // who wants silence; threads that compile
  std::condition_variable silent;
  std::vector<std::jthread> threads;  // last: they use everything above

  ~State() {
    drop_queue();
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work.notify_all();
  }

  void serve();
  void run(Job& job);
  std::optional<Compiled> from_cache(const std::string& key) const;
  Compiled from_nvrtc(const Job& job, Keep& keep);
  void remember(const std::string& key, Keep keep);
  bool write_to_disk(const Job& job, const CacheEntry& entry, const CacheProvenance& provenance);
  void drop_queue();
  void overtake(const std::string& key);
};

void Compiler::State::serve() {
  for (;;) {
    std::shared_ptr<Job> job;
    {
      std::unique_lock lock(mutex);
      work.wait(lock, [&] { return stopping || (!queue.empty() && pauses == 0); });
      if (queue.empty()) return;
      job = std::move(queue.front());
      queue.pop_front();
      ++busy;
    }
    run(*job);
    const std::lock_guard lock(mutex);
    if (--busy == 0) silent.notify_all();
  }
}

void Compiler::State::run(Job& job) {
  Compiled result;
  Keep keep = Keep::disk;
  try {
    auto cached = from_cache(job.key);
    result = cached ? std::move(*cached) : from_nvrtc(job, keep);
  } catch (const std::exception& e) {
    result = failed(job.key, e.what());
    keep = Keep::nowhere;
  }
  {
    const std::lock_guard lock(mutex);
    ++(result.cache_hit ? counters.cache_hits : counters.compiled);
    counters.compile_ms += result.compile_ms;
    if (result.outcome != Outcome::ok) ++counters.failed;
    remember(job.key, keep);
  }
  job.promise.set_value(std::move(result));
}

void Compiler::State::remember(const std::string& key, Keep keep) {
  if (keep == Keep::nowhere) known.erase(key);
  if (keep == Keep::disk) on_disk.push_back(key);
  if (on_disk.size() <= kRemembered) return;
  known.erase(on_disk.front());
  on_disk.pop_front();
}

std::optional<Compiled> Compiler::State::from_cache(const std::string& key) const {
  if (!cache) return std::nullopt;
  auto entry = cache->load(key);
  if (!entry) return std::nullopt;
  try {
    Compiled result = from_entry(key, std::move(*entry));
    result.cache_hit = true;
    return result;
  } catch (const std::invalid_argument&) {
    return std::nullopt;  // hashes agree but it is no cubin: compile again and replace it
  }
}

Compiled Compiler::State::from_nvrtc(const Job& job, Keep& keep) {
  const auto headers = included_headers(job.source, embedded_headers());
  const auto start = std::chrono::steady_clock::now();
  NvrtcResult compiled = nvrtc_compile(job.source, headers, nvrtc_options);
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();

  CacheEntry entry{compiled.ok, std::move(compiled.cubin), std::move(compiled.log)};
  CacheProvenance provenance{job.source, nvrtc_options, {}, nvrtc_version, ms};
  for (const EmbeddedHeader& header : headers) provenance.headers.emplace_back(header.name);
  if (!compiled.deterministic)
    keep = Keep::nowhere;
  else
    keep = write_to_disk(job, entry, provenance) ? Keep::disk : Keep::memory;
  Compiled result = from_entry(job.key, std::move(entry));
  result.compile_ms = ms;
  return result;
}

bool Compiler::State::write_to_disk(const Job& job, const CacheEntry& entry, const CacheProvenance& provenance) {
  if (!cache) return false;
  const auto problem = cache->store(job.key, entry, provenance);
  if (!problem) return true;
  const std::lock_guard lock(mutex);
  ++counters.cache_write_failures;
  if (counters.cache_warning.empty()) counters.cache_warning = *problem;
  return false;
}

void Compiler::State::drop_queue() {
  std::deque<std::shared_ptr<Job>> dropped;
  {
    const std::lock_guard lock(mutex);
    dropped.swap(queue);
    for (const auto& job : dropped) known.erase(job->key);
  }
  for (const auto& job : dropped) job->promise.set_value(failed(job->key, "cancelled"));
}

// Moves a job to the front of the queue; nothing when it was taken already. The caller holds the mutex.
void Compiler::State::overtake(const std::string& key) {
  const auto place = std::find_if(queue.begin(), queue.end(), [&key](const std::shared_ptr<Job>& job) { return job->key == key; });
  if (place != queue.end()) std::rotate(queue.begin(), place, place + 1);
}

Compiler::Compiler(CompilerOptions options) : state_(std::make_unique<State>()) {
  State& s = *state_;
  require_known(options.architecture);
  s.options = std::move(options);
  s.nvrtc_version = nvrtc_version();
  // Without the last, NVRTC also looks for headers in the current directory, and the key would not know what it found there.
  s.nvrtc_options = {"--gpu-architecture=" + s.options.architecture, "--std=c++20", "--no-source-include"};
  if (!s.options.cache_directory.empty()) s.cache.emplace(s.options.cache_directory);
  if (s.options.threads < 0)
    throw Error(ExitCode::bad_input, fmt::format("{} compile threads: give 1 or more, or 0 for one per core", s.options.threads));
  const auto count = s.options.threads > 0 ? static_cast<unsigned>(s.options.threads) : std::max(1U, std::thread::hardware_concurrency());
  s.options.threads = static_cast<int>(count);
  for (unsigned i = 0; i < count; ++i) s.threads.emplace_back([&s] { s.serve(); });
}

Compiler::~Compiler() = default;

std::shared_future<Compiled> Compiler::compile(std::string source, Turn turn) {
  State& s = *state_;
  auto job = std::make_shared<Job>();
  job->key = key(source);
  job->source = std::move(source);
  {
    const std::lock_guard lock(s.mutex);
    if (const auto found = s.known.find(job->key); found != s.known.end()) {
      if (turn == Turn::next) s.overtake(job->key);
      return found->second;
    }
    auto future = job->promise.get_future().share();
    s.known.emplace(job->key, future);
    s.queue.insert(turn == Turn::next ? s.queue.begin() : s.queue.end(), std::move(job));
    s.work.notify_one();
    return future;
  }
}

std::string Compiler::key(const std::string& source) const {
  return compile_key(template_text_hash(source), state_->nvrtc_options, state_->nvrtc_version);
}

Compiler::Counters Compiler::counters() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counters;
}

void Compiler::cancel() { state_->drop_queue(); }

Compiler::Pause::Pause(Compiler& compiler) : compiler_(compiler) {
  State& s = *compiler_.state_;
  std::unique_lock lock(s.mutex);
  ++s.pauses;
  s.silent.wait(lock, [&s] { return s.busy == 0; });
}

Compiler::Pause::~Pause() {
  State& s = *compiler_.state_;
  {
    const std::lock_guard lock(s.mutex);
    --s.pauses;
  }
  s.work.notify_all();
}

const CompilerOptions& Compiler::options() const { return state_->options; }

std::string Compiler::nvrtc_version() { return nvrtc_version_text(); }

std::vector<std::string> Compiler::architectures() { return nvrtc_architectures(); }

}  // namespace phitune
