#include "harness/worker/worker_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "harness/error.hpp"
#include "harness/worker/protocol.hpp"

extern char** environ;

namespace phitune::worker {
namespace {

constexpr off_t kLastWords = 400;  // bytes

[[noreturn]] void cannot_start(const std::filesystem::path& program, int code) {
  throw Error(ExitCode::failed, fmt::format("cannot start a worker process ({}): {}", program.string(), std::strerror(code)));
}

}  // namespace

WorkerProcess::WorkerProcess(const std::filesystem::path& program, const std::vector<std::string>& arguments)
    : WorkerProcess(program, arguments, Wire::pair()) {}

WorkerProcess::WorkerProcess(const std::filesystem::path& program, const std::vector<std::string>& arguments, std::pair<Wire, Wire> ends)
    : wire_(std::move(ends.first)), said_(::memfd_create("phitune-worker", MFD_CLOEXEC)) {
  if (said_ < 0) cannot_start(program, errno);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, said_, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, said_, STDERR_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends.second.descriptor(), kDescriptor);
  std::vector<std::string> words = {program.string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int failed = ::posix_spawn(&id_, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed == 0) return;
  ::close(said_);
  cannot_start(program, failed);
}

WorkerProcess::~WorkerProcess() {
  end();
  ::close(said_);
}

bool WorkerProcess::reap(double patience_ms) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::duration<double, std::milli>(patience_ms);
  while (!ended_) {
    const pid_t got = ::waitpid(id_, &status_, WNOHANG);
    ended_ = got == id_ || (got < 0 && errno == ECHILD);
    if (ended_ || std::chrono::steady_clock::now() >= give_up) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return ended_;
}

bool WorkerProcess::end(double patience_ms) {
  if (ended_) return true;
  ::kill(id_, SIGKILL);
  return reap(patience_ms);
}

bool WorkerProcess::was_killed() const { return ended_ && WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL; }

std::string WorkerProcess::post_mortem() {
  if (!reap(1000) && !end()) return "its process could not be ended: a call of the driver holds it";
  std::string how;
  if (WIFSIGNALED(status_)) {
    const int signal = WTERMSIG(status_);
    how = fmt::format("its process ended by signal {} ({}{})", signal, ::strsignal(signal),
                      signal == SIGKILL ? ": by a person, or by the kernel for lack of memory" : "");
  } else {
    how = fmt::format("its process ended with exit status {}", WEXITSTATUS(status_));
  }
  const std::string words = last_words();
  return words.empty() ? how : how + "; its last words: " + words;
}

std::string WorkerProcess::last_words() const {
  struct stat about {};
  if (::fstat(said_, &about) != 0) return {};
  std::string words(static_cast<std::size_t>(std::min(about.st_size, kLastWords)), ' ');
  const ssize_t n = ::pread(said_, words.data(), words.size(), std::max<off_t>(0, about.st_size - kLastWords));
  words.resize(static_cast<std::size_t>(std::max<ssize_t>(0, n)));
  // They end up in the database, in JSON and in reports: plain text on one line.
  for (char& c : words)
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = ' ';
  while (words.ends_with(' ')) words.pop_back();
  return words;
}

}  // namespace phitune::worker
