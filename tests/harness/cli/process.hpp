// Runs the phitune binary as a user would: a process with arguments, streams and an exit code.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace phitune::testing_support {

/// Empty for what is no regular file: /dev/full can be read for ever.
inline std::string read_text(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return {};
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write_text(const std::filesystem::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

struct Finished {
  int code = 0;  // 128 + the signal when one ended it
  std::string out, err;
};

class Process {
 public:
  /// Starts it in `folder`, where its streams go too. `out` replaces the file that standard output goes to.
  Process(const std::vector<std::string>& arguments, const std::filesystem::path& folder, const std::string& out = "stdout")
      : out_(folder / out), err_(folder / (out + ".errors")) {
    std::vector<std::string> words = {PHITUNE_BINARY};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    id_ = fork();
    if (id_ < 0) throw std::runtime_error("cannot fork");
    if (id_ > 0) return;
    const int to = open(out_.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0644), errors = open(err_.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0644);
    if (to < 0 || errors < 0 || dup2(to, 1) < 0 || dup2(errors, 2) < 0 || chdir(folder.c_str()) != 0) _exit(126);
    execv(PHITUNE_BINARY, argv.data());
    _exit(127);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (id_ <= 0) return;
    ::kill(id_, SIGKILL);
    waitpid(id_, nullptr, 0);
  }

  [[nodiscard]] pid_t id() const { return id_; }
  void signal(int number) const { ::kill(id_, number); }

  Finished wait() {
    int status = 0;
    waitpid(id_, &status, 0);
    id_ = 0;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_text(out_), read_text(err_)};
  }

 private:
  std::filesystem::path out_, err_;
  pid_t id_ = 0;
};

inline Finished run(const std::vector<std::string>& arguments, const std::filesystem::path& folder, const std::string& out = "stdout") {
  return Process(arguments, folder, out).wait();
}

}  // namespace phitune::testing_support
