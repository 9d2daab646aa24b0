#include "harness/worker/server.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <limits>

#include "harness/error.hpp"
#include "harness/store/trial_json.hpp"
#include "harness/worker/protocol.hpp"
#include "harness/worker/wire.hpp"

namespace phitune::worker {
namespace {

constexpr double kForEver = std::numeric_limits<double>::infinity();

std::unique_ptr<Device> greet(const Wire& wire, const OpenDevice& open) {
  const Hello hello = hello_from(wire.receive(kForEver)->document);
  if (hello.version != kVersion)
    throw Error(ExitCode::failed, fmt::format("the worker speaks version {} of the protocol and was asked for version {}: the phitune "
                                              "binary was replaced while it ran; start it again",
                                              kVersion, hello.version));
  std::unique_ptr<Device> device = open(hello.device, hello.use);
  wire.send({{"device", device_json(device->info())}});
  return device;
}

Answer answer(Device& device, const Message& message) {
  Answer answer;
  if (message.document.at("ask") == "stage") {
    const RunStage request = stage_request_from(message);
    answer.results.push_back(device.run_stage(request.stage, request.policy));
  } else {
    const RunPlans request = plans_request_from(message);
    answer.results = device.run_plans(request.problem, request.plans, request.policy);
  }
  answer.last = device.damaged();
  return answer;
}

}  // namespace

void serve(int descriptor, const OpenDevice& open) {
  const Wire wire(descriptor);
  try {
    const std::unique_ptr<Device> device = greet(wire, open);
    while (true) {
      const Message message = *wire.receive(kForEver);
      const Answer said = answer(*device, message);
      wire.send(to_json(said));
      if (said.last) ::_exit(0);
    }
  } catch (const Broken&) {
    // The sweep is gone or needs this worker no more.
  } catch (const Error& error) {
    wire.send(refusal(static_cast<int>(error.code()), error.what()));
  }
}

}  // namespace phitune::worker
