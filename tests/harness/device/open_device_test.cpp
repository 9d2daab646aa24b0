// Protects what a person without a GPU, or with a typo, is told; and that the harness's own kernels compile.
#include <gtest/gtest.h>

#include "harness/compile/compiler.hpp"
#include "harness/compile/static_gate.hpp"
#include "harness/device/device.hpp"
#include "harness/device/gpu_device.hpp"
#include "harness/device/verification.hpp"
#include "harness/error.hpp"
#include "harness/verify/utility_calls.hpp"

namespace phitune {
namespace {

Error error_of(const std::string& name) {
  try {
    static_cast<void>(open_device(name));
  } catch (const Error& error) {
    return error;
  }
  throw std::logic_error(name + " opened");
}

TEST(OpenDevice, NamesWhatItAcceptsWhenTheNameIsWrong) {
  for (const char* name : {"", "gpu", "cuda:x", "cuda:-1", "cuda:1x", "cuda:"}) {
    const Error error = error_of(name);
    EXPECT_EQ(error.code(), ExitCode::usage) << name;
    EXPECT_NE(std::string(error.what()).find("cuda:"), std::string::npos) << error.what();
  }
}

TEST(OpenDevice, SaysWhyThereIsNoDeviceAndWhatToDo) {
  const Error error = error_of("cuda:99");
  EXPECT_EQ(error.code(), ExitCode::no_device);
  if (list_devices().devices.empty()) {
    EXPECT_NE(std::string(error.what()).find("replay:FILE"), std::string::npos) << error.what();
  }
}

TEST(ListDevices, HasDevicesOrAReason) {
  const DeviceList list = list_devices();
  EXPECT_EQ(list.devices.empty(), !list.reason.empty());
}

TEST(UtilityKernels, CompileWithinTheStaticGatesBounds) {
  for (const char* architecture : {"sm_80", "sm_90a"}) {
    Compiler compiler({.architecture = architecture, .cache_directory = {}, .threads = 1});
    const Compiled compiled = compiler.compile(utility_source()).get();
    ASSERT_EQ(compiled.outcome, Outcome::ok) << compiled.reason;
    const Launch launch{.grid = {1, 1, 1}, .block = {kUtilityThreads, 1, 1}, .dynamic_shared_bytes = kUtilitySharedBytes};
    EXPECT_EQ(static_gate(compiled.binary->resources, launch, {}), std::nullopt) << architecture;
    std::printf("%s: %lld registers\n", architecture, static_cast<long long>(compiled.binary->resources.registers));
  }
}

// Stages forget what they do not depend on; the plan's shape must come back from them whole.
TEST(ShapeOf, RecoversThePlanShapeFromItsStages) {
  const Problem problem{.t = 4096, .hq = 2, .hk = 2, .d = 32, .e = 32};
  const PlanShapes shapes = plan_shapes(problem);
  ASSERT_GT(shapes.shapes.size(), 100u);
  for (const PlanShape& shape : shapes.shapes) {
    std::vector<ExecutableStage> stages;
    for (const StageProblem& stage : stages_of(problem, shape)) stages.push_back({.stage = {stage, {}}, .binary = nullptr});
    const PlanShape recovered = shape_of(stages);
    EXPECT_EQ(recovered.fusion, shape.fusion) << shape.text();
    if (shape.fusion == Fusion::quadratic) continue;
    EXPECT_EQ(recovered, shape) << shape.text() << " became " << recovered.text();
  }
}

}  // namespace
}  // namespace phitune
