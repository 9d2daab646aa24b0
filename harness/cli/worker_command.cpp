// phitune worker: the process that owns a device for another phitune. Not for people, so --help does not list it.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>

#include "harness/cli/command.hpp"
#include "harness/error.hpp"
#include "harness/worker/protocol.hpp"
#include "harness/worker/server.hpp"

namespace phitune::cli {
namespace {

int serve() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Ctrl-C reaches both; the parent decides what becomes of the trial in flight.
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_DFL);
  worker::serve(worker::kDescriptor, [](const std::string& name, Use use) { return open_device(name, use); });
  return static_cast<int>(ExitCode::ok);
}

}  // namespace

void add_worker(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("worker", "owns a device for the phitune that started it");
  command->group("");
  command->callback([&action] { action = [] { return serve(); }; });
}

}  // namespace phitune::cli
