// A worker process as its parent sees it: started, talked to, ended. Internal.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "harness/worker/wire.hpp"

namespace phitune::worker {

/// Not thread-safe. Ended (SIGKILL) and waited for with the object. The process must be started from a thread that lives as long as it:
/// it dies with that thread.
class WorkerProcess {
 public:
  /// Starts `program` with `arguments`; its end of the connection is kDescriptor, its standard output and error are kept for last_words().
  /// Throws Error when it cannot be started.
  WorkerProcess(const std::filesystem::path& program, const std::vector<std::string>& arguments);
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  [[nodiscard]] const Wire& wire() const { return wire_; }
  [[nodiscard]] pid_t id() const { return id_; }

  /// How the process ended, once its connection is closed, in words: "signal 11 (Segmentation fault)", "exit status 1"; with what it
  /// last said. Ends it when it has not ended by itself within a second.
  [[nodiscard]] std::string post_mortem();

  [[nodiscard]] bool alive() { return !reap(0); }
  /// Whether SIGKILL from somewhere else ended it.
  [[nodiscard]] bool was_killed() const;

  /// Kills it and waits. False when it has not died after `patience_ms` (a driver call that cannot be interrupted holds it).
  bool end(double patience_ms = 30000);

 private:
  WorkerProcess(const std::filesystem::path& program, const std::vector<std::string>& arguments, std::pair<Wire, Wire> ends);
  bool reap(double patience_ms);
  [[nodiscard]] std::string last_words() const;

  Wire wire_;
  int said_ = -1;  // a file in memory with its standard output and error
  pid_t id_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

}  // namespace phitune::worker
