#include "harness/device/isolated.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>

#include "harness/error.hpp"

namespace phitune {
namespace {

// What a child tells its parent: one of these, then text.
constexpr char kReturned = 'r', kFailed = 'f';

// Of the child; a signal handler has no other way to know them.
int told_through = -1;
const std::function<std::string(const void*)>* describe = nullptr;

[[noreturn]] void tell(char kind, const std::string& text) {
  const std::string message = kind + text;
  for (std::size_t written = 0; written < message.size();) {
    const ssize_t n = ::write(told_through, message.data() + written, message.size() - written);
    if (n < 0 && errno != EINTR) break;
    if (n > 0) written += static_cast<std::size_t>(n);
  }
  // Neither destructors nor exit handlers: they belong to the parent.
  ::_exit(0);
}

#if !defined(__SANITIZE_ADDRESS__)  // the sanitizer describes faults better
void on_fault(int, siginfo_t* info, void*) { tell(kFailed, (*describe)(info->si_addr)); }

void catch_faults() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  // A second fault, in the description, ends the process by its signal.
  action.sa_flags = static_cast<int>(SA_SIGINFO | SA_RESETHAND);
  for (const int signal : {SIGSEGV, SIGBUS}) ::sigaction(signal, &action, nullptr);
}
#else
void catch_faults() {}
#endif

[[noreturn]] void be_child(pid_t parent, const std::function<double()>& work) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  // Ctrl-C reaches both; the parent decides what becomes of the trial in flight.
  std::signal(SIGINT, SIG_IGN);
  catch_faults();
  try {
    const double value = work();
    tell(kReturned, fmt::format("{:.17g}", value));
  } catch (const std::exception& error) {
    tell(kFailed, error.what());
  }
}

/// Reads to the end, or until `timeout_ms` have passed: then false.
bool read_until(int descriptor, double timeout_ms, std::string& text) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration<double, std::milli>(timeout_ms);
  std::array<char, 4096> part;
  while (true) {
    const double left = std::chrono::duration<double, std::milli>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd waiting{descriptor, POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(std::min(left + 1, 1e9))) <= 0) continue;
    const ssize_t n = ::read(descriptor, part.data(), part.size());
    if (n == 0) return true;
    if (n > 0) text.append(part.data(), static_cast<std::size_t>(n));
  }
}

std::string ending(int status) {
  if (WIFSIGNALED(status))
    return fmt::format("the process that ran it ended by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  return fmt::format("the process that ran it ended with status {}; what it said is on standard error", WEXITSTATUS(status));
}

}  // namespace

IsolatedResult run_isolated(const std::function<double()>& work, const std::function<std::string(const void*)>& describe_fault,
                            double timeout_ms) {
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw Error(ExitCode::failed, fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    told_through = ends[1];
    describe = &describe_fault;
    be_child(parent, work);
  }
  const int failed = errno;
  ::close(ends[1]);
  if (child < 0) {
    ::close(ends[0]);
    throw Error(ExitCode::failed, fmt::format("cannot make a process to run a kernel in: {}", std::strerror(failed)));
  }
  std::string told;
  const bool ended = read_until(ends[0], timeout_ms, told);
  ::close(ends[0]);
  if (!ended) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended) return {Outcome::timed_out, fmt::format("did not end within {:.0f} s of emulation", timeout_ms / 1000), 0};
  if (told.starts_with(kReturned)) return {Outcome::ok, {}, std::stod(told.substr(1))};
  return {Outcome::launch_failed, told.starts_with(kFailed) ? told.substr(1) : ending(status), 0};
}

}  // namespace phitune
